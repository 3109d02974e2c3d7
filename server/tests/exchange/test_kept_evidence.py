"""What an exchange leaves of its evidence."""

from pathlib import Path
from typing import Any

import pytest
from securecloud_protocol.errors import ProtocolError
from securecloud_server.domain.records import Sighting
from securecloud_server.settings import parse_settings

from server.tests.exchange.conftest import HOST_RULE, Machine, Server

SECRET = "hunter2 of the user data"
DAY = 86400


def kept(server: Server, device: str = "web1-data") -> list[tuple[Sighting, Any]]:
    """Return what is kept of a device, newest first."""
    device_id = server.read(lambda tx: tx.devices.get(device)).device_id
    return list(server.read(lambda tx: tx.evidence.history(device_id)))


def names(server: Server) -> list[str]:
    """Return the host names that the machine showed, newest first."""
    return [document["facts"]["host_name"]["value"] for _, document in kept(server)]


def test_a_release_keeps_what_its_rules_were_evaluated_on(server: Server, machine: Machine) -> None:
    machine.facts["users"] = ["root"]  # known to the machine, but nobody asks
    dialogue = machine.begin()
    core = dialogue.challenge()
    dialogue.release()
    ((sighting, document),) = kept(server)
    assert document == {
        "asked": {"host_name": []},
        "facts": {"host_name": {"value": "web1", "provenance": "claimed"}},
        "withheld": {},
    }
    request = server.requests("web1-data")[0]
    assert (sighting.session_id, sighting.request_id) == (core.session_id, request.request_id)
    assert (sighting.outcome, sighting.code) == ("granted", "approved")
    assert (sighting.agent_id, sighting.boot_id) == (machine.agent_id, machine.boot_id)
    assert sighting.first_at == sighting.last_at == int(server.clock())
    assert sighting.circumstances["request"]["value"] == {
        "source_ip": "127.0.0.1",
        "time": "2027-01-15T08:00:00Z",
        "weekday": "friday",
        "first_seen_hours": 0,
        "clock_skew_seconds": 0,
    }


def test_it_names_the_audit_event_of_its_first_decision(server: Server, machine: Machine) -> None:
    machine.ask()
    machine.ask(want="check")
    ((sighting, _),) = kept(server)
    logged = server.read(lambda tx: tx.audit.page(sighting.seq - 1, 1, {}))[0].event
    assert logged.action == "key.released"
    assert logged.details["request_id"] == sighting.request_id


def test_the_same_evidence_again_writes_no_document(
    server: Server, machine: Machine, clock: Any
) -> None:
    server.policy("web", {"rules": [HOST_RULE, _uptime(0)], "on_match": {"action": "approve"}})
    machine.facts["boot"] = {"boot_id": machine.boot_id, "uptime_seconds": 5}
    machine.ask()
    clock.forward(300)
    machine.facts["boot"] = {"boot_id": machine.boot_id, "uptime_seconds": 305}
    machine.ask(want="check")
    ((sighting, _),) = kept(server)
    assert sighting.last_at - sighting.first_at == 300
    assert sighting.code == "checked"
    assert sighting.circumstances["boot"]["value"]["uptime_seconds"] == 305


def test_other_evidence_makes_history(server: Server, machine: Machine) -> None:
    for name in ("web1", "web2", "web1"):
        machine.facts["host_name"] = name
        machine.ask()
    assert names(server) == ["web1", "web2", "web1"]


def test_history_is_bounded_at_once(server: Server, machine: Machine) -> None:
    for number in range(15):
        machine.facts["host_name"] = f"web{number}"
        machine.ask()
    assert names(server) == [f"web{number}" for number in range(14, 4, -1)]


def test_old_history_ends_but_the_last_evidence_stays(
    server: Server, machine: Machine, clock: Any
) -> None:
    for name in ("web1", "web2"):
        machine.facts["host_name"] = name
        machine.ask()
    server.application.housekeeping.run()
    clock.forward(30 * DAY)
    server.application.housekeeping.run()
    assert names(server) == ["web2", "web1"]
    clock.forward(1)
    assert server.application.housekeeping.run() >= 1
    assert names(server) == ["web2"]
    assert server.application.housekeeping.run() == 0


def test_denied_and_pending_machines_are_kept_as_well(server: Server, machine: Machine) -> None:
    machine.facts["host_name"] = "db1"
    machine.ask()
    assert [(s.outcome, s.code) for s, _ in kept(server)] == [("pending", "approval_required")]


def test_devices_of_one_machine_share_a_document(server: Server, machine: Machine) -> None:
    server.device("web1-logs", "web1")
    machine.ask()
    ((one, _),), ((other, _),) = kept(server), kept(server, "web1-logs")
    assert one.digest == other.digest
    assert one.request_id != other.request_id


def test_a_copy_of_the_machine_does_not_overwrite_what_the_machine_said(
    server: Server, machine: Machine
) -> None:
    machine.unlock()
    machine.facts["host_name"] = "web666"
    machine.lineage = {"web1-data": b"x" * 32}
    assert machine.ask().decisions[0].code == "quarantined"
    machine.lineage = {}
    machine.ask()
    assert names(server) == ["web1"]


def test_an_exchange_that_is_refused_keeps_nothing(server: Server, machine: Machine) -> None:
    dialogue = machine.begin()
    dialogue.challenge()
    evidence = dialogue.evidence()
    server.policy("web", {"rules": [HOST_RULE]})
    with pytest.raises(ProtocolError, match="stale"):
        dialogue.exchange.release(server.post("evidence", evidence))
    assert kept(server) == []


def test_user_data_never_reaches_the_database(server: Server, machine: Machine) -> None:
    rule = {"fact": "instance.user_data", "operator": "equals", "value": "no"}
    server.policy("web", {"rules": [rule, {"jmespath": "instance.id == 'i-1'"}]})
    machine.facts["instance"] = {"id": "i-1", "user_data_digest": None, "user_data": SECRET}
    machine.ask()
    ((_, document),) = kept(server)
    assert document["withheld"] == {"instance": ["user_data"]}
    assert document["facts"]["instance"]["value"] == {"id": "i-1", "user_data_digest": None}
    path = Path(server.application.settings.storage.url.removeprefix("sqlite:///"))
    content = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    assert b"user_data_digest" in content
    assert SECRET.encode() not in content


@pytest.mark.parametrize(
    ("key", "value"), [("history", 0), ("history", "10"), ("days", 0), ("days", 1.5), ("keep", 1)]
)
def test_a_limit_that_makes_no_sense_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(Exception, match=rf"evidence\.{key}: "):
        parse_settings({"evidence": {key: value}})


def _uptime(least: int) -> dict[str, Any]:
    return {"fact": "boot.uptime_seconds", "operator": "at_least", "value": least}
