"""Flask views of the agent API: read the body, let a service answer, turn refusals into codes."""

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from flask import Blueprint, Response, request
from securecloud_protocol import MAX_MESSAGE_BYTES
from securecloud_protocol.envelope import encode_error
from securecloud_protocol.errors import ErrorCode, ProtocolError
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from securecloud_server.web.agent_api.status import STATUS

_LOG = logging.getLogger("securecloud.agent_api")
_JSON = "application/json"

Step = Callable[[bytes, str], bytes]
"""Answers one message from an address."""


class Exchange(Protocol):
    """The three steps of an exchange."""

    def hello(self, data: bytes, source: str) -> bytes:
        """Return the Challenge."""

    def evidence(self, data: bytes, source: str) -> bytes:
        """Return the Release."""

    def ack(self, data: bytes, source: str) -> bytes:
        """Return the Receipt."""


class Enrolment(Protocol):
    """The two steps of an enrolment."""

    def identity(self) -> bytes:
        """Return who this server is."""

    def enrol(self, data: bytes, source: str) -> bytes:
        """Return the agent's id."""


class Counters(Protocol):
    """Told of every message."""

    def refusal(self, step: str, code: str) -> None:
        """Count a refused message."""

    def answered(self, step: str, seconds: float) -> None:
        """Record how long an answer took."""


def agent_api(exchange: Exchange, enrolment: Enrolment, counters: Counters) -> Blueprint:
    """Return the blueprint of `/agent/v1`."""
    blueprint = Blueprint("agent_api", __name__, url_prefix="/agent/v1")

    def identity(_data: bytes, _source: str) -> bytes:
        return enrolment.identity()

    for method, name, path, step in (
        ("GET", "identity", "/enrol", identity),
        ("POST", "enrol", "/enrol", enrolment.enrol),
        ("POST", "hello", "/hello", exchange.hello),
        ("POST", "evidence", "/evidence", exchange.evidence),
        ("POST", "ack", "/ack", exchange.ack),
    ):
        blueprint.add_url_rule(path, name, _view(name, step, counters), methods=[method])
    return blueprint


def _view(name: str, step: Step, counters: Counters) -> Callable[[], Response]:
    def view() -> Response:
        source = request.remote_addr or ""
        started = perf_counter()
        try:
            answer = Response(step(_body(), source), mimetype=_JSON)
        except ProtocolError as error:
            counters.refusal(name, error.code.value)
            return _refuse(name, source, error)
        except Exception:
            counters.refusal(name, ErrorCode.INTERNAL.value)
            _LOG.exception("internal error", extra={"step": name, "source": source})
            return _error(ErrorCode.INTERNAL)
        counters.answered(name, perf_counter() - started)
        return answer

    return view


def _body() -> bytes:
    if (request.content_length or 0) > MAX_MESSAGE_BYTES:
        raise ProtocolError(ErrorCode.TOO_LARGE, f"body of {request.content_length} octets")
    request.max_content_length = MAX_MESSAGE_BYTES
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise ProtocolError(ErrorCode.TOO_LARGE, "body without an honest length") from None
    except ClientDisconnected:
        raise ProtocolError(ErrorCode.MALFORMED, "the body ended early") from None


def _refuse(step: str, source: str, error: ProtocolError) -> Response:
    level = logging.ERROR if error.code is ErrorCode.UNAVAILABLE else logging.WARNING
    extra = {"step": step, "source": source, "code": error.code.value, "detail": error.detail}
    _LOG.log(level, "refused", extra=extra)
    return _error(error.code)


def _error(code: ErrorCode) -> Response:
    return Response(encode_error(code), status=STATUS[code], mimetype=_JSON)
