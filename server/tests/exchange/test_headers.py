"""A key goes only to a disk whose LUKS header is the one that the device opened with."""

from dataclasses import replace
from typing import Any

import pytest
from securecloud_protocol import messages as wire
from securecloud_server.domain.records import Actor

from server.tests.exchange.test_rotation import DEVICE, renew, rotate

PERSON = Actor("token", "alice", "security_administrator")
DIGEST = {name: bytes([number]) * 32 for number, name in enumerate(("old", "both", "new", "x"))}


def header(digest: str, volume_key: str = "old", *, changing: bool = False) -> wire.LuksHeader:
    return wire.LuksHeader(DIGEST[digest], DIGEST[volume_key], changing)


OLD, BOTH, NEW = header("old"), header("both", changing=True), header("new")
SET_BACK = header("x")
SWAPPED = header("x", "x")
DAMAGED = wire.LuksHeader(DIGEST["x"], None, changing=False)


@pytest.fixture
def opened(machine: Any) -> Any:
    """The machine after its device was opened for the first time."""
    machine.header = OLD
    machine.unlock()
    return machine


def boot(machine: Any, found: wire.LuksHeader | None) -> wire.DeviceDecision:
    """Boot with this header on the disk; return what is decided."""
    machine.reboot()
    machine.header = found
    return machine.ask().decisions[0]


def tell(
    dialogue: Any, version: int, found: wire.LuksHeader | None, result: str = "mounted"
) -> None:
    told = wire.AckResult(DEVICE, version, result, None, False, "", found)
    dialogue.exchange.receipt(dialogue.machine.server.post("ack", dialogue.exchange.ack((told,))))


def check(machine: Any) -> Any:
    """Make a check; return the dialogue before its Ack."""
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release("check")
    return dialogue


# The first use


def test_the_header_of_the_first_use_is_the_expected_one(server: Any, machine: Any) -> None:
    machine.header = OLD
    decision = machine.ask().decisions[0]
    assert (decision.code, decision.volume.header) == ("approved", None)
    assert server.state(DEVICE).header is None, "a release proves nothing"
    machine.unlock()
    state = server.state(DEVICE)
    assert (state.header, state.volume_key, state.header_changing) == (
        OLD.digest,
        OLD.volume_key,
        False,
    )
    decision = boot(machine, OLD)
    assert (decision.code, decision.volume.header) == ("approved", OLD)


def test_a_blank_disk_is_formatted_and_interrupted(server: Any, machine: Any) -> None:
    """The power goes after the format: nobody knows the header, and it is taken."""
    assert boot(machine, None).code == "approved"
    assert boot(machine, OLD).code == "approved"
    machine.unlock()
    assert server.state(DEVICE).header == OLD.digest


@pytest.mark.parametrize("found", [None, DAMAGED])
def test_nothing_is_learnt_of_what_cannot_be_seen(server: Any, machine: Any, found: Any) -> None:
    machine.header = found
    machine.unlock()
    assert server.state(DEVICE).header is None


def test_nothing_is_learnt_of_a_volume_that_failed(server: Any, machine: Any) -> None:
    machine.header = OLD
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release()
    dialogue.ack("failed")
    assert server.state(DEVICE).header is None


def test_a_check_does_not_teach_the_first_header(server: Any, machine: Any) -> None:
    machine.unlock()
    tell(check(machine), 1, OLD)
    assert server.state(DEVICE).header is None


# Another header


@pytest.mark.parametrize("found", [SWAPPED, SET_BACK, DAMAGED, replace(SET_BACK, changing=True)])
def test_no_key_goes_to_another_header(server: Any, opened: Any, found: wire.LuksHeader) -> None:
    before = server.state(DEVICE)
    decision = boot(opened, found)
    assert (decision.outcome, decision.code) == ("denied", "header_changed")
    assert (decision.key, decision.volume, decision.lineage) == (None, None, None)
    state = server.state(DEVICE)
    refused = {"header_refused": found.digest, "volume_key_refused": found.volume_key}
    assert state == replace(before, volume_state="closed", **refused)
    event = server.events()[-1]
    assert (event.action, event.outcome) == ("key_request.denied", "refused")
    assert event.details["code"] == "header_changed"
    assert event.details["header"] == found.digest.hex()
    assert event.details["expected_header"] == OLD.digest.hex()
    assert boot(opened, OLD).code == "approved", "the disk is as it was"


def test_a_machine_that_cannot_see_its_disk_yet_is_told_what_to_expect(opened: Any) -> None:
    decision = boot(opened, None)
    assert (decision.code, decision.volume.header) == ("approved", OLD)


def test_what_such_a_machine_finds_is_shown(server: Any, opened: Any) -> None:
    opened.reboot()
    opened.header = None
    dialogue = opened.begin()
    dialogue.challenge()
    dialogue.release()
    tell(dialogue, 1, SWAPPED, "failed")
    state = server.state(DEVICE)
    assert (state.header, state.header_refused) == (OLD.digest, SWAPPED.digest)
    assert server.events()[-1].details["header"] == SWAPPED.digest.hex()


def test_what_is_open_with_another_header_is_told_and_not_learnt(server: Any, opened: Any) -> None:
    opened.reboot()
    opened.header = None
    dialogue = opened.begin()
    dialogue.challenge()
    dialogue.release()
    tell(dialogue, 1, SET_BACK)
    event = server.events()[-1]
    assert (event.action, event.outcome) == ("device.failed", "failed")
    assert "LUKS header that was not expected" in event.reason
    state = server.state(DEVICE)
    assert (state.header, state.header_refused) == (OLD.digest, SET_BACK.digest)


def test_an_open_device_stays_open_but_gets_no_key(server: Any, opened: Any) -> None:
    rotate(server)
    opened.header = SET_BACK
    _, decision = renew(opened)
    assert (decision.outcome, decision.code, decision.key) == ("granted", "checked", None)
    assert server.state(DEVICE).header_refused == SET_BACK.digest
    assert not server.state(DEVICE).header_changing
    assert server.events()[-1].details["expected_header"] == OLD.digest.hex()
    opened.header = OLD
    assert renew(opened)[1].code == "approved"


def test_a_key_that_is_revoked_is_just_that(server: Any, opened: Any) -> None:
    server.key_state(DEVICE, "deactivated")
    assert boot(opened, SWAPPED).code == "revoked"


def test_a_clone_does_not_teach_anything(server: Any, opened: Any) -> None:
    opened.lineage[DEVICE] = b"c" * 32
    assert boot(opened, SWAPPED).code == "quarantined"
    assert server.state(DEVICE).header_refused is None


def test_an_accepted_header_is_the_expected_one(server: Any, opened: Any) -> None:
    boot(opened, SWAPPED)
    server.application.admin.devices.accept_header(
        PERSON, DEVICE, SWAPPED.digest.hex(), "repaired by us"
    )
    decision = boot(opened, SWAPPED)
    assert (decision.code, decision.volume.header) == ("approved", SWAPPED)
    assert boot(opened, OLD).code == "header_changed"


# The agent itself changes it


def test_a_rotation_of_which_the_machine_has_nothing_yet_loosens_nothing(
    server: Any, opened: Any
) -> None:
    rotate(server)
    opened.ask(want="check")
    assert boot(opened, SET_BACK).code == "header_changed"


def test_the_header_is_known_again_when_the_rotation_is_over(server: Any, opened: Any) -> None:
    rotate(server)
    dialogue, decision = renew(opened)
    assert decision.volume.header == OLD
    assert server.state(DEVICE).header_changing
    tell(dialogue, 2, BOTH)
    state = server.state(DEVICE)
    assert (state.header, state.header_changing) == (BOTH.digest, True)
    tell(check(opened), 2, NEW)
    state = server.state(DEVICE)
    assert (state.header, state.header_changing) == (NEW.digest, False)
    for found in (OLD, BOTH, SET_BACK, SWAPPED):
        assert boot(opened, found).code == "header_changed"
    decision = boot(opened, NEW)
    assert (decision.code, decision.volume.header) == ("approved", NEW)


@pytest.mark.parametrize("told", [False, True], ids=["before the Ack", "after the Ack"])
@pytest.mark.parametrize("found", [OLD, BOTH, NEW])
def test_a_rotation_that_is_interrupted_locks_nobody_out(
    server: Any, opened: Any, found: wire.LuksHeader, told: bool
) -> None:
    rotate(server)
    dialogue, _ = renew(opened)
    if told:
        tell(dialogue, 2, BOTH)
    decision = boot(opened, found)
    assert decision.code == "approved"
    assert decision.volume.header.changing
    opened.unlock()
    assert server.state(DEVICE).header == found.digest


@pytest.mark.parametrize("found", [SWAPPED, DAMAGED])
def test_another_volume_key_is_refused_in_a_rotation_too(
    server: Any, opened: Any, found: wire.LuksHeader
) -> None:
    rotate(server)
    renew(opened)
    assert boot(opened, found).code == "header_changed"


def test_a_rotation_that_is_given_up_ends_with_what_the_machine_says(
    server: Any, opened: Any
) -> None:
    successor = rotate(server)
    dialogue, _ = renew(opened)
    server.database.write(
        lambda tx: tx.keys.put(replace(successor, state="destroyed", reference=b""))
    )
    tell(dialogue, 2, BOTH)
    assert boot(opened, BOTH).code == "approved"
    opened.header = NEW
    opened.unlock()
    assert boot(opened, BOTH).code == "header_changed"


def test_an_answer_to_an_earlier_release_does_not_end_it(server: Any, opened: Any) -> None:
    rotate(server)
    late, _ = renew(opened)
    renew(opened)
    tell(late, 1, OLD)
    assert server.state(DEVICE).header_changing


def test_an_answer_to_an_earlier_check_does_not_change_it(server: Any, opened: Any) -> None:
    late = check(opened)
    rotate(server)
    dialogue, _ = renew(opened)
    tell(dialogue, 2, BOTH)
    tell(check(opened), 2, NEW)
    tell(late, 1, OLD)
    state = server.state(DEVICE)
    assert (state.header, state.header_changing) == (NEW.digest, False)


def test_an_answer_of_before_the_last_release_does_not_set_it_back(
    server: Any, opened: Any
) -> None:
    """While key slots change, the header of before would fit, and the next boot would not."""
    late = check(opened)
    server.clock.forward(1)
    rotate(server)
    dialogue, _ = renew(opened)
    tell(dialogue, 2, BOTH)
    tell(late, 1, OLD, "closed")
    state = server.state(DEVICE)
    assert (state.header, state.header_changing) == (BOTH.digest, True)
    assert state.volume_state == "open"
    assert server.events()[-1].details["counts"] is False
    assert boot(opened, NEW).code == "approved"


def test_a_clock_that_was_set_back_makes_nothing_late(server: Any, opened: Any) -> None:
    rotate(server)
    dialogue, _ = renew(opened)
    tell(dialogue, 2, BOTH)
    server.clock.forward(-600)
    tell(check(opened), 2, NEW)
    state = server.state(DEVICE)
    assert (state.header, state.header_changing) == (NEW.digest, False)
