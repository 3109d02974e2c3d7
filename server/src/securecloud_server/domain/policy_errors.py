"""What is wrong with a policy text: every problem at once, each with its place."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field

from securecloud_server.domain.errors import FieldError, Invalid

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


class PolicyError(Invalid):
    """A policy text is refused; ``errors`` holds all of its problems in the order of the text."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the text; problems reported at it land in one list shared by all places."""

    path: str = ""
    errors: list[FieldError] = field(default_factory=list)

    def key(self, name: object) -> Place:
        """Return the place of a mapping's key."""
        text = name if isinstance(name, str) else shown(name)
        return Place(f"{self.path}.{text}" if self.path else text, self.errors)

    def item(self, index: int) -> Place:
        """Return the place of a list's element."""
        return Place(f"{self.path}[{index}]", self.errors)

    def refuse(self, expected: str, message: str) -> None:
        """Report a problem here."""
        self.errors.append(FieldError(self.path, expected, message))

    def refuse_value(self, expected: str, value: object) -> None:
        """Report that ``value`` is not what was expected here."""
        self.refuse(expected, f"expected {expected}, got {shown(value)}")


def shown(value: object) -> str:
    """Return a short form of any value for a message, with the names YAML writers know."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _SHORT.repr(value)
