"""Wait in, Wake out: the one message of agents whose answer takes its time."""

from collections.abc import Callable
from typing import Protocol

from securecloud_protocol.envelope import encode_error
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.http_binding import STATUS
from securecloud_protocol.server import OpenedWait

from securecloud_server.web.agent_api.steps import (
    HEADERS,
    Counters,
    method_not_allowed,
    refused,
)
from securecloud_server.web.agent_api.waiting import WaitingRoom
from securecloud_server.web.http import Answer, HeldHandler, Request

_NO_ROOM = ErrorCode.UNAVAILABLE
_RETRY = ("retry-after", "10")


class Waits(Protocol):
    """Recognises agents that wait, without looking anything up."""

    def open_wait(self, data: bytes, now: int) -> OpenedWait:
        """Authenticate a Wait."""

    def wake(self, opened: OpenedWait, *, check: bool) -> bytes:
        """Return the answer to it."""


def waits(
    responder: Waits, room: WaitingRoom, counters: Counters, clock: Callable[[], float]
) -> HeldHandler:
    """Return what answers a Wait, on the event loop of `room`."""

    async def hold(request: Request) -> Answer:
        if request.method != "POST":
            return method_not_allowed("POST")
        try:
            if request.body is None:
                raise ProtocolError(ErrorCode.TOO_LARGE, "the body")
            opened = responder.open_wait(request.body, int(clock()))
            check = await room.wait(opened.agent_id, opened.last_check)
            if check is not None:
                return Answer(200, HEADERS, responder.wake(opened, check=check))
        except Exception as error:
            return refused("wait", request.source, error, counters)
        # Not for the log: when a server stops, this is said to all who wait.
        counters.refusal("wait", _NO_ROOM.value)
        return Answer(STATUS[_NO_ROOM], (*HEADERS, _RETRY), encode_error(_NO_ROOM))

    return hold
