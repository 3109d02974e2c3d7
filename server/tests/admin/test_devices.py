"""`/devices`: registering, changing and deleting; what machines teach the server."""

import uuid
from typing import Any

import pytest
from securecloud_server.domain import requests as life
from securecloud_server.domain.records import HeaderCopy
from securecloud_server.domain.volume_states import CLOSED, IN_USE

from server.tests.admin.api import ISCSI, REASON, VOLUME, Caller, fields

BODY = {"agent": "web1", "volume": VOLUME}
START = "2027-01-15T08:00:00Z"


@pytest.fixture(autouse=True)
def _enrolled(machine: Any) -> None:
    """Every test here has the machine web1."""


def test_a_device_is_registered_with_a_key_of_its_own(server: Any, admin: Caller) -> None:
    answer = admin.call("PUT", "/devices/data", BODY)
    assert answer.status_code == 201
    assert answer.json == {
        "name": "data",
        "agent": "web1",
        "group": None,
        "policy": None,
        "effective_policy": "default",
        "enabled": True,
        "volume": VOLUME,
        "key": {"state": "pre_active", "version": 1},
        "luks_uuid": None,
        "quarantined": False,
        "first_seen_at": None,
        "last_release_at": None,
        "volume_state": None,
        "volume_state_at": None,
        "header": None,
        "created_at": START,
        "updated_at": START,
    }
    assert admin.get("/devices/data") == answer.json
    key, device = server.key("data"), server.read(lambda tx: tx.devices.get("data"))
    secret = server.application.keystores.active.fetch(key.reference, device.device_id, 1)
    assert len(secret) == 64
    assert admin.items("/audit-events?action=device.created")[0]["object"] == "device:data"


def test_what_is_left_out_of_a_volume_gets_its_default(admin: Caller) -> None:
    device = admin.put("/devices/data", {"agent": "web1", "volume": {"source": "/dev/vdb"}})
    assert device["volume"] == {
        "source": "/dev/vdb",
        "iscsi": None,
        "filesystem": "ext4",
        "mount_point": None,
        "options": ["defaults"],
        "read_only": False,
        "initialise": "never",
    }


def test_a_device_is_changed_and_the_log_says_how(admin: Caller, clock: Any) -> None:
    admin.put("/policies/web", {})
    admin.put("/devices/data", BODY)
    clock.forward(60)
    answer = admin.call("PUT", "/devices/data", {**BODY, "policy": "web", "enabled": False})
    assert answer.status_code == 200
    device = answer.json
    assert (device["policy"], device["effective_policy"], device["enabled"]) == (
        "web",
        "web",
        False,
    )
    assert (device["created_at"], device["updated_at"]) == (START, "2027-01-15T08:01:00Z")
    event = admin.items("/audit-events?action=device.updated")[0]
    assert event["details"] == {
        "policy": {"before": None, "after": "web"},
        "enabled": {"before": True, "after": False},
    }


def test_what_was_read_can_be_put_again_and_changes_nothing(admin: Caller) -> None:
    first = admin.call("PUT", "/devices/data", BODY)
    before = admin.actions()
    body = {name: first.json[name] for name in ("agent", "group", "policy", "enabled", "volume")}
    again = admin.call("PUT", "/devices/data", body)
    assert again.status_code == 200
    assert again.json == first.json
    assert again.headers["ETag"] == first.headers["ETag"]
    assert admin.actions() == before


def test_the_policy_in_effect_is_the_device_s_the_group_s_or_the_default(admin: Caller) -> None:
    for name in ("strict", "lax"):
        admin.put(f"/policies/{name}", {})
    admin.put("/device-groups/shop", {"policy": "lax"})

    def effective(**body: Any) -> str:
        admin.put("/devices/data", {**BODY, **body})
        return admin.get("/devices/data")["effective_policy"]

    assert effective() == "default"
    assert effective(group="shop") == "lax"
    assert effective(group="shop", policy="strict") == "strict"


def test_devices_are_filtered(server: Any, admin: Caller) -> None:
    server.machine("db1")
    admin.put("/policies/web", {})
    admin.put("/device-groups/shop", {})
    for name, body in {
        "a": {"agent": "web1", "group": "shop"},
        "b": {"agent": "web1", "policy": "web"},
        "c": {"agent": "db1", "group": "shop"},
    }.items():
        admin.put(f"/devices/{name}", {**body, "volume": {"source": f"/dev/{name}"}})

    def names(query: str) -> list[str]:
        return [device["name"] for device in admin.get(f"/devices{query}")["items"]]

    assert names("") == ["a", "b", "c"]
    assert names("?agent=web1") == ["a", "b"]
    assert names("?group=shop") == ["a", "c"]
    assert names("?policy=web") == ["b"]
    assert names("?agent=web1&group=shop") == ["a"]
    assert names("?agent=") == []


def test_references_must_exist_and_all_are_named_at_once(admin: Caller) -> None:
    body = {"agent": "none", "group": "none", "policy": "none", "volume": VOLUME}
    document = admin.refused("invalid_request", "PUT", "/devices/data", body)
    assert sorted(fields(document)) == ["agent", "group", "policy"]
    admin.refused("not_found", "GET", "/devices/data")


def test_a_retired_agent_gets_no_device(admin: Caller) -> None:
    admin.delete("/agents/web1")
    assert fields(admin.refused("invalid_request", "PUT", "/devices/data", BODY)) == ["agent"]


def test_two_devices_of_an_agent_share_no_source_and_no_mount_point(
    server: Any, admin: Caller
) -> None:
    server.machine("db1")
    admin.put("/devices/data", BODY)
    document = admin.refused("invalid_request", "PUT", "/devices/more", BODY)
    assert fields(document) == ["volume.source", "volume.mount_point"]
    admin.put("/devices/more", {**BODY, "agent": "db1"})


def remote(**iscsi: Any) -> dict[str, Any]:
    return {"agent": "web1", "volume": {"iscsi": {**ISCSI, **iscsi}}}


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("10.0.0.5", "10.0.0.5:3260"),
        ("10.0.0.5:860", "10.0.0.5:860"),
        ("[2001:db8::5]", "[2001:db8::5]:3260"),
        ("[2001:db8::5]:65535", "[2001:db8::5]:65535"),
    ],
)
def test_the_port_of_an_iscsi_portal_is_written_out(admin: Caller, said: str, stored: str) -> None:
    volume = admin.put("/devices/data", remote(portal=said))["volume"]
    assert volume["source"] is None
    assert volume["iscsi"] == {**ISCSI, "portal": stored}
    before = admin.actions()
    admin.put("/devices/data", remote(portal=said))
    assert admin.actions() == before


@pytest.mark.parametrize(
    "target", ["iqn.2001-04.com.example:A.b-C:1", "iqn.2001-04.x", "eui.02004567A425678D",
               "naa.52004567ba64678d", "naa.62004567BA64678D0123456789ABCDEF"]
)  # fmt: skip
def test_every_kind_of_iscsi_name(admin: Caller, target: str) -> None:
    assert admin.put("/devices/data", remote(target=target))["volume"]["iscsi"]["target"] == target


def test_two_devices_of_an_agent_share_no_iscsi_disk(admin: Caller) -> None:
    admin.put("/devices/data", remote())
    document = admin.refused("invalid_request", "PUT", "/devices/more", remote(portal="10.0.0.5"))
    assert fields(document) == ["volume.iscsi"]
    path = "/dev/disk/by-path/ip-10.0.0.5:3260-iscsi-iqn.2026-01.org.example:db-lun-1"
    body = {"agent": "web1", "volume": {"source": path}}
    assert fields(admin.refused("invalid_request", "PUT", "/devices/more", body)) == [
        "volume.source"
    ]
    admin.put("/devices/more", remote(lun=2))


def test_a_device_moves_to_iscsi_and_the_log_says_how(admin: Caller) -> None:
    before = admin.put("/devices/data", BODY)["volume"]
    after = admin.put("/devices/data", {**BODY, **remote()})["volume"]
    event = admin.items("/audit-events?action=device.updated")[0]
    assert event["details"] == {"volume": {"before": before, "after": after}}


def test_what_an_earlier_version_stored_is_put_again_and_changes_nothing(
    server: Any, admin: Caller
) -> None:
    admin.put("/devices/data", BODY)
    stored = {key: value for key, value in VOLUME.items() if key != "iscsi"}
    server.change_device("data", volume=stored)
    there, before = admin.call("GET", "/devices/data"), admin.actions()
    assert there.json["volume"] == VOLUME
    again = admin.call("PUT", "/devices/data", BODY)
    assert again.headers["ETag"] == there.headers["ETag"]
    assert admin.actions() == before


def test_a_device_does_not_move_to_another_agent(server: Any, admin: Caller) -> None:
    server.machine("db1")
    admin.put("/devices/data", BODY)
    admin.refused("conflict", "PUT", "/devices/data", {**BODY, "agent": "db1"})
    assert admin.get("/devices/data")["agent"] == "web1"


def test_deleting_a_device_deletes_its_key(server: Any, admin: Caller) -> None:
    admin.put("/devices/data", BODY)
    device_id = server.read(lambda tx: tx.devices.get("data")).device_id
    admin.delete("/devices/data")
    for path in ("/devices/data", "/keys/data"):
        admin.refused("not_found", "GET", path)
    admin.refused("not_found", "DELETE", "/devices/data")
    assert server.read(lambda tx: tx.keys.lives([device_id])) == {}
    again = admin.put("/devices/data", BODY)
    assert again["key"] == {"state": "pre_active", "version": 1}
    assert server.read(lambda tx: tx.devices.get("data")).device_id != device_id


def test_deleting_a_device_closes_its_open_request(machine: Any, admin: Caller) -> None:
    admin.put("/devices/data", BODY)
    machine.ask("data")
    request = admin.items("/key-requests?state=pending")[0]
    admin.delete("/devices/data")
    closed = admin.get(f"/key-requests/{request['id']}")
    assert (closed["state"], closed["reason"]) == (life.REVOKED, "the device was deleted")
    admin.refused("conflict", "POST", f"/key-requests/{request['id']}:approve", REASON)
    assert admin.actions()[-2:] == ["key_request.revoked", "device.deleted"]


@pytest.mark.parametrize("state", sorted(IN_USE))
def test_a_device_in_use_is_only_deleted_with_force(server: Any, admin: Caller, state: str) -> None:
    admin.put("/devices/data", BODY)
    server.change_state("data", volume_state=state, volume_state_at=1)
    refused = admin.refused("conflict", "DELETE", "/devices/data")
    for word in ("'data' is in use", "agent 'web1'", "Revoke the key", "force=true"):
        assert word in refused["detail"]
    assert admin.get("/devices/data")["volume_state"] == state
    assert server.key("data").state == "pre_active"
    admin.delete("/devices/data?force=true")
    admin.refused("not_found", "GET", "/devices/data")
    event = admin.items("/audit-events?action=device.deleted")[0]
    assert (event["details"]["volume_state"], event["details"]["force"]) == (state, True)


def test_a_device_that_its_machine_has_closed_is_deleted(server: Any, admin: Caller) -> None:
    admin.put("/devices/data", BODY)
    server.change_state("data", volume_state=CLOSED, volume_state_at=1)
    admin.delete("/devices/data")


def test_force_is_true_or_false(admin: Caller) -> None:
    admin.put("/devices/data", BODY)
    refused = admin.refused("invalid_request", "DELETE", "/devices/data?force=perhaps")
    assert refused["errors"][0]["field"] == "force"
    admin.get("/devices/data")


def test_what_a_machine_teaches_is_shown_and_does_not_get_in_the_way_of_edits(
    server: Any, machine: Any, admin: Caller, clock: Any
) -> None:
    admin.put("/policies/open", {"rules": [_rule()], "on_match": {"action": "approve"}})
    body = {**BODY, "policy": "open"}
    tag = admin.call("PUT", "/devices/data", body).headers["ETag"]
    clock.forward(30)
    volume = str(uuid.uuid4())
    dialogue = machine.begin("data")
    dialogue.challenge()
    dialogue.release()
    dialogue.ack(luks_uuid=volume)
    answer = admin.having(if_none_match=tag).call("GET", "/devices/data")
    assert answer.status_code == 200, "the tag does not cover what machines teach"
    device = answer.json
    assert device["luks_uuid"] == volume
    assert device["key"] == {"state": "active", "version": 1}
    assert device["first_seen_at"] == device["last_release_at"] == "2027-01-15T08:00:30Z"
    assert (device["volume_state"], device["volume_state_at"]) == ("open", "2027-01-15T08:00:30Z")
    assert answer.headers["ETag"] == tag
    admin.having(if_match=tag).put("/devices/data", {**body, "enabled": False})


def test_quarantine_is_cleared_once_with_a_reason(server: Any, admin: Caller) -> None:
    created = admin.call("PUT", "/devices/data", BODY)
    path = "/devices/data:clear-quarantine"
    admin.refused("conflict", "POST", path, REASON)
    server.change_state("data", quarantined=True, lineage=b"x" * 16)
    assert admin.get("/devices/data")["quarantined"] is True
    answer = admin.call("POST", path, REASON)
    assert answer.json == created.json
    assert answer.headers["ETag"] == created.headers["ETag"]
    assert server.state("data").lineage is None
    event = admin.items("/audit-events?action=device.quarantine_cleared")[0]
    assert (event["object"], event["reason"]) == ("device:data", REASON["reason"])
    admin.refused("conflict", "POST", path, REASON)
    admin.refused("not_found", "POST", "/devices/none:clear-quarantine", REASON)


def test_a_refused_header_is_accepted_by_its_digest_with_a_reason(
    server: Any, admin: Caller
) -> None:
    path, old, new = "/devices/data:accept-header", b"\x01" * 32, b"\x02" * 32
    created = admin.call("PUT", "/devices/data", BODY)
    body = {**REASON, "digest": new.hex()}
    assert "was refused" in admin.refused("conflict", "POST", path, body)["detail"]
    server.change_state(
        "data", header=old, volume_key=old, header_refused=new, volume_key_refused=None
    )
    shown = {"digest": old.hex(), "changing": False, "refused": new.hex(), "copy_of": None}
    shown["acceptable"] = False
    assert admin.get("/devices/data")["header"] == shown
    other = admin.refused("conflict", "POST", path, {**REASON, "digest": old.hex()})
    assert new.hex() in other["detail"]
    assert "is damaged" in admin.refused("conflict", "POST", path, body)["detail"]
    assert server.state("data").header == old
    server.change_state("data", volume_key_refused=new)
    assert admin.get("/devices/data")["header"]["acceptable"] is True
    answer = admin.call("POST", path, body)
    assert answer.json["header"] == {**shown, "digest": new.hex(), "refused": None}
    assert answer.headers["ETag"] == created.headers["ETag"]
    state = server.state("data")
    assert (state.header, state.volume_key, state.volume_key_refused) == (new, new, None)
    event = admin.items("/audit-events?action=device.header_accepted")[0]
    assert (event["object"], event["reason"]) == ("device:data", REASON["reason"])
    assert event["details"] == {"header": new.hex(), "before": old.hex()}
    admin.refused("conflict", "POST", path, body)
    admin.refused("not_found", "POST", "/devices/none:accept-header", body)


def test_the_copy_of_a_header_is_given_out_as_cryptsetup_takes_it(
    server: Any, admin: Caller
) -> None:
    admin.put("/devices/data", BODY)
    admin.refused("not_found", "GET", "/devices/data/header")
    admin.refused("not_found", "GET", "/devices/none/header")
    digest, header = b"\x01" * 32, b"LUKS\xba\xbe\x00\xff"
    copy = HeaderCopy(server.key("data").device_id, digest, header, 1)
    server.database.write(lambda tx: tx.header_copies.put(copy))
    server.change_state("data", header=digest, volume_key=digest, header_kept=digest)
    assert admin.get("/devices/data")["header"]["copy_of"] == digest.hex()
    answer = admin.call("GET", "/devices/data/header")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.data == header.ljust(16 * 1024 * 1024, b"\0")
    event = admin.items("/audit-events?action=device.header_read")[0]
    assert (event["object"], event["details"]) == ("device:data", {"header": digest.hex()})


@pytest.mark.parametrize("change", [{"header": b"\x03" * 32}, {"header_changing": True}])
def test_a_copy_of_a_header_from_before_is_given_out_only_on_request(
    server: Any, admin: Caller, change: dict[str, Any]
) -> None:
    """It may open with a key that is released no more."""
    admin.put("/devices/data", BODY)
    digest = b"\x01" * 32
    copy = HeaderCopy(server.key("data").device_id, digest, b"LUKS", 1)
    server.database.write(lambda tx: tx.header_copies.put(copy))
    state = {"header": digest, "volume_key": digest, "header_kept": digest, **change}
    server.change_state("data", **state)
    admin.refused("conflict", "GET", "/devices/data/header")
    assert admin.call("GET", "/devices/data/header?stale=true").data.startswith(b"LUKS")


def _rule() -> dict[str, Any]:
    return {"fact": "host_name", "operator": "equals", "value": "web1"}
