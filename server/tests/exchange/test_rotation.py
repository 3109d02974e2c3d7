"""A key is replaced: the machine is given both, proves the new one, and only then it counts."""

from dataclasses import replace
from typing import Any

import pytest
from securecloud_protocol import messages as wire
from securecloud_server.domain import requests as life
from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.records import Key

from server.tests.exchange.conftest import APPROVE

DEVICE = "web1-data"


def rotate(server: Any) -> Key:
    """Make a successor as the service does."""
    key = server.key(DEVICE)
    keystore = server.application.keystores.active
    version = server.read(lambda tx: tx.keys.versions([key.device_id]))[-1].version + 1
    reference = keystore.create(key.device_id, version)
    successor = Key(key.device_id, version, "pre_active", keystore.name, reference, 2)
    server.database.write(lambda tx: tx.keys.put(successor))
    return successor


def keys_of(server: Any, life_: Any) -> tuple[bytes, bytes]:
    store = server.application.keystores.active
    return tuple(
        store.fetch(key.reference, key.device_id, key.version)
        for key in (life_.current, life_.successor)
    )


def acknowledge(dialogue: Any, version: int, result: str = "mounted") -> None:
    told = wire.AckResult(DEVICE, version, result, None, False, "its key was replaced")
    dialogue.exchange.receipt(dialogue.machine.server.post("ack", dialogue.exchange.ack((told,))))


def renew(machine: Any) -> tuple[Any, wire.DeviceDecision]:
    dialogue = machine.begin()
    dialogue.challenge()
    return dialogue, dialogue.release("renew").decisions[0]


def test_an_open_machine_hears_of_it_and_is_given_both(server: Any, machine: Any) -> None:
    machine.unlock()
    assert machine.ask(want="check").decisions[0].successor is None
    rotate(server)
    decision = machine.ask(want="check").decisions[0]
    assert (decision.code, decision.key_version) == ("checked", 1)
    assert decision.successor == wire.Successor(2, None)
    _, decision = renew(machine)
    old, new = keys_of(server, server.life(DEVICE))
    assert (decision.code, decision.key, decision.key_version) == ("approved", old, 1)
    assert decision.successor == wire.Successor(2, new)
    released = server.events()[-1]
    assert (released.action, released.details["successor"]) == ("key.released", 2)


def test_a_machine_that_boots_is_given_both(server: Any, machine: Any) -> None:
    machine.unlock()
    rotate(server)
    machine.reboot()
    decision = machine.ask().decisions[0]
    assert (decision.key, decision.successor.key) == keys_of(server, server.life(DEVICE))


def test_it_counts_when_the_machine_says_that_it_opens(server: Any, machine: Any) -> None:
    machine.unlock()
    successor = rotate(server)
    dialogue, _ = renew(machine)
    assert server.life(DEVICE).successor is not None, "a release proves nothing"
    acknowledge(dialogue, 2)
    now = server.life(DEVICE)
    assert (now.current.version, now.current.state, now.successor) == (2, "active", None)
    assert now.current.activated_at == int(server.clock())
    versions = server.read(lambda tx: tx.keys.versions([successor.device_id]))
    assert [key.state for key in versions] == ["deactivated", "active"]
    event = next(each for each in server.events() if each.action == "key.rotated")
    assert (event.details["key_version"], event.details["replaced"]) == (2, 1)
    decision = machine.ask(want="check").decisions[0]
    assert (decision.key_version, decision.successor) == (2, None)


@pytest.mark.parametrize(("version", "result"), [(1, "mounted"), (2, "failed"), (3, "mounted")])
def test_it_does_not_count_otherwise(server: Any, machine: Any, version: int, result: str) -> None:
    machine.unlock()
    rotate(server)
    dialogue, _ = renew(machine)
    acknowledge(dialogue, version, result)
    now = server.life(DEVICE)
    assert (now.current.version, now.successor.version) == (1, 2)
    assert "key.rotated" not in server.actions()
    told = server.events()[-1]
    assert told.outcome == ("success" if version == 1 else "failed")
    if version == 3:
        assert "opens with version 3 of its key; released is version 1" in told.reason
    machine.reboot()
    assert machine.ask().decisions[0].outcome == "granted", "it tries again"


def test_an_answer_to_an_earlier_release_does_not_count(server: Any, machine: Any) -> None:
    machine.unlock()
    rotate(server)
    late, _ = renew(machine)
    renew(machine)
    acknowledge(late, 2)
    assert server.life(DEVICE).current.version == 1


def test_a_key_that_was_revoked_meanwhile_stays_so(server: Any, machine: Any) -> None:
    machine.unlock()
    rotate(server)
    dialogue, _ = renew(machine)
    server.key_state(DEVICE, "deactivated")
    acknowledge(dialogue, 2)
    now = server.life(DEVICE)
    assert (now.current.version, now.current.state, now.successor.version) == (
        1,
        "deactivated",
        2,
    )
    told = server.events()[-1]
    assert (told.action, told.outcome) == ("device.failed", "failed")
    assert "released is version 1, which is deactivated" in told.reason
    assert machine.ask(want="check").decisions[0].code == "revoked"
    # The machine still has both keys in its header, and hears which one counts.
    server.key_state(DEVICE, "active")
    decision = machine.ask(want="check").decisions[0]
    assert (decision.key_version, decision.successor.version) == (1, 2)


def test_a_rotation_that_was_given_up_meanwhile_stays_so(server: Any, machine: Any) -> None:
    machine.unlock()
    successor = rotate(server)
    dialogue, _ = renew(machine)
    gone = replace(successor, state="destroyed", reference=b"")
    server.database.write(lambda tx: tx.keys.put(gone))
    acknowledge(dialogue, 2)
    assert server.events()[-1].outcome == "failed"
    decision = machine.ask(want="check").decisions[0]
    assert (decision.key_version, decision.successor) == (1, None)


def test_what_a_person_approved_in_this_boot_holds_for_the_successor(
    server: Any, machine: Any
) -> None:
    server.policy("web", {**APPROVE, "on_match": {"action": "manual"}})
    machine.ask()
    server.decide(DEVICE, life.APPROVED)
    machine.unlock()
    rotate(server)
    dialogue, decision = renew(machine)
    assert decision.code == "approved"
    acknowledge(dialogue, 2)
    assert machine.ask(want="check").decisions[0].code == "checked"


def test_nobody_is_given_a_successor_without_a_grant(server: Any, machine: Any) -> None:
    machine.unlock()
    rotate(server)
    machine.facts["host_name"] = "db1"
    for want in ("check", "renew", "key"):
        decision = machine.ask(want=want).decisions[0]
        assert (decision.outcome, decision.key, decision.successor) == ("pending", None, None)


def test_a_successor_that_cannot_be_fetched_waits(
    server: Any, machine: Any, monkeypatch: Any
) -> None:
    machine.unlock()
    rotate(server)
    machine.reboot()
    store = server.application.keystores.active
    fetch = store.fetch

    def away(reference: bytes, device_id: str, version: int) -> bytes:
        if version > 1:
            raise Unavailable("the keystore is away")
        return bytes(fetch(reference, device_id, version))

    monkeypatch.setattr(store, "fetch", away)
    decision = machine.ask().decisions[0]
    # That there were none would mean that the rotation was given up.
    assert (decision.outcome, decision.successor) == ("granted", wire.Successor(2, None))
    assert decision.key is not None
    assert "successor" not in server.events()[-1].details, "it was not sent"
    _, decision = renew(machine)
    assert (decision.code, decision.key) == ("checked", None)
    assert decision.successor == wire.Successor(2, None)
    assert server.events()[-1].action != "key.released"
