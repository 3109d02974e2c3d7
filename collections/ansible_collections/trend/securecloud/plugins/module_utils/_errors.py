# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong between a module and what it manages. Private to this collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping


@dataclass(frozen=True)
class FieldError:
    """One wrong field of an input: where it is, what was expected, and a sentence."""

    field: str
    expected: str
    message: str

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}" if self.field else self.message
        said = not self.expected or self.expected in text
        return text if said else f"{text} (expected {self.expected})"


class SecureCloudError(Exception):
    """Base of all failures; the message is for the operator and never holds a secret."""

    code = "failed"

    def __init__(self, message: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors

    def result(self) -> dict[str, Any]:
        """Return the failure as arguments of fail_json."""
        return {
            "msg": str(self),
            "code": self.code,
            "errors": [vars(error) for error in self.errors],
        }


class InvalidOption(SecureCloudError):
    """An option is wrong in itself or for what is there."""

    code = "invalid_option"

    def __init__(self, field: str, expected: str, message: str) -> None:
        super().__init__(f"{field}: {message}", (FieldError(field, expected, message),))


class WrongState(SecureCloudError):
    """What is there cannot become what was asked for."""

    code = "wrong_state"


class CommandFailed(SecureCloudError):
    """A SecureCloud command line on this machine failed or is missing."""

    code = "command_failed"


class ConnectionFailed(SecureCloudError):
    """No answer came from the server."""

    code = "connection_failed"


class ServerUnreachable(ConnectionFailed):
    """The address does not resolve, or nothing listens there."""

    code = "server_unreachable"


class ServerTimeout(ConnectionFailed):
    """The server did not answer in time."""

    code = "timeout"


class CertificateProblem(ConnectionFailed):
    """The server could not be recognised."""

    code = "certificate_untrusted"


class CertificateNotValidNow(CertificateProblem):
    """By this machine's clock, a certificate is not valid yet or not any more."""

    code = "certificate_not_valid_now"


class WrongHostName(CertificateProblem):
    """The certificate is for another name."""

    code = "certificate_wrong_host"


class NotSecureCloud(ConnectionFailed):
    """Something answered, but not as a SecureCloud server does."""

    code = "not_securecloud"


class ApiError(SecureCloudError):
    """The server answered with a problem document (RFC 9457)."""

    def __init__(
        self, request: str, status: int, code: str, detail: str, errors: tuple[FieldError, ...] = ()
    ) -> None:
        listed = "; ".join(str(error) for error in errors)
        explained = f": {listed or detail}" if listed or detail else ""
        super().__init__(f"the server refused {request} ({status} {code}){explained}", errors)
        self.status = status
        self.code = code
        self.detail = detail

    def result(self) -> dict[str, Any]:
        """Return the failure as arguments of fail_json."""
        return {**super().result(), "status": self.status}


class NotFound(ApiError):
    """There is no such object."""


class Conflict(ApiError):
    """The object's state does not allow this."""


class PreconditionFailed(ApiError):
    """The object was changed between reading and writing."""


_BY_STATUS = {404: NotFound, 409: Conflict, 412: PreconditionFailed}


def from_problem(request: str, status: int, document: Mapping[str, Any]) -> ApiError:
    """Return the error for a problem document; members of a wrong type are left out."""
    listed = document.get("errors")
    errors = tuple(
        FieldError(*(str(item.get(key, "")) for key in ("field", "expected", "message")))
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, dict)
    )
    code, detail = (str(document.get(key) or "") for key in ("code", "detail"))
    error = _BY_STATUS.get(status, ApiError)
    return error(request, status, code or "problem", detail, errors)
