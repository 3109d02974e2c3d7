"""Small combinators: each turns one untrusted JSON value into a typed one, and back.

A codec never guesses: a missing or unknown member, a wrong type, length or character is refused
with `ErrorCode.MALFORMED` and a detail that names the member.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from securecloud_protocol.encoding import b64u_decode, b64u_encode
from securecloud_protocol.errors import ProtocolError, malformed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """A pair of functions between a JSON value and `T`."""

    decode: Callable[[Any], T]
    encode: Callable[[T], Any]


def _same(value: T) -> T:
    return value


def octets(minimum: int, maximum: int | None = None) -> Codec[bytes]:
    """Base64url text of `minimum` to `maximum` octets; of exactly `minimum` without a maximum."""
    limit = minimum if maximum is None else maximum

    def decode(value: Any) -> bytes:
        if not isinstance(value, str):
            raise malformed("expected base64url text")
        decoded = b64u_decode(value)
        if not minimum <= len(decoded) <= limit:
            raise malformed(f"expected {minimum} to {limit} octets, got {len(decoded)}")
        return decoded

    return Codec(decode, b64u_encode)


def text(pattern: str) -> Codec[str]:
    """Text that matches the whole of `pattern`."""
    compiled = re.compile(pattern)

    def decode(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise malformed(f"expected text like {pattern}")
        return value

    return Codec(decode, _same)


def choice(*values: str) -> Codec[str]:
    """One of a closed list of words."""

    def decode(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise malformed(f"expected one of {', '.join(values)}")
        return value

    return Codec(decode, _same)


def integer(minimum: int, maximum: int) -> Codec[int]:
    """An integer within bounds; JSON booleans are not integers."""

    def decode(value: Any) -> int:
        if type(value) is not int or not minimum <= value <= maximum:
            raise malformed(f"expected an integer from {minimum} to {maximum}")
        return value

    return Codec(decode, _same)


def _decode_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise malformed("expected true or false")
    return value


boolean: Codec[bool] = Codec(_decode_boolean, _same)


def optional(inner: Codec[T]) -> Codec[T | None]:
    """`null`, or what `inner` takes. The member itself is still required."""
    return Codec(
        lambda value: None if value is None else inner.decode(value),
        lambda value: None if value is None else inner.encode(value),
    )


def items(inner: Codec[T], maximum: int) -> Codec[tuple[T, ...]]:
    """A list of at most `maximum` items."""

    def decode(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > maximum:
            raise malformed(f"expected a list of at most {maximum} items")
        return tuple(inner.decode(item) for item in value)

    return Codec(decode, lambda values: [inner.encode(value) for value in values])


def table(key: Codec[str], inner: Codec[T], maximum: int) -> Codec[Mapping[str, T]]:
    """An object with free member names, at most `maximum` of them."""

    def decode(value: Any) -> Mapping[str, T]:
        if not isinstance(value, dict) or len(value) > maximum:
            raise malformed(f"expected an object of at most {maximum} members")
        return {key.decode(name): inner.decode(item) for name, item in value.items()}

    return Codec(decode, lambda values: {name: inner.encode(item) for name, item in values.items()})


def json_value(maximum_depth: int) -> Codec[Any]:
    """Any JSON value that nests at most `maximum_depth` deep and holds no NUL character."""

    def check(value: Any, depth: int) -> None:
        if depth > maximum_depth:
            raise malformed(f"nested deeper than {maximum_depth}")
        if isinstance(value, dict):
            for name, item in value.items():
                check(name, depth)
                check(item, depth + 1)
        elif isinstance(value, list):
            for item in value:
                check(item, depth + 1)
        elif isinstance(value, str) and "\x00" in value:
            raise malformed("text holds a NUL character")

    def decode(value: Any) -> Any:
        check(value, 1)
        return value

    return Codec(decode, _same)


def record(cls: type[T], **members: Codec[Any]) -> Codec[T]:
    """An object with exactly these members, as the dataclass `cls` with the same fields."""
    names = tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]  # T is a dataclass
    if names != tuple(members):
        raise TypeError(f"{cls.__name__}: codec members {tuple(members)} are not fields {names}")

    def decode(value: Any) -> T:
        if not isinstance(value, dict):
            raise malformed(f"{cls.__name__}: expected an object")
        if value.keys() != members.keys():
            odd = sorted(value.keys() ^ members.keys())
            raise malformed(f"{cls.__name__}: missing or unknown member {odd[0]!r:.80}")
        decoded = {}
        for name, codec in members.items():
            try:
                decoded[name] = codec.decode(value[name])
            except ProtocolError as error:
                raise malformed(f"{cls.__name__}.{name}: {error.detail}") from None
        return cls(**decoded)

    def encode(value: T) -> dict[str, Any]:
        return {name: codec.encode(getattr(value, name)) for name, codec in members.items()}

    return Codec(decode, encode)
