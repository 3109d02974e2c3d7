"""`/keys/<device>`: the life of a key, in KMIP's words; no path ever shows one."""

from typing import Any

import pytest
from securecloud_server.domain import requests as life

from server.tests.admin.api import REASON, VOLUME, Caller

START = "2027-01-15T08:00:00Z"
LATER = "2027-01-15T08:01:00Z"


@pytest.fixture
def device(machine: Any, admin: Caller) -> str:
    admin.put("/policies/open", {"rules": [_rule()], "on_match": {"action": "approve"}})
    admin.put("/devices/data", {"agent": "web1", "volume": VOLUME, "policy": "open"})
    return "data"


def step(admin: Caller, name: str) -> Any:
    return admin.post(f"/keys/data:{name}", REASON)


def test_a_fresh_key_waits_for_its_first_use(device: str, admin: Caller) -> None:
    answer = admin.call("GET", "/keys/data")
    assert answer.json == {
        "device": "data",
        "version": 1,
        "state": "pre_active",
        "created_at": START,
        "activated_at": None,
        "deactivated_at": None,
        "destroyed_at": None,
        "successor": None,
    }
    tag = answer.headers["ETag"]
    assert admin.having(if_none_match=tag).call("GET", "/keys/data").status_code == 304
    step(admin, "revoke")
    assert admin.having(if_none_match=tag).call("GET", "/keys/data").status_code == 200


def test_a_key_is_revoked_restored_and_destroyed(device: str, admin: Caller, clock: Any) -> None:
    clock.forward(60)
    revoked = step(admin, "revoke")
    assert (revoked["state"], revoked["deactivated_at"]) == ("deactivated", LATER)
    restored = step(admin, "restore")
    assert (restored["state"], restored["deactivated_at"]) == ("active", None)
    assert restored["activated_at"] == LATER
    step(admin, "revoke")
    destroyed = step(admin, "destroy")
    assert (destroyed["state"], destroyed["destroyed_at"]) == ("destroyed", LATER)
    assert admin.get("/keys/data") == destroyed
    assert admin.get("/devices/data")["key"] == {"state": "destroyed", "version": 1}
    events = [e for e in admin.items("/audit-events") if e["action"].startswith("key.")]
    assert [event["action"] for event in events] == [
        "key.revoked",
        "key.restored",
        "key.revoked",
        "key.destroyed",
    ]
    assert {event["reason"] for event in events} == {REASON["reason"]}
    assert {event["object"] for event in events} == {"device:data"}


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ([], ["restore", "destroy"]),
        (["revoke"], ["revoke"]),
        (["revoke", "restore"], ["restore", "destroy"]),
        (["revoke", "destroy"], ["revoke", "restore", "destroy"]),
    ],
)
def test_a_step_from_the_wrong_state_changes_nothing(
    device: str, admin: Caller, before: list[str], wrong: list[str]
) -> None:
    for name in before:
        step(admin, name)
    key, events = admin.get("/keys/data"), admin.actions()
    for name in wrong:
        document = admin.refused("conflict", "POST", f"/keys/data:{name}", REASON)
        assert key["state"] in document["detail"]
    assert admin.get("/keys/data") == key
    assert admin.actions() == events


def test_a_destroyed_key_leaves_nothing_behind(server: Any, device: str, admin: Caller) -> None:
    reference = server.key("data").reference
    step(admin, "revoke")
    assert server.key("data").reference == reference
    step(admin, "destroy")
    assert server.key("data").reference == b""


def test_revoking_takes_the_key_from_the_machine(
    server: Any, machine: Any, device: str, admin: Caller
) -> None:
    assert machine.unlock("data").decisions[0].outcome == "granted"
    step(admin, "revoke")
    request = admin.items("/key-requests?device=data")[0]
    assert (request["state"], request["reason"]) == (life.REVOKED, REASON["reason"])
    assert machine.ask("data").decisions[0].outcome == "denied"
    assert "key_request.revoked" in admin.actions()
    step(admin, "restore")
    assert machine.unlock("data").decisions[0].outcome == "granted"


@pytest.mark.parametrize("state", [life.PENDING, life.APPROVED])
def test_revoking_closes_the_open_request(
    machine: Any, device: str, admin: Caller, state: str
) -> None:
    if state == life.PENDING:
        admin.put("/policies/open", {})
    machine.ask("data")
    request = admin.items(f"/key-requests?state={state}")[0]
    step(admin, "revoke")
    closed = admin.get(f"/key-requests/{request['id']}")
    assert closed["state"] == life.REVOKED
    assert closed["decided_by"] == "token:account_administrator"
    admin.refused("conflict", "POST", f"/key-requests/{request['id']}:approve", REASON)


def test_a_denied_request_stays_denied_when_the_key_is_revoked(
    machine: Any, device: str, admin: Caller
) -> None:
    admin.put("/policies/open", {})
    machine.ask("data")
    request = admin.items("/key-requests")[0]["id"]
    admin.post(f"/key-requests/{request}:deny", REASON)
    step(admin, "revoke")
    assert admin.get(f"/key-requests/{request}")["state"] == life.DENIED


def test_a_rotation_makes_a_successor_and_asks_its_machine(
    server: Any, machine: Any, device: str, admin: Caller, clock: Any
) -> None:
    document = admin.refused("conflict", "POST", "/keys/data:rotate", REASON)
    assert "was never released" in document["detail"]
    machine.unlock("data")
    asked = server.read(lambda tx: tx.checks.of([machine.agent_id]))
    clock.forward(60)
    begun = step(admin, "rotate")
    assert (begun["version"], begun["state"]) == (1, "active")
    assert begun["successor"] == {"version": 2, "created_at": LATER}
    assert server.read(lambda tx: tx.checks.of([machine.agent_id])) != asked
    (event,) = [e for e in admin.items("/audit-events") if e["action"] == "key.rotation_begun"]
    assert event["details"] == {"key_version": 1, "successor": 2}
    document = admin.refused("conflict", "POST", "/keys/data:rotate", REASON)
    assert "being replaced already, by version 2" in document["detail"]
    assert admin.get("/devices/data")["key"] == {"state": "active", "version": 1}


def test_a_rotation_that_is_given_up_leaves_no_successor(
    server: Any, machine: Any, device: str, admin: Caller
) -> None:
    document = admin.refused("conflict", "POST", "/keys/data:cancel-rotation", REASON)
    assert "is not being replaced" in document["detail"]
    machine.unlock("data")
    step(admin, "rotate")
    assert step(admin, "cancel-rotation")["successor"] is None
    versions = server.read(lambda tx: tx.keys.versions([server.key("data").device_id]))
    assert [(key.version, key.state) for key in versions] == [(1, "active"), (2, "destroyed")]
    assert versions[1].reference == b""
    assert step(admin, "rotate")["successor"]["version"] == 3, "a version is never used twice"


def test_a_read_only_device_cannot_be_rotated(machine: Any, device: str, admin: Caller) -> None:
    machine.unlock("data")
    volume = {**VOLUME, "read_only": True, "initialise": "never"}
    admin.put("/devices/data", {"agent": "web1", "volume": volume, "policy": "open"})
    document = admin.refused("conflict", "POST", "/keys/data:rotate", REASON)
    assert "is read-only" in document["detail"]


def test_what_ends_a_key_ends_its_successor(
    server: Any, machine: Any, device: str, admin: Caller
) -> None:
    machine.unlock("data")
    step(admin, "rotate")
    device_id = server.key("data").device_id
    assert step(admin, "revoke")["successor"]["version"] == 2
    assert step(admin, "restore")["successor"]["version"] == 2
    step(admin, "revoke")
    assert step(admin, "destroy")["successor"] is None
    versions = server.read(lambda tx: tx.keys.versions([device_id]))
    assert [(key.state, key.reference) for key in versions] == [("destroyed", b"")] * 2
    assert admin.get("/keys/data")["version"] == 1


def test_there_is_no_key_without_a_device(admin: Caller) -> None:
    admin.refused("not_found", "GET", "/keys/none")
    for name in ("revoke", "restore", "destroy", "rotate", "cancel-rotation"):
        admin.refused("not_found", "POST", f"/keys/none:{name}", REASON)


def _rule() -> dict[str, Any]:
    return {"fact": "host_name", "operator": "equals", "value": "web1"}
