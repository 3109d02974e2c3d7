"""How an exchange can end for a device."""

import uuid
from dataclasses import replace
from typing import Any

import pytest
from securecloud_protocol import messages as wire
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_server.domain import requests as life
from securecloud_server.domain.errors import Unavailable

MANUAL = {"rules": [], "on_match": {"action": "manual"}}


def refusal(code: ErrorCode) -> Any:
    return pytest.raises(ProtocolError, match=f"^{code.value}:")


def test_a_machine_that_the_policy_approves_gets_its_key(server: Any, machine: Any) -> None:
    body = machine.unlock()
    decision = body.decisions[0]
    device = server.read(lambda tx: tx.devices.get("web1-data"))
    key = server.key("web1-data")
    expected = server.application.keystores.active.fetch(key.reference, device.device_id, 1)
    assert (decision.outcome, decision.code) == ("granted", "approved")
    assert decision.key == expected
    assert decision.key_version == 1
    assert decision.volume.source == "/dev/disk/by-id/virtio-data"
    assert decision.volume.initialise == "if_blank"


@pytest.mark.parametrize(
    ("portal", "where"),
    [("10.0.0.5:3260", "10.0.0.5:3260"), ("[2001:db8::5]:3260", "2001:db8::5:3260")],
)
def test_a_machine_learns_where_its_iscsi_disk_is(
    server: Any, machine: Any, portal: str, where: str
) -> None:
    target = "iqn.2026-01.org.example:db"
    iscsi = {"portal": portal, "target": target, "lun": 1}
    server.change_device("web1-data", volume={"source": None, "iscsi": iscsi})
    volume = machine.unlock().decisions[0].volume
    assert volume.iscsi == wire.IscsiTarget(portal, target, 1)
    # udev writes no brackets around an IPv6 address: systemd's builtin path_id.
    assert volume.source == f"/dev/disk/by-path/ip-{where}-iscsi-{target}-lun-1"


def test_the_ack_delivers_the_request_and_activates_the_key(server: Any, machine: Any) -> None:
    volume = str(uuid.uuid4())
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release()
    assert server.requests("web1-data")[0].state == life.APPROVED
    dialogue.ack(luks_uuid=volume)
    state = server.state("web1-data")
    assert server.requests("web1-data")[0].state == life.DELIVERED
    assert server.key("web1-data").state == "active"
    assert state.luks_uuid == volume
    assert (state.lineage, state.lineage_next) == (machine.lineage["web1-data"], None)


def test_a_known_volume_is_never_initialised_again(server: Any, machine: Any) -> None:
    server.change_state("web1-data", luks_uuid=str(uuid.uuid4()))
    volume = machine.ask().decisions[0].volume
    assert (volume.initialise, volume.luks_uuid) == ("never", server.state("web1-data").luks_uuid)


def test_another_volume_under_the_same_device_is_reported_not_recorded(
    server: Any, machine: Any
) -> None:
    known = str(uuid.uuid4())
    server.change_state("web1-data", luks_uuid=known)
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release()
    dialogue.ack(luks_uuid=str(uuid.uuid4()))
    assert server.state("web1-data").luks_uuid == known
    assert server.events()[-1].outcome == "failed"


def test_a_policy_that_denies(server: Any, machine: Any) -> None:
    server.policy(
        "web",
        {
            "rules": [{"not": {"fact": "host_name", "operator": "starts_with", "value": "web"}}],
            "on_match": {"action": "approve"},
            "on_fail": {"action": "deny"},
        },
    )
    first, second = machine.ask().decisions[0], machine.ask().decisions[0]
    assert (first.outcome, first.code, first.key) == ("denied", "policy", None)
    assert first.request_id == second.request_id
    request = server.requests("web1-data")[0]
    assert (request.state, request.failing) == (life.DENIED, ("rules[0].not",))
    assert request.rules[0]["value"] == "web1"


DENIES_LATER = {
    "rules": [{"fact": "host_name", "operator": "starts_with", "value": "web"}],
    "on_match": {"action": "approve"},
    "on_fail": {"action": "deny"},
    "grace": {"period": 300, "postpone": 3600},
}


def test_an_open_device_that_the_policy_denies_gets_its_grace(server: Any, machine: Any) -> None:
    server.policy("web", DENIES_LATER)
    machine.unlock()
    machine.facts["host_name"] = "db1"
    decision = machine.ask(want="check").decisions[0]
    assert (decision.code, decision.grace) == ("policy", wire.Grace(300, 3600))
    denied = [event for event in server.events() if event.action == "key_request.denied"]
    assert denied[-1].details["grace"] == 300
    # What is closed has nothing to finish.
    assert machine.ask().decisions[0].grace is None


def test_a_person_who_rejects_leaves_the_grace_too(server: Any, machine: Any) -> None:
    server.policy("web", {**DENIES_LATER, "on_fail": {"action": "manual"}})
    machine.facts["host_name"] = "db1"
    machine.ask(want="check")
    server.decide("web1-data", life.DENIED)
    decision = machine.ask(want="check").decisions[0]
    assert (decision.code, decision.grace) == ("rejected", wire.Grace(300, 3600))


@pytest.mark.parametrize("why", ["revoked", "disabled", "quarantined", "cloned"])
def test_a_key_that_is_not_trusted_any_more_leaves_no_time(
    server: Any, machine: Any, why: str
) -> None:
    server.policy("web", DENIES_LATER)
    machine.unlock()
    match why:
        case "revoked":
            server.key_state("web1-data", "deactivated")
        case "disabled":
            server.change_device("web1-data", enabled=False)
        case "quarantined":
            server.change_state("web1-data", quarantined=True)
        case "cloned":
            machine.lineage["web1-data"] = bytes(32)
    decision = machine.ask(want="check").decisions[0]
    assert decision.outcome == "denied"
    assert decision.code == ("quarantined" if why == "cloned" else why)
    assert decision.grace is None


LETS_GO_ON = {**DENIES_LATER, "offline": {"period": 3600, "boots": 2, "pcrs": [4, 7]}}


def test_a_machine_that_meets_its_policy_may_keep_its_key(server: Any, machine: Any) -> None:
    server.policy("web", LETS_GO_ON)
    allowed = wire.Offline(3600, 2, (4, 7))
    assert machine.unlock().decisions[0].offline == allowed
    released = [event for event in server.events() if event.action == "key.released"]
    assert released[-1].details["offline"] == {"period": 3600, "boots": 2}
    decision = machine.ask(want="check").decisions[0]
    assert (decision.code, decision.offline) == ("checked", allowed)
    assert "offline" not in server.events()[-1].details, "no key went out"
    server.policy("web", DENIES_LATER)
    assert machine.ask(want="check").decisions[0].offline is None


def test_an_open_machine_gets_its_key_again_to_keep_it(server: Any, machine: Any) -> None:
    server.policy("web", LETS_GO_ON)
    machine.unlock()
    dialogue = machine.begin()
    dialogue.challenge()
    (decision,) = dialogue.release(want="renew").decisions
    assert (decision.code, decision.offline) == ("approved", wire.Offline(3600, 2, (4, 7)))
    assert decision.key is not None
    released = server.events()[-1]
    assert (released.action, released.details["want"]) == ("key.released", "renew")
    assert released.details["offline"] == {"period": 3600, "boots": 2}
    assert server.state("web1-data").volume_state == "open", "it was, and stays so"
    assert [each.state for each in server.requests("web1-data")] == [life.DELIVERED]
    dialogue.ack()
    assert machine.ask(want="check").decisions[0].code == "checked", "its lineage was settled"


def test_a_renewal_is_judged_like_a_check(server: Any, machine: Any) -> None:
    machine.unlock()
    decision = machine.ask(want="renew").decisions[0]
    assert (decision.code, decision.key, decision.lineage) == ("checked", None, None)
    assert server.actions()[-1] == "device.checked"
    server.policy("web", {**LETS_GO_ON, "on_fail": {"action": "manual"}})
    machine.facts["host_name"] = "db1"
    machine.ask()
    server.decide("web1-data", life.APPROVED)
    machine.unlock()
    decision = machine.ask(want="renew").decisions[0]
    assert (decision.code, decision.key) == ("checked", None), "a person approved this boot alone"
    server.policy("web", LETS_GO_ON)
    decision = machine.ask(want="renew").decisions[0]
    assert (decision.code, decision.grace) == ("policy", wire.Grace(300, 3600)), "it is open"


def test_a_renewal_without_a_keystore_leaves_what_is_open(
    server: Any, machine: Any, monkeypatch: Any
) -> None:
    server.policy("web", LETS_GO_ON)
    machine.unlock()

    def away(*_: object) -> bytes:
        raise Unavailable("the keystore is away")

    monkeypatch.setattr("securecloud_server.keystores.local.LocalKeystore.fetch", away)
    decision = machine.ask(want="renew").decisions[0]
    assert (decision.outcome, decision.code, decision.key) == ("granted", "checked", None)
    assert decision.offline is not None


@pytest.mark.parametrize("on_fail", ["manual", "approve"])
def test_what_is_not_approved_by_the_rules_is_not_kept(
    server: Any, machine: Any, on_fail: str
) -> None:
    server.policy("web", {**LETS_GO_ON, "on_fail": {"action": on_fail}, "force": True})
    machine.facts["host_name"] = "db1"
    if on_fail == "manual":
        assert machine.ask().decisions[0].offline is None
        server.decide("web1-data", life.APPROVED)
    for want in ("key", "check"):
        decision = machine.ask(want=want).decisions[0]
        assert (decision.outcome, decision.offline) == ("granted", None)


@pytest.mark.parametrize("want", ["key", "check"])
def test_boots_without_a_server_are_on_record(server: Any, machine: Any, want: str) -> None:
    machine.unlock()
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release(want=want)
    dialogue.ack("offline")
    assert server.actions()[-1] == "device.offline"
    assert server.state("web1-data").volume_state == "open"
    assert server.state("web1-data").lineage_next is None, "a key that came with it is settled"


@pytest.mark.parametrize("result", ["grace", "suspended", "closed"])
def test_what_became_of_a_denied_device_is_on_record(
    server: Any, machine: Any, result: str
) -> None:
    machine.unlock()
    before = server.state("web1-data")
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release(want="check")
    dialogue.ack(result)
    assert server.actions()[-1] == f"device.{result}"
    after = server.state("web1-data")
    told = {"volume_state": after.volume_state, "volume_state_at": after.volume_state_at}
    assert after == replace(before, **told), "and teaches nothing else"


def test_pending_until_a_person_approves(server: Any, machine: Any) -> None:
    machine.facts["host_name"] = "db1"
    first, second = machine.ask().decisions[0], machine.ask().decisions[0]
    assert (first.outcome, first.code, first.key) == ("pending", "approval_required", None)
    assert first.retry_after == 15
    assert first.request_id == second.request_id
    server.decide("web1-data", life.APPROVED)
    granted = machine.unlock().decisions[0]
    assert (granted.outcome, granted.request_id) == ("granted", first.request_id)
    states = [step.new for step in server.requests("web1-data")[0].transitions]
    assert states == [life.PENDING, life.APPROVED, life.DELIVERED]


def test_a_person_rejects(server: Any, machine: Any) -> None:
    machine.facts["host_name"] = "db1"
    machine.ask()
    server.decide("web1-data", life.DENIED)
    decision = machine.ask().decisions[0]
    assert (decision.outcome, decision.code) == ("denied", "rejected")
    machine.reboot()
    assert machine.ask().decisions[0].code == "approval_required"


def test_an_approval_covers_what_failed_then_and_no_more(server: Any, machine: Any) -> None:
    rules = [
        {"fact": "host_name", "operator": "equals", "value": "web1"},
        {"fact": "users", "operator": "excludes", "value": ["mallory"]},
    ]
    server.policy(
        "web", {"rules": rules, "on_match": {"action": "approve"}, "on_fail": {"action": "manual"}}
    )
    machine.facts |= {"host_name": "db1", "users": ["root"]}
    machine.ask()
    server.decide("web1-data", life.APPROVED)
    machine.facts["users"] = ["root", "mallory"]
    decision = machine.ask().decisions[0]
    assert (decision.outcome, decision.code) == ("pending", "approval_required")
    request = server.requests("web1-data")[0]
    assert request.state == life.PENDING
    assert request.failing == ("rules[0]", "rules[1]")


def test_an_approval_is_for_one_version_of_the_policy(server: Any, machine: Any) -> None:
    machine.facts["host_name"] = "db1"
    machine.ask()
    server.decide("web1-data", life.APPROVED)
    server.policy(
        "web",
        {
            "rules": [{"fact": "host_name", "operator": "equals", "value": "web7"}],
            "on_match": {"action": "approve"},
        },
    )
    assert machine.ask().decisions[0].code == "approval_required"


def test_an_approval_that_is_not_used_expires(server: Any, machine: Any, clock: Any) -> None:
    machine.facts["host_name"] = "db1"
    machine.ask()
    server.decide("web1-data", life.APPROVED)
    clock.forward(3600)
    decision = machine.ask().decisions[0]
    newest, oldest = server.requests("web1-data")
    assert decision.code == "approval_required"
    assert (newest.state, oldest.state) == (life.PENDING, life.EXPIRED)
    assert decision.request_id == newest.request_id


def test_an_open_request_of_an_earlier_boot_expires(server: Any, machine: Any) -> None:
    machine.facts["host_name"] = "db1"
    machine.ask()
    machine.reboot()
    machine.ask()
    assert [r.state for r in server.requests("web1-data")] == [life.PENDING, life.EXPIRED]


def test_a_delay_runs_from_the_first_request(server: Any, machine: Any, clock: Any) -> None:
    server.policy(
        "web",
        {
            "rules": [{"fact": "host_name", "operator": "equals", "value": "web1"}],
            "on_match": {"action": "approve_after", "delay": 60},
        },
    )
    first = machine.ask().decisions[0]
    assert (first.outcome, first.code, first.retry_after) == ("pending", "delayed", 15)
    clock.forward(50)
    assert machine.ask().decisions[0].retry_after == 10
    clock.forward(9)
    assert machine.ask().decisions[0].outcome == "pending"
    clock.forward(1)
    granted = machine.ask().decisions[0]
    assert (granted.outcome, granted.request_id) == ("granted", first.request_id)


def test_a_delay_starts_anew_when_the_facts_changed(server: Any, machine: Any, clock: Any) -> None:
    server.policy(
        "web",
        {
            "rules": [{"fact": "host_name", "operator": "equals", "value": "web1"}],
            "on_match": {"action": "approve_after", "delay": 60},
        },
    )
    machine.ask()
    machine.facts["host_name"] = "db1"
    clock.forward(30)
    assert machine.ask().decisions[0].code == "approval_required"
    machine.facts["host_name"] = "web1"
    clock.forward(30)
    assert machine.ask().decisions[0].code == "delayed"


@pytest.mark.parametrize("state", ["deactivated", "destroyed"])
def test_a_revoked_key_is_not_released(server: Any, machine: Any, state: str) -> None:
    machine.unlock()
    server.key_state("web1-data", state)
    decision = machine.ask().decisions[0]
    assert (decision.outcome, decision.code, decision.key) == ("denied", "revoked", None)


def test_a_disabled_device(server: Any, machine: Any) -> None:
    server.change_device("web1-data", enabled=False)
    assert machine.ask().decisions[0].code == "disabled"


def test_devices_are_decided_one_by_one(server: Any, machine: Any) -> None:
    server.device("web1-logs", "web1", policy=None)
    outcomes = {d.device: d.code for d in machine.ask().decisions}
    assert outcomes == {"web1-data": "approved", "web1-logs": "approval_required"}


def test_a_device_without_a_policy_takes_its_groups_and_then_the_default(
    server: Any, machine: Any
) -> None:
    server.group("frontend", "web")
    server.group("others", None)
    server.device("web1-a", "web1", policy=None, group="frontend")
    server.device("web1-b", "web1", policy=None, group="others")
    machine.ask()
    assert server.requests("web1-a")[0].policy == "web"
    assert server.requests("web1-b")[0].policy == "default"


def test_the_challenge_asks_for_what_the_policies_need_and_no_more(
    server: Any, machine: Any
) -> None:
    server.policy(
        "digests",
        {
            "rules": [
                {"fact": 'file_digests."/etc/passwd"', "operator": "equals", "value": "sha256:00"},
                {"fact": "device.mount_point", "operator": "equals", "value": "/srv/data"},
            ]
        },
    )
    server.device("web1-more", "web1", policy="digests")
    core = machine.begin().challenge()
    assert {fact.name: fact.args for fact in core.facts} == {
        "host_name": (),
        "file_digests": ("/etc/passwd",),
    }
    assert core.devices == ("web1-data", "web1-more")


def test_the_server_supplies_what_it_sees_itself(server: Any, machine: Any, clock: Any) -> None:
    server.policy(
        "web",
        {
            "rules": [
                {"fact": "request.source_ip", "operator": "in_networks", "value": ["127.0.0.0/8"]},
                {"fact": "request.first_seen_hours", "operator": "at_least", "value": 2},
                {"fact": "request.clock_skew_seconds", "operator": "between", "value": [-5, 5]},
                {"fact": "request.weekday", "operator": "equals", "value": "friday"},
                {
                    "fact": "device.name",
                    "operator": "equals",
                    "value": "web1-data",
                    "minimum_provenance": "observed",
                },
            ],
            "on_match": {"action": "approve"},
            "on_fail": {"action": "manual"},
        },
    )
    assert machine.ask().decisions[0].outcome == "pending"
    failing = server.requests("web1-data")[0].failing
    assert failing == ("rules[1]",)
    clock.forward(2 * 3600)
    assert machine.ask().decisions[0].outcome == "granted"


def test_a_lost_answer_locks_nobody_out(server: Any, machine: Any) -> None:
    dialogue = machine.begin()
    dialogue.challenge()
    server.post("evidence", dialogue.evidence())
    assert machine.ask().decisions[0].outcome == "granted"
    assert len(server.requests("web1-data")) == 1


def test_an_agent_without_devices_gets_an_empty_answer(server: Any) -> None:
    assert server.machine("web9").unlock().decisions == ()
