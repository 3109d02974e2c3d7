"""Whatever the octets, an endpoint answers with a result or a ProtocolError, and nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_world import TYPES, Stage, refusal
from securecloud_protocol.encoding import b64u_encode
from securecloud_protocol.errors import ErrorCode

REFUSED = {
    ErrorCode.MALFORMED,
    ErrorCode.NOT_AUTHENTICATED,
    ErrorCode.UNEXPECTED_TYPE,
    ErrorCode.UNSUPPORTED_VERSION,
    ErrorCode.TOO_LARGE,
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=70).map(b64u_encode),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
NASTY = {
    "empty": b"",
    "nul": b"\0",
    "not utf-8": b"\xff\xfe",
    "deep list": b"[" * 200_000,
    "deep object": b'{"a":' * 40_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "long integer": b"1" * 200_000,
    "long negative integer": b'{"v":-' + b"1" * 200_000 + b"}",
    "long string": b'{"v":1,"type":"' + b"a" * 200_000 + b'"}',
    "lone surrogate type": b'{"v":1,"type":"\\ud800"}',
    "lone surrogate name": b'{"v":1,"\\udc00":1}',
    "huge exponent": b'{"v":1e999999999}',
    "not a number": b'{"v":NaN}',
    "many members": b"{" + b",".join(b'"%d":0' % n for n in range(20_000)) + b"}",
    "many lists": b"[" + b"[]," * 80_000 + b"[]]",
    "too large": b" " * (1024 * 1024 + 1),
}


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("kind", TYPES)
def test_known_bombs(stage: Stage, kind: str, name: str) -> None:
    verdict = refusal(lambda: stage.deliver(kind, NASTY[name]))
    assert verdict is (ErrorCode.TOO_LARGE if name == "too large" else ErrorCode.MALFORMED)


@pytest.mark.parametrize("name", sorted(set(NASTY) - {"too large"}))
@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "release"])
def test_known_bombs_in_an_authenticated_payload(stage: Stage, kind: str, name: str) -> None:
    payload = NASTY[name][: 128 * 1024] or b"  "
    message = stage.seal(kind, payload)
    assert refusal(lambda: stage.deliver(kind, message)) is ErrorCode.MALFORMED


@pytest.mark.parametrize("name", sorted(set(NASTY) - {"too large", "empty"}))
def test_known_bombs_in_an_encrypted_body(stage: Stage, name: str) -> None:
    bomb = NASTY[name][: 64 * 1024]
    for kind, message in (
        ("evidence", stage.seal_evidence_body(bomb)),
        ("release", stage.seal_release_body(bomb)),
        ("challenge", stage.seal_core(bomb.ljust(2)[:60_000])),
    ):
        verdict = refusal(lambda kind=kind, message=message: stage.deliver(kind, message))
        assert verdict is ErrorCode.MALFORMED


@pytest.mark.parametrize("kind", TYPES)
@given(data=st.binary(max_size=300))
@settings(max_examples=40)
def test_any_octets(stage: Stage, kind: str, data: bytes) -> None:
    assert refusal(lambda: stage.deliver(kind, data)) is ErrorCode.MALFORMED


@pytest.mark.parametrize("kind", TYPES)
@given(frame=JSON)
@settings(max_examples=40)
def test_any_json(stage: Stage, kind: str, frame: Any) -> None:
    assert refusal(lambda: stage.deliver(kind, json.dumps(frame).encode())) in REFUSED


@pytest.mark.parametrize("kind", TYPES)
@given(data=st.data())
@settings(max_examples=40)
def test_any_value_of_any_member(stage: Stage, kind: str, data: st.DataObject) -> None:
    frame = json.loads(stage.messages[kind])
    name = data.draw(st.sampled_from(sorted(frame)))
    value = data.draw(JSON.filter(lambda value: value != frame[name]))
    changed = json.dumps(frame | {name: value}).encode()
    assert refusal(lambda: stage.deliver(kind, changed)) in REFUSED


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "release"])
@given(data=st.data())
@settings(max_examples=40)
def test_any_value_of_any_authenticated_member(
    stage: Stage, kind: str, data: st.DataObject
) -> None:
    payload = json.loads(stage.payload(kind))
    name = data.draw(st.sampled_from(sorted(payload)))
    message = stage.seal(kind, json.dumps(payload | {name: data.draw(JSON)}).encode())
    try:
        stage.deliver(kind, message)
    except Exception as error:
        assert getattr(error, "code", None) in REFUSED
