"""Strict reading of the values that rules compare with; problems go to the value's place."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeGuard, TypeVar

from securecloud_server.domain.fact_paths import did_you_mean
from securecloud_server.domain.policy_errors import Place

TEXT_LIMIT = 4096
LIST_LIMIT = 256
INTEGER_LIMIT = 2**63

T = TypeVar("T")


def is_integer(value: object) -> TypeGuard[int]:
    """Tell whether a value is an integer in 64 bits; true and false are not."""
    return type(value) is int and -INTEGER_LIMIT <= value < INTEGER_LIMIT


def is_strings(value: object) -> TypeGuard[list[str]]:
    """Tell whether a value is a list of strings."""
    return type(value) is list and set(map(type, value)) <= {str}


def read_text(value: Any, place: Place, choices: Collection[str] = ()) -> str | None:
    """Return a non-empty string, one of ``choices`` where there are any."""
    if not isinstance(value, str) or not value or len(value) > TEXT_LIMIT:
        hint = " in quotes" if isinstance(value, int | float) else ""
        place.refuse_value(f"a string{hint} of 1 to {TEXT_LIMIT} characters", value)
        return None
    if choices and value not in choices:
        expected = f"one of {', '.join(choices)}"
        place.refuse(expected, f"unknown value {value!r}{did_you_mean(value, choices)}")
        return None
    return value


def read_integer(value: Any, place: Place) -> int | None:
    """Return an integer."""
    if not is_integer(value):
        place.refuse_value("an integer", value)
        return None
    return value


def read_list(value: Any, place: Place, what: str, *, may_be_empty: bool = False) -> list[Any]:
    """Return the elements of a list, none when it is refused."""
    if not isinstance(value, list):
        place.refuse_value(f"a list of {what}", value)
        return []
    if len(value) > LIST_LIMIT or not (value or may_be_empty):
        place.refuse(
            f"a list of {0 if may_be_empty else 1} to {LIST_LIMIT} {what}",
            f"the list has {len(value)} elements",
        )
        return []
    return value


def read_each(
    value: Any,
    place: Place,
    what: str,
    read: Callable[[Any, Place], T | None],
    *,
    may_be_empty: bool = False,
) -> list[T] | None:
    """Return a list read element by element, or None when anything in it is refused."""
    before = len(place.errors)
    items = read_list(value, place, what, may_be_empty=may_be_empty)
    read_items = [read(item, place.item(index)) for index, item in enumerate(items)]
    if len(place.errors) > before:
        return None
    return [item for item in read_items if item is not None]
