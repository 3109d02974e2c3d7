"""Comparison of version texts.

The order is dpkg's (Debian Policy 5.6.12): an optional numeric epoch before a colon counts first;
then runs of non-digits and digits are compared in turn, digits as numbers, letters before other
characters, and ``~`` before everything, even the end. Two things make it fit for other systems:
every hyphen separates components (``6.1.0-18-amd64`` is 6.1.0, 18, amd64), because kernels have
more than one; and ``^`` sorts directly after the end, as in RPM.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import zip_longest

VERSION_LIMIT = 256

_VERSION = re.compile(r"(?:([0-9]{1,9}):)?([A-Za-z0-9][!-~]*)")
_RUN = re.compile(r"([^0-9]*)([0-9]*)")

_Component = tuple[tuple[int, ...] | int, ...]
VersionKey = tuple[int, tuple[_Component, ...]]


def version_key(text: str) -> VersionKey | None:
    """Return a parsed version for `compare_keys`, or None when the text is not a version."""
    return _parse(text) if len(text) <= VERSION_LIMIT else None


@lru_cache(maxsize=1024)
def _parse(text: str) -> VersionKey | None:
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    epoch, rest = found.groups()
    return int(epoch or 0), tuple(_component(part) for part in rest.split("-"))


def compare_keys(left: VersionKey, right: VersionKey) -> int:
    """Return a negative number, 0 or a positive number as left is older, equal or newer."""
    if left[0] != right[0]:
        return left[0] - right[0]
    for a, b in zip_longest(left[1], right[1], fillvalue=_EMPTY):
        if a != b:
            return -1 if a < b else 1
    return 0


def _weight(character: str) -> int:
    if character == "~":
        return -1
    if character == "^":
        return 1
    return ord(character) + (0 if character.isalpha() else 256)


_END = (0,)


def _component(text: str) -> _Component:
    """Return (non-digits, number, non-digits, number, ..., end), comparable as a tuple."""
    key: list[tuple[int, ...] | int] = []
    position = 0
    while position < len(text) or not key:
        found = _RUN.match(text, position)
        if found is None:  # the expression matches the empty text, so this cannot happen
            break
        key.append((*map(_weight, found.group(1)), 0))
        key.append(int(found.group(2) or 0))
        position = found.end()
    key.append(_END)
    return tuple(key)


_EMPTY = _component("")
