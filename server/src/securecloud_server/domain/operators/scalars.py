"""Operators of strings, integers, booleans and versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from securecloud_server.domain.fact_paths import FieldPath
from securecloud_server.domain.operators.condition import (
    TEXT_WANTED,
    Builder,
    Condition,
    Outcome,
    listed,
)
from securecloud_server.domain.operators.values import (
    is_integer,
    read_each,
    read_integer,
    read_list,
    read_text,
)
from securecloud_server.domain.patterns import PatternError, compile_pattern
from securecloud_server.domain.policy_errors import Place, shown
from securecloud_server.domain.versions import VersionKey, compare_keys, version_key

_INTEGER_WANTED = "not provided: expected an integer"
_BOOLEAN_WANTED = "not provided: expected true or false"
_VERSION_WANTED = "not provided: expected a version"
_PAIR = 2


def _is(value: Any) -> str:
    return f"is {shown(value)}"


def _equals(path: FieldPath, value: Any, place: Place) -> Condition | None:
    want = read_text(value, place, path.field.choices)
    if want is None:
        return None
    return Condition(
        want,
        f"equals {want!r}",
        lambda v: v == want if type(v) is str else TEXT_WANTED,
        _is,
    )


def _not_equals(path: FieldPath, value: Any, place: Place) -> Condition | None:
    want = read_text(value, place, path.field.choices)
    if want is None:
        return None
    return Condition(
        want,
        f"not_equals {want!r}",
        lambda v: v != want if type(v) is str else TEXT_WANTED,
        _is,
    )


def _strings(path: FieldPath, value: Any, place: Place) -> list[str] | None:
    return read_each(value, place, "strings", lambda v, at: read_text(v, at, path.field.choices))


def _one_of(path: FieldPath, value: Any, place: Place) -> Condition | None:
    items = _strings(path, value, place)
    if items is None:
        return None
    wanted = frozenset(items)
    return Condition(
        items,
        f"one_of {listed(items)}",
        lambda v: v in wanted if type(v) is str else TEXT_WANTED,
        _is,
    )


def _none_of(path: FieldPath, value: Any, place: Place) -> Condition | None:
    items = _strings(path, value, place)
    if items is None:
        return None
    unwanted = frozenset(items)
    return Condition(
        items,
        f"none_of {listed(items)}",
        lambda v: v not in unwanted if type(v) is str else TEXT_WANTED,
        _is,
    )


def _matches(_path: FieldPath, value: Any, place: Place) -> Condition | None:
    pattern = read_text(value, place)
    if pattern is None:
        return None
    try:
        matches = compile_pattern(pattern)
    except PatternError as error:
        place.refuse("an RE2 regular expression", str(error))
        return None

    def test(v: Any) -> Outcome:
        if type(v) is not str:
            return TEXT_WANTED
        try:
            return matches(v)
        except UnicodeEncodeError:
            return "not provided: not valid Unicode text"

    return Condition(pattern, f"matches {pattern!r}", test, _is)


def _starts_with(_path: FieldPath, value: Any, place: Place) -> Condition | None:
    prefix = read_text(value, place)
    if prefix is None:
        return None
    return Condition(
        prefix,
        f"starts_with {prefix!r}",
        lambda v: v.startswith(prefix) if type(v) is str else TEXT_WANTED,
        _is,
    )


def _integer(name: str, holds: Callable[[int, int], bool]) -> Builder:
    def build(_path: FieldPath, value: Any, place: Place) -> Condition | None:
        want = read_integer(value, place)
        if want is None:
            return None
        return Condition(
            want,
            f"{name} {want}",
            lambda v: holds(v, want) if is_integer(v) else _INTEGER_WANTED,
            _is,
        )

    return build


def _between(_path: FieldPath, value: Any, place: Place) -> Condition | None:
    items = read_list(value, place, "two integers")
    bounds = read_each(items, place, "integers", read_integer) if items else None
    if bounds is None:
        return None
    if len(bounds) != _PAIR or bounds[0] > bounds[1]:
        place.refuse_value("[lowest, highest], both included", value)
        return None
    low, high = bounds
    return Condition(
        [low, high],
        f"between {low} and {high}",
        lambda v: low <= v <= high if is_integer(v) else _INTEGER_WANTED,
        _is,
    )


def _boolean(_path: FieldPath, value: Any, place: Place) -> Condition | None:
    if not isinstance(value, bool):
        place.refuse_value("true or false", value)
        return None
    return Condition(
        value,
        f"is {shown(value)}",
        lambda v: v is value if type(v) is bool else _BOOLEAN_WANTED,
        _is,
    )


def _read_version(value: Any, place: Place) -> str | None:
    if not isinstance(value, str) or version_key(value) is None:
        place.refuse_value("a version in quotes, such as '3.0.2'", value)
        return None
    return value


def _parsed(value: Any) -> VersionKey | None:
    return version_key(value) if type(value) is str else None


def _version(name: str, holds: Callable[[int], bool]) -> Builder:
    def build(_path: FieldPath, value: Any, place: Place) -> Condition | None:
        text = _read_version(value, place)
        want = version_key(text) if text is not None else None
        if want is None:
            return None

        def test(v: Any) -> Outcome:
            key = _parsed(v)
            return _VERSION_WANTED if key is None else holds(compare_keys(key, want))

        return Condition(text, f"{name} {text}", test, _is)

    return build


def _version_one_of(_path: FieldPath, value: Any, place: Place) -> Condition | None:
    texts = read_each(value, place, "versions", _read_version)
    if texts is None:
        return None
    wanted = [key for key in map(version_key, texts) if key is not None]

    def test(v: Any) -> Outcome:
        key = _parsed(v)
        if key is None:
            return _VERSION_WANTED
        return any(compare_keys(key, want) == 0 for want in wanted)

    return Condition(texts, f"one_of {listed(texts)}", test, _is)


STRING: dict[str, Builder] = {
    "equals": _equals,
    "not_equals": _not_equals,
    "one_of": _one_of,
    "none_of": _none_of,
    "matches": _matches,
    "starts_with": _starts_with,
}
INTEGER: dict[str, Builder] = {
    "equals": _integer("equals", lambda v, want: v == want),
    "not_equals": _integer("not_equals", lambda v, want: v != want),
    "at_least": _integer("at_least", lambda v, want: v >= want),
    "at_most": _integer("at_most", lambda v, want: v <= want),
    "between": _between,
}
BOOLEAN: dict[str, Builder] = {"is": _boolean}
VERSION: dict[str, Builder] = {
    "equals": _version("equals", lambda order: order == 0),
    "at_least": _version("at_least", lambda order: order >= 0),
    "at_most": _version("at_most", lambda order: order <= 0),
    "one_of": _version_one_of,
}
