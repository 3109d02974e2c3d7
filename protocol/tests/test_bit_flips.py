"""One bit changed anywhere: refused, with the code of its class."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_world import TYPES, Stage, refusal
from securecloud_protocol import messages as wire
from securecloud_protocol.encoding import b64u_encode
from securecloud_protocol.envelope import Envelope, decode_request, encode
from securecloud_protocol.errors import ErrorCode, ProtocolError
from test_messages import CODECS

EXHAUSTIVE_BELOW_BITS = 6000
SAMPLES = 400
FRAME_CODES = {ErrorCode.MALFORMED, ErrorCode.NOT_AUTHENTICATED, ErrorCode.UNSUPPORTED_VERSION}
AUTHENTICATED_BEFORE_IT_IS_PARSED = {"server", "enrolled", "challenge", "receipt", "kept", "wake"}


def bits(octets: bytes) -> Iterable[int]:
    """All positions of a short message, a fixed sample of a long one."""
    count = len(octets) * 8
    if count < EXHAUSTIVE_BELOW_BITS:
        return range(count)
    return random.Random(count).sample(range(count), SAMPLES)


def flip(octets: bytes, bit: int) -> bytes:
    flipped = bytearray(octets)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


@pytest.mark.parametrize("kind", TYPES)
def test_in_the_octets_that_travel(stage: Stage, kind: str) -> None:
    message = stage.messages[kind]
    for bit in bits(message):
        flipped = flip(message, bit)
        assert refusal(lambda flipped=flipped: stage.deliver(kind, flipped)) in FRAME_CODES, bit


@pytest.mark.parametrize("kind", TYPES)
def test_in_the_seals(stage: Stage, kind: str) -> None:
    frame = decode_request(stage.messages[kind], kind)
    for name in ("mac", "sig"):
        seal = getattr(frame, name)
        for bit in range(len(seal) * 8):
            seals = {"mac": frame.mac, "sig": frame.sig} | {name: flip(seal, bit)}
            forged = encode(Envelope(kind, frame.payload, **seals))
            verdict = refusal(lambda forged=forged: stage.deliver(kind, forged))
            assert verdict is ErrorCode.NOT_AUTHENTICATED, (name, bit)


def _expected(kind: str, payload: bytes) -> ErrorCode:
    """Where the seal is judged first, it is wrong; elsewhere the payload may fail to parse."""
    if kind == "server" or kind not in AUTHENTICATED_BEFORE_IT_IS_PARSED:
        try:
            wire.decode(CODECS[kind], payload)
        except ProtocolError as error:
            return error.code
    return ErrorCode.NOT_AUTHENTICATED


@pytest.mark.parametrize("kind", TYPES)
def test_in_the_payload(stage: Stage, kind: str) -> None:
    frame = decode_request(stage.messages[kind], kind)
    for bit in bits(frame.payload):
        payload = flip(frame.payload, bit)
        forged = encode(Envelope(kind, payload, mac=frame.mac, sig=frame.sig))
        verdict = refusal(lambda forged=forged: stage.deliver(kind, forged))
        assert verdict is _expected(kind, payload), bit


SEALED = [
    ("enrol", "sealed_secret"),
    ("hello", "sealed_secret"),
    ("evidence", "core"),
    ("evidence", "token"),
    ("evidence", "body"),
    ("release", "sealed_secret"),
    ("ack", "session_id"),
    ("ack", "ack_token"),
    ("receipt", "session_id"),
    ("copy", "session_id"),
    ("copy", "ack_token"),
    ("kept", "session_id"),
    ("wait", "session_id"),
    ("wait", "ack_token"),
    ("wake", "session_id"),
]


@given(data=st.data())
@pytest.mark.parametrize(("kind", "member"), SEALED)
def test_in_what_is_sealed_even_if_the_sender_authenticates_it(
    stage: Stage, kind: str, member: str, data: st.DataObject
) -> None:
    """A sender that holds its keys still cannot change what another key or digest binds."""
    message = wire.decode(CODECS[kind], stage.payload(kind))
    octets = getattr(message, member)
    flipped = flip(octets, data.draw(st.integers(0, len(octets) * 8 - 1)))
    encoded = CODECS[kind].encode(message) | {member: b64u_encode(flipped)}
    payload = wire.encode(CODECS[kind], CODECS[kind].decode(encoded))
    if kind == "release":
        frame = decode_request(stage.messages[kind], kind)
        forged = encode(Envelope(kind, payload, mac=frame.mac))
    else:
        forged = stage.seal(kind, payload)
    verdict = refusal(lambda: stage.deliver(kind, forged))
    assert verdict is ErrorCode.NOT_AUTHENTICATED
