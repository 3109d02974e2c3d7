"""Regular expressions of policies: RE2, anchored to the whole value."""

from __future__ import annotations

import re
from collections.abc import Callable

import re2  # type: ignore[import-untyped]  # google-re2 ships no type hints

PATTERN_LIMIT = 512
_MEMORY_LIMIT = 1 << 20

_UNBOUNDED = re.compile(r"[*+]|\{[0-9]+,\}")
_TOKEN = re.compile(
    r"\\Q.*?(?:\\E|\Z)"  # quoted literal
    r"|\\."
    r"|\[\^?\]?(?:\[:[^\]]*:\]|\\.|[^\]\\])*\]"  # character class
    r"|[*+]\??|\{[0-9]+,\}\??"
    r"|.",
    re.DOTALL,
)


class PatternError(ValueError):
    """A regular expression is refused; the message says why."""


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Return a test of whole values against an RE2 expression; raises PatternError."""
    if not pattern or len(pattern) > PATTERN_LIMIT:
        raise PatternError(f"a pattern has 1 to {PATTERN_LIMIT} characters")
    compiled = _compile(pattern)
    if _nests_unbounded_repetition(pattern):
        raise PatternError(
            "an unbounded repetition inside another one, such as (a+)+, is refused: other engines "
            "take exponential time for it; repeat once, as in a+"
        )
    fullmatch = compiled.fullmatch

    def matches(value: str) -> bool:
        return fullmatch(value) is not None

    return matches


def _compile(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.max_mem = _MEMORY_LIMIT
    options.log_errors = False
    options.never_capture = True
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise PatternError(f"RE2 refuses the pattern: {text}") from None


def _nests_unbounded_repetition(pattern: str) -> bool:
    """Tell whether a group that holds an unbounded repetition is itself repeated unboundedly.

    Works on patterns that RE2 has accepted, so that brackets are balanced.
    """
    open_groups = [False]
    closed_holds_repetition = False
    for found in _TOKEN.finditer(pattern):
        part = found.group()
        if part == "(":
            open_groups.append(False)
        elif part == ")" and len(open_groups) > 1:
            closed_holds_repetition = open_groups.pop()
            open_groups[-1] |= closed_holds_repetition
            continue
        elif _UNBOUNDED.match(part):
            if closed_holds_repetition:
                return True
            open_groups[-1] = True
        closed_holds_repetition = False
    return False
