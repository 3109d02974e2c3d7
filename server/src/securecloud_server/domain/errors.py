"""What can go wrong, in the domain's words. The web layer alone turns these into HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN_MAX = 80


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with an input: which field, what was expected, and a sentence."""

    field: str
    expected: str
    message: str


class DomainError(Exception):
    """Base of all refusals; the message is safe to show to the caller and holds no secret."""


class Invalid(DomainError):
    """The input is well-formed but wrong; every wrong field is listed at once."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        said = (f"{e.field}: {e.message}" if e.field else e.message for e in errors)
        super().__init__("; ".join(said))
        self.errors = tuple(errors)


class NotFound(DomainError):
    """There is no such object."""

    def __init__(self, kind: str, name: str) -> None:
        shown = name if len(name) <= _SHOWN_MAX else f"{name[:_SHOWN_MAX]}…"
        super().__init__(f"there is no {kind} {shown!r}")


class Conflict(DomainError):
    """The object's present state does not allow this."""


class PreconditionFailed(DomainError):
    """If-Match or If-None-Match does not hold."""


class NotAuthenticated(DomainError):
    """No token, or one that is unknown, expired or revoked; the caller is not told which."""


class NotAuthorized(DomainError):
    """The caller's role lacks the privilege."""

    def __init__(self, role: str, privilege: str) -> None:
        super().__init__(f"the role {role} does not include {privilege}")


class WrongPerson(DomainError):
    """Somebody else has to do this: nobody grants what they asked for, or collects for others."""


class TooMany(DomainError):
    """That was asked for too often; `retry_after` seconds from now it can be asked again."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(DomainError):
    """A part that the server needs cannot be used now; nothing was changed."""
