"""The cheapest HTTPS client that is still honest: fresh TLS 1.3, CA and host name verified.

Only what the benchmark needs: requests with a complete body, replies with ``Content-Length``.
"""

from __future__ import annotations

import json
import socket
import ssl
from functools import lru_cache
from types import TracebackType
from typing import Any

TIMEOUT = 15.0
_CHUNK = 65536


class ReplyError(Exception):
    """A reply that is not the one an exchange needs."""


@lru_cache
def client_context(ca_file: str) -> ssl.SSLContext:
    """Return a TLS 1.3 context that trusts ``ca_file`` alone; one for each process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca_file)
    return context


class Connection:
    """One kept-alive connection to a server on the loopback interface; a context manager."""

    def __init__(self, port: int, ca_file: str) -> None:
        raw = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._tls = client_context(ca_file).wrap_socket(raw, server_hostname="localhost")
        except BaseException:
            raw.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tls.close()

    @property
    def certificate(self) -> bytes:
        """The server's certificate, DER."""
        return self._tls.getpeercert(binary_form=True) or b""

    def call(self, request: bytes) -> tuple[int, bytes]:
        """Send a request made by :func:`request` and return status and body of the reply."""
        self._tls.sendall(request)
        buffer = b""
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            buffer += self._receive()
        head = buffer[:end].lower()
        status, length = int(head[9:12]), _content_length(head)
        parts, missing = [buffer[end + 4 :]], end + 4 + length - len(buffer)
        while missing > 0:
            parts.append(self._receive())
            missing -= len(parts[-1])
        return status, b"".join(parts)

    def _receive(self) -> bytes:
        data = self._tls.recv(_CHUNK)
        if not data:
            raise ReplyError("the server closed the connection inside a reply")
        return data


def _content_length(head: bytes) -> int:
    if head[9:12] == b"204":
        return 0
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        raise ReplyError("a reply without Content-Length")
    return int(head[start + 17 :].split(b"\r\n", 1)[0])


def request(method: str, path: str, body: Any = None, token: str | None = None) -> bytes:
    """Return the octets of a request with an optional JSON body (octets: as they are) and token."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    payload = b""
    if body is not None:
        is_encoded = isinstance(body, bytes)
        payload = body if is_encoded else json.dumps(body, separators=(",", ":")).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    return "\r\n".join([*lines, "", ""]).encode() + payload
