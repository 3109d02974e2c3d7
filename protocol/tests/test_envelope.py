"""The outer frame."""

import json
from typing import Any

import pytest
from protocol_world import TYPES, Stage, refusal
from securecloud_protocol import MAX_MESSAGE_BYTES
from securecloud_protocol.envelope import (
    Envelope,
    PeerError,
    decode,
    decode_request,
    encode,
    encode_error,
)
from securecloud_protocol.errors import ErrorCode, ProtocolError

SEALS = {
    "server": {"sig"},
    "enrol": {"sig"},
    "enrolled": {"sig"},
    "hello": {"sig"},
    "challenge": {"mac"},
    "evidence": {"mac", "sig"},
    "release": {"mac"},
    "ack": {"mac"},
    "receipt": {"mac"},
    "copy": {"mac"},
    "kept": {"mac"},
    "wait": {"mac"},
    "wake": {"mac"},
}


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_has_its_seals_and_no_other_member(stage: Stage, kind: str) -> None:
    frame = json.loads(stage.messages[kind])
    assert frame.keys() == {"v", "type", "payload"} | SEALS[kind]
    assert (frame["v"], frame["type"]) == (1, kind)


def test_the_octets_are_compact_json_in_a_fixed_order() -> None:
    assert encode(Envelope("receipt", b"{}", mac=bytes(32))) == (
        b'{"v":1,"type":"receipt","payload":"e30","mac":"' + b"A" * 43 + b'"}'
    )
    assert encode_error(ErrorCode.STALE) == b'{"v":1,"type":"error","code":"stale"}'


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"v": 2}, ErrorCode.UNSUPPORTED_VERSION),
        ({"v": 0}, ErrorCode.UNSUPPORTED_VERSION),
        ({"v": -1}, ErrorCode.UNSUPPORTED_VERSION),
        ({"v": True}, ErrorCode.MALFORMED),
        ({"v": "1"}, ErrorCode.MALFORMED),
        ({"v": None}, ErrorCode.MALFORMED),
        ({"v": [1]}, ErrorCode.MALFORMED),
        ({"v": 2, "type": "something new", "more": 1}, ErrorCode.UNSUPPORTED_VERSION),
        ({"type": "something new"}, ErrorCode.MALFORMED),
        ({"type": ["receipt"]}, ErrorCode.MALFORMED),
        ({"type": {}}, ErrorCode.MALFORMED),
        ({"type": None}, ErrorCode.MALFORMED),
        ({"sig": "A" * 86}, ErrorCode.MALFORMED),
        ({"mac": "A" * 42}, ErrorCode.MALFORMED),
        ({"mac": "A" * 44}, ErrorCode.MALFORMED),
        ({"mac": None}, ErrorCode.MALFORMED),
        ({"payload": ""}, ErrorCode.MALFORMED),
        ({"payload": "e30="}, ErrorCode.MALFORMED),
        ({"payload": {}}, ErrorCode.MALFORMED),
        ({"code": "internal"}, ErrorCode.MALFORMED),
    ],
    ids=str,
)
def test_other_frames_are_refused(change: dict[str, Any], code: ErrorCode) -> None:
    frame = {"v": 1, "type": "receipt", "payload": "e30", "mac": "A" * 43}
    assert decode(json.dumps(frame).encode(), "receipt").payload == b"{}"
    changed = json.dumps(frame | change).encode()
    assert refusal(lambda: decode(changed, "receipt")) is code
    assert refusal(lambda: decode_request(changed, "receipt")) is code


@pytest.mark.parametrize("data", [b"[]", b"1", b'"x"', b"null", b"{}", b'{"type":"receipt"}'])
def test_frames_that_are_no_object_or_have_no_version_are_malformed(data: bytes) -> None:
    assert refusal(lambda: decode(data, "receipt")) is ErrorCode.MALFORMED


def test_size_is_judged_before_content() -> None:
    assert refusal(lambda: decode(b"[" * (MAX_MESSAGE_BYTES + 1), "ack")) is ErrorCode.TOO_LARGE
    assert refusal(lambda: decode(b"[" * MAX_MESSAGE_BYTES, "ack")) is ErrorCode.MALFORMED


def test_nothing_is_sent_that_is_too_large() -> None:
    with pytest.raises(ValueError, match="ack"):
        encode(Envelope("ack", bytes(MAX_MESSAGE_BYTES), mac=bytes(32)))


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_frame_in_reply_raises_its_code(code: ErrorCode) -> None:
    with pytest.raises(PeerError) as caught:
        decode(encode_error(code), "challenge")
    assert caught.value.code is code


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_frame_as_request_chooses_no_code(code: ErrorCode) -> None:
    assert refusal(lambda: decode_request(encode_error(code), "hello")) is ErrorCode.UNEXPECTED_TYPE


@pytest.mark.parametrize(
    "frame",
    [
        b'{"v":1,"type":"error"}',
        b'{"v":1,"type":"error","code":"nonsense"}',
        b'{"v":1,"type":"error","code":null}',
        b'{"v":1,"type":"error","code":["stale"]}',
        b'{"v":1,"type":"error","code":{}}',
        b'{"v":1,"type":"error","code":"stale","detail":"x"}',
        b'{"v":1,"type":"error","code":"stale","code":"internal"}',
    ],
)
def test_error_frames_are_decoded_strictly(frame: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(frame, "challenge")
    assert caught.value.code is ErrorCode.MALFORMED
    assert not isinstance(caught.value, PeerError)
