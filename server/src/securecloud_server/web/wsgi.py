"""Runs a WSGI application (PEP 3333) as a handler."""

import sys
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from securecloud_server.web.http import Answer, Handler, Request

Environ = dict[str, Any]
WsgiApplication = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

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


def wsgi_handler(application: WsgiApplication) -> Handler:
    """Return a handler that asks `application`."""

    def handle(request: Request) -> Answer:
        answer: list[Any] = [500, []]

        def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
            answer[:] = [int(status[:3]), headers]

        parts = application(environ_of(request), start_response)
        try:
            body = b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        return Answer(answer[0], answer[1], body)

    return handle


def environ_of(request: Request) -> Environ:
    """Return the WSGI environment of a request."""
    environ = _ENVIRON.copy()
    environ["REQUEST_METHOD"] = request.method
    environ["PATH_INFO"] = request.path.encode().decode("latin-1")
    environ["QUERY_STRING"] = request.query
    environ["REMOTE_ADDR"] = request.source
    for name, value in request.headers.items():
        if name in {"content-length", "content-type"}:
            environ[name.upper().replace("-", "_")] = value
        else:
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    environ["wsgi.input"] = BytesIO(request.body or b"")
    return environ
