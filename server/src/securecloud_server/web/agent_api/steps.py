"""Lets a service answer each message, and turns refusals into closed codes.

No framework stands between: in a boot storm every machine sends three of these messages over a
connection of its own, and each would cost more in the framework than in the service.
"""

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from securecloud_protocol.envelope import encode_error
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.http_binding import (
    ACK_PATH,
    COPY_PATH,
    ENROL_PATH,
    EVIDENCE_PATH,
    HELLO_PATH,
    STATUS,
)

from securecloud_server.web.http import Answer, Handler, Request

_LOG = logging.getLogger("securecloud.agent_api")
PREFIX = "/agent/"
HEADERS = (("content-type", "application/json"), ("cache-control", "no-store"))
_NOT_FOUND = Answer(404, HEADERS, b"")

Step = Callable[[bytes, str], bytes]
"""Answers one message from an address."""


class Exchange(Protocol):
    """The three steps of an exchange, and what may follow."""

    def hello(self, data: bytes, source: str) -> bytes:
        """Return the Challenge."""

    def evidence(self, data: bytes, source: str) -> bytes:
        """Return the Release."""

    def ack(self, data: bytes, source: str) -> bytes:
        """Return the Receipt."""

    def copy(self, data: bytes, source: str) -> bytes:
        """Return the Kept."""


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


def agent_api(exchange: Exchange, enrolment: Enrolment, counters: Counters) -> Handler:
    """Return the handler of everything below PREFIX."""

    def identity(_data: bytes, _source: str) -> bytes:
        return enrolment.identity()

    routes: dict[str, dict[str, tuple[str, Step]]] = {
        ENROL_PATH: {"GET": ("identity", identity), "POST": ("enrol", enrolment.enrol)},
        HELLO_PATH: {"POST": ("hello", exchange.hello)},
        EVIDENCE_PATH: {"POST": ("evidence", exchange.evidence)},
        ACK_PATH: {"POST": ("ack", exchange.ack)},
        COPY_PATH: {"POST": ("copy", exchange.copy)},
    }

    def handle(request: Request) -> Answer:
        methods = routes.get(request.path)
        if methods is None:
            return _NOT_FOUND
        if request.method not in methods:
            return method_not_allowed(*methods)
        name, step = methods[request.method]
        return _answer(name, step, request, counters)

    return handle


def _answer(name: str, step: Step, request: Request, counters: Counters) -> Answer:
    started = perf_counter()
    try:
        if request.body is None:
            raise ProtocolError(ErrorCode.TOO_LARGE, "the body")
        body = step(request.body, request.source)
    except Exception as error:
        return refused(name, request.source, error, counters)
    counters.answered(name, perf_counter() - started)
    return Answer(200, HEADERS, body)


def method_not_allowed(*methods: str) -> Answer:
    """Return the answer to a request whose path has these methods only."""
    return Answer(405, (*HEADERS, ("allow", ", ".join(methods))), b"")


def refused(step: str, source: str, error: Exception, counters: Counters) -> Answer:
    """Return the closed code for an error at `step`; the log has the rest."""
    if not isinstance(error, ProtocolError):
        _LOG.error("internal error", extra={"step": step, "source": source}, exc_info=error)
        error = ProtocolError(ErrorCode.INTERNAL, "")
    else:
        _log_refusal(step, source, error)
    counters.refusal(step, error.code.value)
    return Answer(STATUS[error.code], HEADERS, encode_error(error.code))


def _log_refusal(step: str, source: str, error: ProtocolError) -> None:
    level = logging.ERROR if error.code is ErrorCode.UNAVAILABLE else logging.WARNING
    extra = {"step": step, "source": source, "code": error.code.value, "detail": error.detail}
    _LOG.log(level, "refused", extra=extra)
