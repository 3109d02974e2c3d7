"""Runs a handler under Granian (RSGI): bodies on the event loop, the handler in threads.

The event loop alone can end a body that does not come: there a deadline is a timer, while under
WSGI each unfinished body holds a thread for ever. What never waits for a network is answered on
the loop as well: each hand-over to a thread costs a fight for the interpreter's lock with every
statement of SQLite. See docs/adr/0003-serving-tls.md. And what has nothing to say for a while
waits there, where that costs no thread: docs/adr/0010-checks-on-demand.md.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any, NamedTuple

from securecloud_server.web.http import Answer, Handler, HeldHandler, Request

_LOG = logging.getLogger("securecloud.http")
_CLOSE = [("connection", "close")]
_BODY_SECONDS = 5.0
_LONG_BODY_SECONDS = 30.0
_DISCARDED = 16
"""How many times the longest body is read and thrown away, so that the peer reads our refusal."""


class Call(NamedTuple):
    """A request on its way to a thread."""

    request: Request
    protocol: Any
    finished: Callable[[], None]


class Served(NamedTuple):
    """What is served: paths below `on_loop` are answered on the event loop itself.

    Those in `held` are answered there when there is something to say; `leave` ends their waiting,
    for the process is to stop.
    """

    handler: Handler
    on_loop: str | None
    held: Mapping[str, HeldHandler]
    leave: Callable[[], None]


Start = Callable[[asyncio.AbstractEventLoop], Served]


class RsgiAdapter:
    """The RSGI side of a handler; `threads` requests run at the same time.

    `start` is called in the worker process before the first request, with its event loop, and
    returns what is served; `stop` after the last. No body longer than `max_body` octets reaches
    the handler, or than `longer` says for its path.
    """

    def __init__(
        self,
        start: Start,
        stop: Callable[[], None],
        threads: int,
        max_body: int,
        longer: Mapping[str, int],
    ) -> None:
        self._start = start
        self._stop = stop
        self._threads = threads
        self._max_body = max_body
        self._longer = longer
        self._served = Served(_not_ready, None, {}, lambda: None)
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._pool: list[threading.Thread] = []

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._served = self._start(loop)
        loop.add_signal_handler(signal.SIGTERM, self._leave)
        for _ in range(self._threads):
            thread = threading.Thread(target=self._work, daemon=True)
            thread.start()
            self._pool.append(thread)

    def __rsgi_del__(self, _loop: asyncio.AbstractEventLoop) -> None:
        for _ in self._pool:
            self._calls.put(None)
        for thread in self._pool:
            thread.join()
        self._stop()

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        refusal = self._refusal(scope.headers)
        if refusal:
            protocol.response_empty(refusal, _CLOSE)
            return
        loop = asyncio.get_running_loop()
        try:
            body = await self._body(scope, protocol, loop)
        except (RuntimeError, OSError) as error:
            _LOG.debug("a body did not arrive", extra={"cause": str(error)})
            return
        request = request_of(scope, body)
        held = self._served.held.get(request.path)
        if held is not None:
            self._send(await held(request), protocol)
            return
        prefix = self._served.on_loop
        if prefix is not None and request.path.startswith(prefix):
            self._answer(request, protocol)
            return
        done = loop.create_future()

        def finished() -> None:
            loop.call_soon_threadsafe(done.set_result, None)

        self._calls.put(Call(request, protocol, finished))
        await done

    def _leave(self) -> None:
        """Let no one who waits hold up the stop, and then have Granian stop.

        It finishes the requests in flight, however long they take, and takes SIGINT as it takes
        SIGTERM, whose place in the event loop is ours.
        """
        self._served.leave()
        os.kill(os.getpid(), signal.SIGINT)

    def _refusal(self, headers: Any) -> int | None:
        if "transfer-encoding" in headers:
            return 411
        length = headers.get("content-length")
        if length is None:
            return None
        if not (length.isascii() and length.isdecimal()):
            return 400
        return 413 if int(length[:20]) > self._max_body * _DISCARDED else None

    async def _body(
        self, scope: Any, protocol: Any, loop: asyncio.AbstractEventLoop
    ) -> bytes | None:
        """Return the body; None when it was too long. RuntimeError when it did not come in time."""
        length = int(scope.headers.get("content-length", "0"))
        if length == 0:
            return b""
        longest = self._longer.get(scope.path, self._max_body)
        seconds = _LONG_BODY_SECONDS if self._max_body < length <= longest else _BODY_SECONDS
        late = loop.call_later(seconds, protocol.response_empty, 408, _CLOSE)
        try:
            if length <= longest:
                return bytes(await protocol())
            async for _ in protocol:
                pass
            return None
        finally:
            late.cancel()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._answer(call.request, call.protocol)
            call.finished()

    def _answer(self, request: Request, protocol: Any) -> None:
        try:
            answer = self._served.handler(request)
        except Exception:
            _LOG.exception("internal error")
            answer = Answer(500, (), b"")
        self._send(answer, protocol)

    @staticmethod
    def _send(answer: Answer, protocol: Any) -> None:
        protocol.response_bytes(answer.status, list(answer.headers), answer.body)


def _not_ready(_request: Request) -> Answer:
    return Answer(503, (), b"")


def request_of(scope: Any, body: bytes | None) -> Request:
    """Return the request of an RSGI scope."""
    return Request(
        scope.method,
        scope.path,
        scope.query_string,
        scope.headers,
        peer_address(scope.client),
        body,
    )


def peer_address(client: str) -> str:
    """Return the address in `address:port`; an IPv4 address is never in its IPv6 form."""
    address = client.rpartition(":")[0].strip("[]")
    return address.removeprefix("::ffff:") if "." in address else address
