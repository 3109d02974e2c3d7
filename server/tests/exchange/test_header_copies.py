"""The server keeps a copy of the LUKS header that it expects, and asks for one that it lacks."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from securecloud_protocol import messages as wire
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_server.domain.records import HeaderCopy

from server.tests.exchange.test_rotation import DEVICE, renew, rotate

OCTETS, OTHER = b"LUKS\xba\xbe a header", b"LUKS\xba\xbe another one"


def of(octets: bytes, *, changing: bool = False) -> wire.LuksHeader:
    return wire.LuksHeader(hashlib.sha256(octets).digest(), bytes(32), changing)


def told(dialogue: Any, result: str = "mounted", version: int = 1) -> tuple[str, ...]:
    """Acknowledge; return of what a copy is wanted."""
    header = dialogue.machine.header
    ack = wire.AckResult(DEVICE, version, result, None, False, "", header)
    answer = dialogue.machine.server.post("ack", dialogue.exchange.ack((ack,)))
    return dialogue.exchange.receipt(answer)


def send(dialogue: Any, octets: bytes) -> None:
    message = dialogue.exchange.copy(DEVICE, octets)
    dialogue.exchange.kept(dialogue.machine.server.post("copy", message))


def ask(machine: Any) -> Any:
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release()
    return dialogue


def kept(server: Any) -> HeaderCopy | None:
    return server.read(lambda tx: tx.header_copies.get(tx.devices.get(DEVICE).device_id))


@pytest.fixture
def dialogue(machine: Any) -> Any:
    """An exchange up to the first release."""
    machine.header = of(OCTETS)
    return ask(machine)


def test_a_copy_is_wanted_until_there_is_one(server: Any, machine: Any, dialogue: Any) -> None:
    assert told(dialogue) == (DEVICE,)
    machine.reboot()
    again = ask(machine)
    assert told(again) == (DEVICE,)
    send(again, OCTETS)
    copy = kept(server)
    assert copy is not None
    assert (copy.header, copy.digest) == (OCTETS, of(OCTETS).digest)
    assert server.state(DEVICE).header_kept == copy.digest
    event = server.events()[-1]
    assert (event.action, event.details["octets"]) == ("device.header_kept", len(OCTETS))
    send(again, OCTETS)
    machine.reboot()
    assert told(ask(machine)) == ()


@pytest.mark.parametrize("result", ["failed", "closed"])
def test_none_is_wanted_of_what_is_not_in_use(dialogue: Any, result: str) -> None:
    assert told(dialogue, result) == ()


def test_none_is_wanted_while_key_slots_change(server: Any, machine: Any, dialogue: Any) -> None:
    told(dialogue)
    send(dialogue, OCTETS)
    rotate(server)
    renewal, _ = renew(machine)
    machine.header = of(OTHER, changing=True)
    assert told(renewal, version=2) == ()
    check = machine.begin()
    check.challenge()
    check.release("check")
    machine.header = of(OTHER)
    assert told(check, version=2) == (DEVICE,)
    send(check, OTHER)
    copy = kept(server)
    assert copy is not None
    assert copy.header == OTHER


def test_another_header_is_not_kept(server: Any, dialogue: Any) -> None:
    told(dialogue)
    with pytest.raises(ProtocolError) as caught:
        send(dialogue, OTHER)
    assert caught.value.code is ErrorCode.STALE
    assert kept(server) is None
    assert server.state(DEVICE).header_kept is None
    event = server.events()[-1]
    assert (event.action, event.object, event.outcome) == (
        "exchange.refused",
        f"device:{DEVICE}",
        "refused",
    )
    assert event.reason == "a copy of another header than expected"
    assert event.details["header"] == of(OTHER).digest.hex()


def test_nothing_is_kept_of_what_was_taken_away(server: Any, machine: Any, dialogue: Any) -> None:
    told(dialogue)
    server.change_state(DEVICE, header=None)
    with pytest.raises(ProtocolError) as caught:
        send(dialogue, OCTETS)
    assert caught.value.code is ErrorCode.STALE
    server.database.write(
        lambda tx: tx.agents.replace(replace(tx.agents.get("web1"), state="retired"))
    )
    with pytest.raises(ProtocolError) as caught:
        send(dialogue, OCTETS)
    assert caught.value.code is ErrorCode.NOT_AUTHENTICATED


def test_the_largest_one_fits(server: Any, machine: Any) -> None:
    largest = b"\xa5" * wire.MAX_HEADER_BYTES
    machine.header = of(largest)
    dialogue = ask(machine)
    told(dialogue)
    send(dialogue, largest)
    copy = kept(server)
    assert copy is not None
    assert copy.header == largest


def test_with_the_device_goes_its_copy(server: Any, dialogue: Any) -> None:
    told(dialogue)
    send(dialogue, OCTETS)
    device_id = server.key(DEVICE).device_id
    server.database.write(lambda tx: tx.devices.delete(DEVICE))
    assert server.read(lambda tx: tx.header_copies.get(device_id)) is None
