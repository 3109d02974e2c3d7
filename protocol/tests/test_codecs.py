"""Each codec takes exactly its values, in both directions."""

from dataclasses import dataclass
from typing import Any

import pytest
from protocol_world import refusal
from securecloud_protocol import codecs
from securecloud_protocol.codecs import Codec
from securecloud_protocol.encoding import b64u_encode
from securecloud_protocol.errors import ErrorCode, ProtocolError


@dataclass(frozen=True)
class Pair:
    left: str
    right: int


PAIR = codecs.record(Pair, left=codecs.text("letters", r"[a-z]+"), right=codecs.integer(0, 9))
UNIQUE = codecs.items(codecs.text("letters", r"[a-z]"), 2, unique=str)
TABLE = codecs.table(codecs.text("letters", r"[a-z]"), codecs.boolean, 1)
FREE = codecs.json_value(3)

ACCEPTED: list[tuple[Codec[Any], Any, Any]] = [
    (codecs.octets(2), b64u_encode(b"ab"), b"ab"),
    (codecs.octets(0, 2), "", b""),
    (codecs.text("letters", r"[a-z]+"), "abc", "abc"),
    (codecs.choice("on", "off"), "on", "on"),
    (codecs.integer(-1, 5), -1, -1),
    (codecs.boolean, False, False),
    (codecs.optional(codecs.boolean), None, None),
    (codecs.optional(codecs.octets(1)), b64u_encode(b"a"), b"a"),
    (UNIQUE, ["a", "b"], ("a", "b")),
    (TABLE, {"a": True}, {"a": True}),
    (FREE, {"a": [1, None, "x", True]}, {"a": [1, None, "x", True]}),
    (PAIR, {"left": "a", "right": 1}, Pair("a", 1)),
]
REFUSED: list[tuple[Codec[Any], Any]] = [
    (codecs.octets(2), b64u_encode(b"a")),
    (codecs.octets(2), b64u_encode(b"abc")),
    (codecs.octets(2), None),
    (codecs.octets(2), [b64u_encode(b"ab")]),
    (codecs.text("letters", r"[a-z]+"), "abc\n"),
    (codecs.text("letters", r"[a-z]+"), ["abc"]),
    (codecs.choice("on", "off"), "ON"),
    (codecs.choice("on", "off"), ["on"]),
    (codecs.integer(0, 5), True),
    (codecs.integer(0, 5), 6),
    (codecs.integer(0, 5), -1),
    (codecs.integer(0, 5), "1"),
    (codecs.boolean, 0),
    (codecs.boolean, "true"),
    (UNIQUE, ["a", "a"]),
    (UNIQUE, ["a", "b", "c"]),
    (UNIQUE, "ab"),
    (UNIQUE, {"a": 1}),
    (TABLE, {"A": True}),
    (TABLE, {"a": True, "b": True}),
    (TABLE, [["a", True]]),
    (FREE, [[[[]]]]),
    (FREE, "a\x00"),
    (FREE, {"a\x00": 1}),
    (PAIR, {"left": "a"}),
    (PAIR, {"left": "a", "right": 1, "third": 1}),
    (PAIR, {"left": "a", "Right": 1}),
    (PAIR, [["left", "a"], ["right", 1]]),
]


@pytest.mark.parametrize(("codec", "encoded", "value"), ACCEPTED)
def test_values_go_both_ways(codec: Codec[Any], encoded: Any, value: Any) -> None:
    assert codec.decode(encoded) == value
    assert codec.encode(value) == encoded


@pytest.mark.parametrize(("codec", "encoded"), REFUSED)
def test_anything_else_is_malformed(codec: Codec[Any], encoded: Any) -> None:
    assert refusal(lambda: codec.decode(encoded)) is ErrorCode.MALFORMED


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        (codecs.octets(2), b"a"),
        (codecs.text("letters", r"[a-z]+"), "A"),
        (codecs.choice("on"), "off"),
        (codecs.integer(0, 5), 6),
        (codecs.boolean, 1),
        (UNIQUE, ("a", "a")),
        (TABLE, {"A": True}),
        (FREE, 0.5),
        (FREE, 2**53),
        (FREE, {1: 1}),
        (FREE, {"a"}),
        (PAIR, Pair("a", 10)),
    ],
)
def test_nothing_is_encoded_that_the_peer_must_refuse(codec: Codec[Any], value: Any) -> None:
    assert refusal(lambda: codec.encode(value)) is ErrorCode.MALFORMED


def test_the_detail_names_the_member_and_not_its_value() -> None:
    with pytest.raises(ProtocolError) as caught:
        PAIR.decode({"left": "SECRET", "right": 1})
    assert "Pair.left" in caught.value.detail
    assert "SECRET" not in str(caught.value)


def test_contradicting_members_are_malformed_both_ways() -> None:
    codec = codecs.checked(PAIR, lambda pair: "odd" if pair.right % 2 else None)
    assert codec.decode({"left": "a", "right": 2}) == Pair("a", 2)
    assert refusal(lambda: codec.decode({"left": "a", "right": 1})) is ErrorCode.MALFORMED
    assert refusal(lambda: codec.encode(Pair("a", 1))) is ErrorCode.MALFORMED


def test_a_record_must_name_the_fields_of_its_class() -> None:
    with pytest.raises(TypeError, match="Pair"):
        codecs.record(Pair, right=codecs.boolean, left=codecs.boolean)
