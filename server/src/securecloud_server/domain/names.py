"""What names, reasons and paths look like, and how to say so."""

import re
from collections.abc import Iterable

from securecloud_server.domain.errors import FieldError, Invalid

NAME_PATTERN = r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?"
NAME_EXPECTED = "1 to 63 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends"
REASON_MAX = 500
REASON_MIN = 3

_NAME = re.compile(NAME_PATTERN)
# Control characters, line breaks of Unicode, and what turns the direction of writing around: in
# a log a reason must not look like another one.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def is_name(value: object) -> bool:
    """Whether `value` can be the name of anything."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def name_errors(field: str, value: object) -> list[FieldError]:
    """Return what is wrong with a name."""
    if is_name(value):
        return []
    return [FieldError(field, NAME_EXPECTED, f"expected {NAME_EXPECTED}")]


def line_errors(field: str, value: str, minimum: int, maximum: int) -> list[FieldError]:
    """Return what is wrong with one line of free text."""
    expected = f"one line of {minimum} to {maximum} characters"
    if minimum <= len(value.strip()) and len(value) <= maximum and not _CONTROL.search(value):
        return []
    return [FieldError(field, expected, f"expected {expected}")]


def reason_errors(value: str) -> list[FieldError]:
    """Return what is wrong with the reason for a decision."""
    return line_errors("reason", value, REASON_MIN, REASON_MAX)


def require(*errors: Iterable[FieldError]) -> None:
    """Raise Invalid with all of `errors`, if there are any."""
    found = [error for some in errors for error in some]
    if found:
        raise Invalid(found)
