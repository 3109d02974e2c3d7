"""The closed list of error codes: all that a stranger is ever told."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Codes on the wire (SPEC.md, section "Errors"). Append-only within a protocol version."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNEXPECTED_TYPE = "unexpected_type"
    NOT_AUTHENTICATED = "not_authenticated"
    ENROLMENT_REFUSED = "enrolment_refused"
    IDENTITY_CONFLICT = "identity_conflict"
    UNKNOWN_DEVICE = "unknown_device"
    EXPIRED = "expired"
    REPLAYED = "replayed"
    STALE = "stale"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class ProtocolError(Exception):
    """A message was refused.

    `code` may be told to the peer; `detail` is for the local operator's log only and never holds
    a secret.
    """

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def malformed(detail: str) -> ProtocolError:
    """Return the error for bytes that are not what the specification says."""
    return ProtocolError(ErrorCode.MALFORMED, detail)
