"""How the messages travel over HTTP (SPEC.md, section "HTTP")."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from securecloud_protocol.errors import ErrorCode

CONTENT_TYPE = "application/json"

ENROL_PATH = "/agent/v1/enrol"
HELLO_PATH = "/agent/v1/hello"
EVIDENCE_PATH = "/agent/v1/evidence"
ACK_PATH = "/agent/v1/ack"
COPY_PATH = "/agent/v1/copy"
WAIT_PATH = "/agent/v1/wait"

LONGEST_WAIT = 60
"""Seconds after which a server has answered a Wait; fewer than most networks keep idle ones."""

STATUS: Mapping[ErrorCode, HTTPStatus] = MappingProxyType(
    {
        ErrorCode.MALFORMED: HTTPStatus.BAD_REQUEST,
        ErrorCode.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ErrorCode.UNSUPPORTED_VERSION: HTTPStatus.BAD_REQUEST,
        ErrorCode.UNEXPECTED_TYPE: HTTPStatus.BAD_REQUEST,
        ErrorCode.NOT_AUTHENTICATED: HTTPStatus.UNAUTHORIZED,
        ErrorCode.ENROLMENT_REFUSED: HTTPStatus.FORBIDDEN,
        ErrorCode.IDENTITY_CONFLICT: HTTPStatus.CONFLICT,
        ErrorCode.UNKNOWN_DEVICE: HTTPStatus.NOT_FOUND,
        # Not 408: HTTP libraries repeat such a request by themselves (RFC 9110, 15.5.9).
        ErrorCode.EXPIRED: HTTPStatus.CONFLICT,
        ErrorCode.REPLAYED: HTTPStatus.CONFLICT,
        ErrorCode.STALE: HTTPStatus.CONFLICT,
        ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
        ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    }
)
"""The HTTP status of each error code; clients go by the code."""
