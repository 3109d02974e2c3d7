"""Small combinators: each turns one untrusted JSON value into a typed one, and back.

A codec never guesses: a missing or unknown member, a wrong type, length or character is refused
with `ErrorCode.MALFORMED` and a detail that names the member. Both directions check, so nothing is
ever sent that the peer must refuse.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from securecloud_protocol.encoding import MAX_INTEGER, b64u_decode, b64u_encode
from securecloud_protocol.errors import ProtocolError, malformed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """A pair of functions between a JSON value and `T`, and what SPEC.md calls such a value."""

    decode: Callable[[Any], T]
    encode: Callable[[T], Any]
    name: str
    members: Mapping[str, "Codec[Any]"] = field(default_factory=dict)


def octets(minimum: int, maximum: int | None = None) -> Codec[bytes]:
    """Base64url text of `minimum` to `maximum` octets; of exactly `minimum` without a maximum."""
    limit = minimum if maximum is None else maximum

    def check_length(value: bytes) -> None:
        if not minimum <= len(value) <= limit:
            raise malformed(f"expected {minimum} to {limit} octets, got {len(value)}")

    def decode(value: Any) -> bytes:
        if not isinstance(value, str):
            raise malformed("expected base64url text")
        decoded = b64u_decode(value)
        check_length(decoded)
        return decoded

    def encode(value: bytes) -> str:
        check_length(value)
        return b64u_encode(value)

    name = f"{minimum} octets" if minimum == limit else f"{minimum} to {limit} octets"
    return Codec(decode, encode, name)


def text(name: str, pattern: str) -> Codec[str]:
    """Text that matches the whole of `pattern`; `name` is what such text is called."""
    compiled = re.compile(pattern)

    def check(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise malformed(f"expected {name}")
        return value

    return Codec(check, check, name)


def choice(*values: str) -> Codec[str]:
    """One of a closed list of words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise malformed(f"expected one of {', '.join(values)}")
        return value

    return Codec(check, check, "one of " + ", ".join(f"`{value}`" for value in values))


def integer(minimum: int, maximum: int) -> Codec[int]:
    """An integer within bounds; JSON booleans are not integers."""

    def check(value: Any) -> int:
        if type(value) is not int or not minimum <= value <= maximum:
            raise malformed(f"expected an integer from {minimum} to {maximum}")
        return value

    return Codec(check, check, f"integer {minimum} to {maximum}")


def _check_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise malformed("expected true or false")
    return value


boolean: Codec[bool] = Codec(_check_boolean, _check_boolean, "boolean")


def optional(inner: Codec[T]) -> Codec[T | None]:
    """`null`, or what `inner` takes. The member itself is still required."""
    return Codec(
        lambda value: None if value is None else inner.decode(value),
        lambda value: None if value is None else inner.encode(value),
        f"{inner.name}, or null",
    )


def items(
    inner: Codec[T], maximum: int, unique: Callable[[T], object] | None = None
) -> Codec[tuple[T, ...]]:
    """A list of at most `maximum` items, no two of which give the same `unique`."""

    def check(values: Sequence[T]) -> None:
        if len(values) > maximum:
            raise malformed(f"expected a list of at most {maximum} items")
        if unique and len({unique(value) for value in values}) != len(values):
            raise malformed("the list names the same thing twice")

    def decode(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > maximum:
            raise malformed(f"expected a list of at most {maximum} items")
        decoded = tuple(inner.decode(item) for item in value)
        check(decoded)
        return decoded

    def encode(values: tuple[T, ...]) -> list[Any]:
        check(values)
        return [inner.encode(value) for value in values]

    name = f"list of at most {maximum}: {inner.name}"
    return Codec(decode, encode, f"{name}; no two alike" if unique else name)


def table(key: Codec[str], inner: Codec[T], maximum: int) -> Codec[Mapping[str, T]]:
    """An object with free member names, at most `maximum` of them."""

    def check(value: Any) -> None:
        if not isinstance(value, Mapping) or len(value) > maximum:
            raise malformed(f"expected an object of at most {maximum} members")

    def decode(value: Any) -> Mapping[str, T]:
        check(value)
        return {key.decode(name): inner.decode(item) for name, item in value.items()}

    def encode(value: Mapping[str, T]) -> dict[str, Any]:
        check(value)
        return {key.encode(name): inner.encode(item) for name, item in value.items()}

    return Codec(decode, encode, f"object of at most {maximum}: {key.name} to {inner.name}")


def json_value(maximum_depth: int) -> Codec[Any]:
    """Any JSON value without fractions or NUL that nests at most `maximum_depth` deep."""

    def check_text(value: Any) -> None:
        if not isinstance(value, str) or "\x00" in value:
            raise malformed("expected text without a NUL character")

    def check(value: Any, depth: int = 1) -> Any:
        if depth > maximum_depth:
            raise malformed(f"nested deeper than {maximum_depth}")
        if isinstance(value, dict):
            for name, item in value.items():
                check_text(name)
                check(item, depth + 1)
        elif isinstance(value, list | tuple):
            for item in value:
                check(item, depth + 1)
        elif type(value) is int:
            if abs(value) > MAX_INTEGER:
                raise malformed("integer out of range")
        elif value is not None and type(value) is not bool:
            check_text(value)
        return value

    return Codec(check, check, f"any JSON, at most {maximum_depth} deep")


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
        encoded = {}
        for name, codec in members.items():
            try:
                encoded[name] = codec.encode(getattr(value, name))
            except ProtocolError as error:
                raise malformed(f"{cls.__name__}.{name}: {error.detail}") from None
        return encoded

    return Codec(decode, encode, f"`{cls.__name__}`", members)


def checked(inner: Codec[T], problem: Callable[[T], str | None]) -> Codec[T]:
    """What `inner` takes, unless `problem` finds members that contradict each other."""

    def check(value: T) -> T:
        found = problem(value)
        if found:
            raise malformed(found)
        return value

    return dataclasses.replace(
        inner,
        decode=lambda value: check(inner.decode(value)),
        encode=lambda value: inner.encode(check(value)),
    )
