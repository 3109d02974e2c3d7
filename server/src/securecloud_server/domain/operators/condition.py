"""What an operator with its value becomes: a test of the machine's value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from securecloud_server.domain.fact_paths import FieldPath
from securecloud_server.domain.policy_errors import Place

Outcome = bool | str
"""True: holds. False: does not. Text: cannot be told, and why."""

TEXT_WANTED = "not provided: expected a string"
LISTING_LIMIT = 300
_SHOWN_ITEMS = 10


@dataclass(frozen=True, slots=True)
class Condition:
    """An operator and its value, ready to be used on a machine's value.

    ``value`` is the canonical form of what the policy says; ``test`` never raises on JSON values;
    ``why`` explains a failed test of a value of the right type; ``keys`` are the keys of a map
    that the test looks at.
    """

    value: Any
    text: str
    test: Callable[[Any], Outcome]
    why: Callable[[Any], str]
    keys: tuple[str, ...] = ()


Builder = Callable[[FieldPath, Any, Place], Condition | None]
"""Builds a condition from the value written in a policy, or reports problems at its place."""


def listed(items: list[str]) -> str:
    """Return items for people, cut to a readable length."""
    more = len(items) - _SHOWN_ITEMS
    text = ", ".join(items[:_SHOWN_ITEMS]) + (f" and {more} more" if more > 0 else "")
    return text if len(text) <= LISTING_LIMIT else text[: LISTING_LIMIT - 1] + "…"
