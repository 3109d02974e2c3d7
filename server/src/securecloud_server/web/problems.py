"""Refusals as problem documents (RFC 9457): one table from what went wrong to what is said."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from securecloud_server.domain.errors import (
    Conflict,
    DomainError,
    FieldError,
    Invalid,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    PreconditionFailed,
    TooMany,
    Unavailable,
    WrongPerson,
)
from securecloud_server.web.strict_json import MalformedJson

_LOG = logging.getLogger("securecloud.admin_api")
MEDIA_TYPE = "application/problem+json"
_RETRY_SECONDS = "5"

Refused = Callable[[DomainError], None]
"""Told of every caller who was not let in."""

STATUS: Mapping[str, tuple[HTTPStatus, str]] = {
    "bad_request": (HTTPStatus.BAD_REQUEST, "The request is not HTTP as this server speaks it"),
    "malformed_json": (HTTPStatus.BAD_REQUEST, "The body is not well-formed JSON"),
    "not_authenticated": (HTTPStatus.UNAUTHORIZED, "A valid API token is needed"),
    "not_authorized": (HTTPStatus.FORBIDDEN, "The token's role does not allow this"),
    "wrong_person": (HTTPStatus.FORBIDDEN, "Another person has to do this"),
    "not_found": (HTTPStatus.NOT_FOUND, "There is no such object"),
    "method_not_allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "The object does not have this method"),
    "conflict": (HTTPStatus.CONFLICT, "The object's state does not allow this"),
    "precondition_failed": (HTTPStatus.PRECONDITION_FAILED, "The object is not as you believe"),
    "too_large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "unsupported_media_type": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be JSON"),
    "invalid_request": (HTTPStatus.UNPROCESSABLE_ENTITY, "The request is not valid"),
    "too_many": (HTTPStatus.TOO_MANY_REQUESTS, "This was asked for too often"),
    "internal": (HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed"),
    "unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "A part of the server cannot be used now"),
}
"""Status and title of each code."""

_DOMAIN: Mapping[type[DomainError], str] = {
    Invalid: "invalid_request",
    NotFound: "not_found",
    Conflict: "conflict",
    PreconditionFailed: "precondition_failed",
    NotAuthenticated: "not_authenticated",
    NotAuthorized: "not_authorized",
    WrongPerson: "wrong_person",
    TooMany: "too_many",
    Unavailable: "unavailable",
}
_BY_STATUS = {
    status.value: code
    for code, (status, _) in STATUS.items()
    if code not in {"malformed_json", "not_authenticated", "not_authorized", "wrong_person"}
}
_HEADERS: Mapping[str, Mapping[str, str]] = {
    "not_authenticated": {"WWW-Authenticate": "Bearer"},
    "unavailable": {"Retry-After": _RETRY_SECONDS},
}


def problem(code: str, detail: str, errors: Sequence[FieldError] = ()) -> Response:
    """Return the problem document for `code`; `errors` name the wrong fields."""
    status, title = STATUS[code]
    document = {
        "type": f"urn:securecloud:problem:{code}",
        "title": title,
        "status": status.value,
        "detail": detail,
        "code": code,
        "errors": [
            {"field": e.field, "expected": e.expected, "message": e.message} for e in errors
        ],
    }
    headers = {"Cache-Control": "no-store", **_HEADERS.get(code, {})}
    return Response(json.dumps(document), status, headers, content_type=MEDIA_TYPE)


def handle_errors(flask: Flask, refused: Refused) -> None:
    """Answer every error of the application with a problem document."""

    def domain_error(error: DomainError) -> Response:
        if isinstance(error, NotAuthenticated | NotAuthorized):
            refused(error)
        if isinstance(error, Unavailable):
            _LOG.error("unavailable", extra={"cause": str(error)})
        kind = next((_DOMAIN[t] for t in type(error).__mro__ if t in _DOMAIN), "internal")
        errors = error.errors if isinstance(error, Invalid) else ()
        answer = problem(kind, str(error), errors)
        if isinstance(error, TooMany):
            answer.headers["Retry-After"] = str(error.retry_after)
        return answer

    flask.register_error_handler(DomainError, domain_error)
    flask.register_error_handler(HTTPException, _http_error)
    flask.register_error_handler(Exception, _unexpected)


def _http_error(error: HTTPException) -> Response:
    malformed = isinstance(error, MalformedJson)
    code = "malformed_json" if malformed else _BY_STATUS.get(error.code or 0)
    if code is None:
        code = "bad_request" if (error.code or 0) < HTTPStatus.INTERNAL_SERVER_ERROR else "internal"
    answer = problem(code, error.description or STATUS[code][1])
    allowed = dict(error.get_headers()).get("Allow")
    if allowed is not None:
        answer.headers["Allow"] = allowed
    return answer


def _unexpected(_error: Exception) -> Response:
    _LOG.exception("internal error")
    return problem("internal", "the server's log has the cause")
