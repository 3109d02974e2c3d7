"""One kept-alive HTTPS connection to one server: small bodies, no redirects, hard limits."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from securecloud_protocol import MAX_MESSAGE_BYTES

from securecloud_agent.client.certificate import look
from securecloud_agent.client.failures import (
    NotOfferedError,
    NotTrustedError,
    NotWorkingError,
    UnreachableError,
)
from securecloud_agent.client.tls import (
    Deadline,
    DeadlineSocket,
    connect,
    explain_certificate,
    explain_network,
    make_context,
)

_PORT = 443
_FRAME_HEAD = 256
_BROKEN = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_NOT_OFFERED = frozenset({404, 405})
_SERVER_TROUBLE = frozenset({408, 429, 500, 502, 503, 504})


class Peers:
    """How to reach servers: the context that the CA file gives, and this machine's clock."""

    def __init__(self, ca_file: Path, clock: Callable[[], float] = time.time) -> None:
        self.ca_file = ca_file
        self.clock = clock
        self.context = make_context(ca_file)


class Connection:
    """A connection to `url`, opened at the first request and opened again if it went idle.

    It reconnects only to the same certificate: the exchange is bound to the one it began under.
    """

    def __init__(self, url: str, peers: Peers, deadline: Deadline) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.hostname or ""
        self._port = parts.port or _PORT
        self._peers = peers
        self._deadline = deadline
        self._http: http.client.HTTPConnection | None = None
        self._socket: DeadlineSocket | None = None
        self._closed = False
        self._in_use = threading.Lock()
        self.certificate = b""
        self.resent = False

    def extend(self, deadline: Deadline) -> None:
        """Work under another deadline from now on."""
        self._deadline = deadline
        if self._socket is not None:
            self._socket.deadline = deadline

    def close(self) -> None:
        """End the connection; from another thread it makes a request under way fail at once."""
        self._closed = True
        held = self._socket
        if held is not None:
            with suppress(OSError):
                # Not SSLSocket's own, which pulls the TLS state from under a reading thread.
                socket.socket.shutdown(held, socket.SHUT_RDWR)
        if self._in_use.acquire(blocking=False):
            self._drop()
            self._in_use.release()

    def _drop(self) -> None:
        held, self._socket, self._http = self._socket, None, None
        if held is not None:
            held.close()

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Return the answer's body, be it a message or a protocol error frame.

        Raises UnreachableError or NotTrustedError.
        """
        with self._in_use:
            try:
                return self._request(method, path, body)
            except ssl.SSLCertVerificationError as error:
                raise self._certificate_refused(error) from None
            except OSError as error:
                raise explain_network(error, self.url) from None
            except http.client.HTTPException:
                raise NotWorkingError(f"{self.url}: what answered does not speak HTTP") from None
            finally:
                if self._closed:
                    self._drop()

    def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        reused = self._http is not None
        try:
            return self._once(method, path, body)
        except _BROKEN:
            # A server may close an idle connection at any time. A message that did arrive is not
            # taken twice: the protocol refuses it as replayed.
            if not reused or self._closed:
                raise
            self.resent = True
            return self._once(method, path, body)

    def _once(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            return self._exchange(method, path, body)
        except BaseException:
            self._drop()
            raise

    def _certificate_refused(self, error: ssl.SSLCertVerificationError) -> NotTrustedError:
        now = int(self._peers.clock())
        sight = look(self._host, self._port, error.verify_code, self._deadline, now)
        return explain_certificate(error, self.url, self._peers.ca_file, sight)

    def _open(self) -> http.client.HTTPConnection:
        secured = connect(self._host, self._port, self._peers.context, self._deadline)
        certificate = secured.getpeercert(binary_form=True) or b""
        if self._closed or (self.certificate and certificate != self.certificate):
            secured.close()
            raise UnreachableError(f"{self.url}: its certificate changed during the exchange")
        self.certificate = certificate
        self._socket = secured
        self._http = http.client.HTTPConnection(self._host, self._port)
        # It would open a connection without TLS by itself once this one breaks.
        self._http.auto_open = 0
        self._http.sock = secured
        return self._http

    def _exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        connection = self._http or self._open()
        headers = {"Accept": "application/json", "User-Agent": "securecloud-agent"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body, headers)
        with connection.getresponse() as response:
            content = response.read(MAX_MESSAGE_BYTES + 1)
        if len(content) > MAX_MESSAGE_BYTES:
            self._drop()
            raise NotTrustedError(
                f"{self.url}: the answer is longer than {MAX_MESSAGE_BYTES} octets"
            )
        if response.will_close:
            self._drop()
        self._require_message(response.status, content)
        return content

    def _require_message(self, status: int, content: bytes) -> None:
        if content.startswith(b"{") and b'"v":' in content[:_FRAME_HEAD]:
            return
        if status in _NOT_OFFERED | _SERVER_TROUBLE:
            kind = NotOfferedError if status in _NOT_OFFERED else NotWorkingError
            raise kind(f"{self.url}: HTTP status {status}; see the server's log")
        raise NotTrustedError(
            f"{self.url}: HTTP status {status} and no SecureCloud message; is the URL right?"
        )
