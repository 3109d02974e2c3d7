"""Tokens that the server seals for itself."""

import pytest
from protocol_world import AGENT_ID, BOOT_ID, refusal, stream
from securecloud_protocol.errors import ErrorCode
from securecloud_protocol.messages import MAX_DEVICES, MAX_TOKEN_BYTES
from securecloud_protocol.state import (
    AckState,
    SessionState,
    TokenSealer,
    unpack_ack,
    unpack_session,
)

SESSION = SessionState(AGENT_ID, BOOT_ID, b"d" * 32, b"s" * 32, b"k" * 1216, 1, 2, 3, 4)
ACK = AckState(
    AGENT_ID,
    b"i" * 16,
    b"t" * 32,
    *(each * 32 for each in (b"a", b"r", b"c", b"k", b"w", b"v")),
    4,
    5,
    ("a", "b"),
)


def sealer(purpose: str = "challenge token", seed: str = "key") -> TokenSealer:
    return TokenSealer(stream(seed)(32), purpose, stream("salt"))


def test_states_come_back() -> None:
    assert unpack_session(SESSION.pack()) == SESSION
    assert unpack_ack(ACK.pack()) == ACK


def test_the_largest_state_fits_a_token() -> None:
    devices = tuple(f"{number:063}" for number in range(MAX_DEVICES))
    most = 2**53 - 1
    state = AckState(AGENT_ID, bytes(16), *[bytes(32)] * 7, most, most, devices)
    assert len(sealer().seal(state.pack(), b"")) <= MAX_TOKEN_BYTES


def test_a_token_opens_for_its_key_purpose_and_context_only() -> None:
    token = sealer().seal(b"state", b"core")
    assert sealer().open(token, b"core") == b"state"
    for attempt in (
        lambda: sealer().open(token, b"other core"),
        lambda: sealer("ack token").open(token, b"core"),
        lambda: sealer(seed="other").open(token, b"core"),
    ):
        assert refusal(attempt) is ErrorCode.NOT_AUTHENTICATED


@pytest.mark.parametrize("length", range(60))
def test_a_cut_token_is_refused(length: int) -> None:
    token = sealer().seal(b"state of some length", b"core")
    assert refusal(lambda: sealer().open(token[:length], b"core")) is ErrorCode.NOT_AUTHENTICATED


def test_two_tokens_of_the_same_state_share_nothing() -> None:
    one = sealer()
    assert one.seal(b"state", b"")[32:] != one.seal(b"state", b"")[32:]
