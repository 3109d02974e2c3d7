"""Runs a WSGI application under Granian: bodies on the event loop, the application in threads.

The event loop alone can end a body that does not come: there a deadline is a timer, while under
WSGI each unfinished body holds a thread for ever. See docs/adr/0003-serving-tls.md.
"""

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from queue import SimpleQueue
from typing import Any, NamedTuple

_LOG = logging.getLogger("securecloud.http")
_CLOSE = [("connection", "close")]
_BODY_SECONDS = 5.0

Environ = dict[str, Any]
WsgiApplication = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Call(NamedTuple):
    """A request whose body is complete."""

    environ: Environ
    protocol: Any
    finished: Callable[[], None]


class RsgiAdapter:
    """The RSGI side of a WSGI application; `threads` requests run at the same time.

    `start` is called in the worker process before the first request and returns the application;
    `stop` after the last. Bodies longer than `max_body` octets are refused unread.
    """

    def __init__(
        self,
        start: Callable[[], WsgiApplication],
        stop: Callable[[], None],
        threads: int,
        max_body: int,
    ) -> None:
        self._start = start
        self._stop = stop
        self._threads = threads
        self._max_body = max_body
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._pool: list[threading.Thread] = []

    def __rsgi_init__(self, _loop: asyncio.AbstractEventLoop) -> None:
        application = self._start()
        for _ in range(self._threads):
            thread = threading.Thread(target=self._work, args=(application,), daemon=True)
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
        body = await self._body(scope, protocol, loop)
        if body is None:
            return
        done = loop.create_future()

        def finished() -> None:
            loop.call_soon_threadsafe(done.set_result, None)

        self._calls.put(Call(environ_of(scope, body), protocol, finished))
        await done

    def _refusal(self, headers: Any) -> int | None:
        if "transfer-encoding" in headers:
            return 411
        length = headers.get("content-length")
        if length is None:
            return None
        if not (length.isascii() and length.isdecimal()):
            return 400
        return 413 if int(length[:20]) > self._max_body else None

    @staticmethod
    async def _body(scope: Any, protocol: Any, loop: asyncio.AbstractEventLoop) -> bytes | None:
        """Return the body; None when it did not come in time or the peer went away."""
        if scope.headers.get("content-length", "0") == "0":
            return b""
        late = loop.call_later(_BODY_SECONDS, protocol.response_empty, 408, _CLOSE)
        try:
            return bytes(await protocol())
        except (RuntimeError, OSError) as error:
            _LOG.debug("a body did not arrive", extra={"cause": str(error)})
            return None
        finally:
            late.cancel()

    def _work(self, application: WsgiApplication) -> None:
        while (call := self._calls.get()) is not None:
            try:
                status, headers, body = run(application, call.environ)
            except Exception:
                _LOG.exception("internal error")
                status, headers, body = 500, [], b""
            call.protocol.response_bytes(status, headers, body)
            call.finished()


def run(application: WsgiApplication, environ: Environ) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return status, headers and body of the application's answer (PEP 3333)."""
    answer: list[Any] = [500, []]

    def start_response(status: str, headers: list[tuple[str, str]], _info: object = None) -> None:
        answer[:] = [int(status[:3]), headers]

    parts = application(environ, start_response)
    try:
        body = b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return answer[0], answer[1], body


_ENVIRON: Environ = {
    "SCRIPT_NAME": "",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "443",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "https",
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


def environ_of(scope: Any, body: bytes) -> Environ:
    """Return the WSGI environment of a request."""
    environ = _ENVIRON.copy()
    environ["REQUEST_METHOD"] = scope.method
    environ["PATH_INFO"] = scope.path.encode().decode("latin-1")
    environ["QUERY_STRING"] = scope.query_string
    environ["REMOTE_ADDR"] = peer_address(scope.client)
    for name, value in scope.headers.items():
        if name in {"content-length", "content-type"}:
            environ[name.upper().replace("-", "_")] = value
        else:
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    environ["wsgi.input"] = BytesIO(body)
    return environ


def peer_address(client: str) -> str:
    """Return the address in `address:port`; an IPv4 address is never in its IPv6 form."""
    address = client.rpartition(":")[0].strip("[]")
    return address.removeprefix("::ffff:") if "." in address else address
