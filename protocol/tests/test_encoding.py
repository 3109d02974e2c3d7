"""Strict base64url, strict JSON, and the length prefix."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_world import refusal
from securecloud_protocol.encoding import (
    b64u_decode,
    b64u_encode,
    digest,
    json_decode,
    json_encode,
    length_prefixed,
)
from securecloud_protocol.errors import ErrorCode


@given(st.binary(max_size=200))
def test_base64url_agrees_with_the_standard_library_and_comes_back(octets: bytes) -> None:
    text = b64u_encode(octets)
    assert text == base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
    assert b64u_decode(text) == octets


@given(st.text(alphabet="Aw_-.=+/ \n\u0141\ud800", max_size=9))
def test_no_two_texts_give_the_same_octets(text: str) -> None:
    try:
        octets = b64u_decode(text)
    except Exception as error:
        assert getattr(error, "code", None) is ErrorCode.MALFORMED
    else:
        assert b64u_encode(octets) == text


@pytest.mark.parametrize(
    "text",
    ["A", "AB", "AAB", "AA==", "AAA=", "AA\n", "A A", "+w", "/w", "AA.A", "éA", "====", "AAAAA"],
)
def test_base64url_that_is_not_canonical_is_malformed(text: str) -> None:
    assert refusal(lambda: b64u_decode(text)) is ErrorCode.MALFORMED


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" {}",
        b"{} ",
        b"{}\n",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":1,"\\u0061":2}',
        b"1.0",
        b"1e3",
        b"-0.0",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"9007199254740992",
        b"-9007199254740992",
        b"9" * 100_000,
        b"01",
        b"'a'",
        b'"\xff"',
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b'"\x00"',
        b'"\x1f"',
        b"[1,]",
        b"// {}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000,
        b'"\\ud800' + b"[" * 50_000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_json_beyond_the_specification_is_malformed(text: bytes) -> None:
    assert refusal(lambda: json_decode(text)) is ErrorCode.MALFORMED


def test_escapes_and_the_largest_integers_are_taken() -> None:
    assert json_decode(b'"\\ud83d\\ude00\\u0000"') == "\U0001f600\x00"
    assert json_decode(b"[9007199254740991,-9007199254740991,-0]") == [2**53 - 1, 1 - 2**53, 0]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_json_comes_back(value: object) -> None:
    assert json_decode(json_encode(value)) == value


@pytest.mark.parametrize("value", [float("nan"), "\ud800", {"a": {1, 2}}])
def test_what_json_cannot_hold_is_an_error_of_the_sender(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        json_encode(value)


def test_length_prefix_keeps_parts_apart() -> None:
    assert length_prefixed((b"ab", b"", b"c")) == b"\0\0\0\2ab\0\0\0\0\0\0\0\1c"
    assert digest(b"label", b"x") == hashlib.sha256(b"\0\0\0\5label\0\0\0\1x").digest()


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_length_prefix_is_injective(one: list[bytes], two: list[bytes]) -> None:
    assert (length_prefixed(one) == length_prefixed(two)) == (one == two)
