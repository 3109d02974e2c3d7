"""Operators of lists of strings and of maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from securecloud_server.domain.fact_paths import FactPathError, FieldPath, check_map_key
from securecloud_server.domain.operators.condition import Builder, Condition, Outcome, listed
from securecloud_server.domain.operators.values import is_strings, read_each, read_text
from securecloud_server.domain.policy_errors import Place

_LIST_WANTED = "not provided: expected a list of strings"
_MAP_WANTED = "not provided: expected a map"

_Names = frozenset[str]


def _list(
    name: str,
    holds: Callable[[_Names, list[str]], bool],
    why: Callable[[_Names, list[str]], str],
    *,
    may_be_empty: bool = False,
) -> Builder:
    def build(_path: FieldPath, value: Any, place: Place) -> Condition | None:
        items = read_each(value, place, "strings", read_text, may_be_empty=may_be_empty)
        if items is None:
            return None
        named = frozenset(items)

        def test(v: Any) -> Outcome:
            return holds(named, v) if is_strings(v) else _LIST_WANTED

        return Condition(items, f"{name} {listed(items)}", test, lambda v: why(named, v))

    return build


def _missing(named: _Names, found: list[str]) -> str:
    missing = sorted(named.difference(found))
    return f"missing: {listed(missing)}" if missing else "none is missing"


def _unwanted(named: _Names, found: list[str]) -> str:
    unwanted = sorted(named.intersection(found))
    return f"found: {listed(unwanted)}" if unwanted else "none was found"


def _others(named: _Names, found: list[str]) -> str:
    others = sorted(set(found) - named)
    return f"not allowed: {listed(others)}" if others else "all are allowed"


def _has_keys(path: FieldPath, value: Any, place: Place) -> Condition | None:
    keys = read_each(value, place, "keys", lambda v, at: _read_key(path, v, at))
    if keys is None:
        return None
    wanted = frozenset(keys)

    def test(v: Any) -> Outcome:
        if type(v) is not dict:
            return _MAP_WANTED
        return all(v.get(key) is not None for key in wanted)

    def why(v: dict[str, Any]) -> str:
        return _missing(wanted, [key for key in wanted if v.get(key) is not None])

    return Condition(keys, f"has_keys {listed(keys)}", test, why, keys=tuple(keys))


def _read_key(path: FieldPath, value: Any, place: Place) -> str | None:
    key = read_text(value, place)
    if key is None:
        return None
    try:
        check_map_key(path.spec, key)
    except FactPathError as error:
        place.refuse(error.expected, str(error))
        return None
    return key


STRING_LIST: dict[str, Builder] = {
    "includes_all": _list("includes_all", lambda named, v: named.issubset(v), _missing),
    "includes_any": _list("includes_any", lambda named, v: not named.isdisjoint(v), _missing),
    "excludes": _list("excludes", lambda named, v: named.isdisjoint(v), _unwanted),
    "only": _list("only", lambda named, v: named.issuperset(v), _others, may_be_empty=True),
}
MAP: dict[str, Builder] = {"has_keys": _has_keys}
