# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small, strict server over TLS: it answers what a test tells it to, and checks each request."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "sct.01token.c2VjcmV0LW9mLXRoZS10b2tlbg"


class StubServer:
    """Listens on a free port while it is entered. `replies` are used one after the other.

    A reply is (status, JSON object) or (status, JSON object, headers) or, as it is, bytes.
    """

    def __init__(self, context, token):
        self.replies = []
        self.requests = []
        self._server = _Server(("127.0.0.1", 0), _handler(self, token))
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self):
        """Where it listens."""
        return f"https://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exception):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Say nothing: clients that refuse our certificate are what many tests are about."""


def _handler(stub, token):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stub.requests.append((self.command, self.path, dict(self.headers), body))
            reply = self._problem() or stub.replies.pop(0)
            if isinstance(reply, bytes):
                self.wfile.write(reply)
                self.close_connection = True
                return
            status, document, *headers = reply
            self._send(status, document, headers[0] if headers else {})

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def _problem(self):
            if self.headers.get("Authorization") != f"Bearer {token}":
                return 401, {"code": "not_authenticated", "detail": "no such token"}
            if self.headers.get("Content-Length") and (
                self.headers.get("Content-Type") != "application/json"
            ):
                return 415, {"code": "invalid_request", "detail": "not JSON"}
            return None

        def _send(self, status, document, headers):
            text = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            kind = "application/json" if status < 400 else "application/problem+json"
            headers = {"Content-Type": kind, "Content-Length": str(len(text)), **headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_arguments):
            pass

    return Handler
