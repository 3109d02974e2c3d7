"""TLS 1.3 to a server that one CA file vouches for, under a deadline that holds for every read."""

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from securecloud_agent.client.failures import NotTrustedError, UnreachableError
from securecloud_agent.errors import ConfigError

# X509_V_ERR_* of OpenSSL, as they stand in SSLCertVerificationError.verify_code.
NOT_YET_VALID = 9
EXPIRED = 10
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
HOST_MISMATCH = frozenset({62, 64})


class Deadline:
    """A moment after which nothing is waited for any more."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Return the seconds left; raise TimeoutError when there are none."""
        left = self._end - self._clock()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left

    def within(self, seconds: float) -> "Deadline":
        """Return a deadline `seconds` from now, or this one when it is earlier."""
        left = max(0.0, self._end - self._clock())
        return Deadline(min(seconds, left), self._clock)


class DeadlineSocket(ssl.SSLSocket):
    """A TLS socket whose every wait ends at `deadline`, however slowly the peer drips."""

    deadline: Deadline

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive before the deadline."""
        self.settimeout(self.deadline.left())
        return super().recv_into(buffer, nbytes, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send before the deadline."""
        self.settimeout(self.deadline.left())
        return super().send(data, flags)


def make_context(ca_file: Path) -> ssl.SSLContext:
    """Return a context that takes TLS 1.3 alone, from servers that `ca_file` alone vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslsocket_class = DeadlineSocket
    try:
        context.load_verify_locations(cafile=str(ca_file))
    except FileNotFoundError:
        raise ConfigError(f"agent.ca_file: {ca_file} does not exist") from None
    except ssl.SSLError:
        raise ConfigError(f"agent.ca_file: {ca_file} holds no certificate in PEM form") from None
    except OSError as error:
        raise ConfigError(f"agent.ca_file: {ca_file} cannot be read: {error.strerror}") from None
    return context


def connect(host: str, port: int, context: ssl.SSLContext, deadline: Deadline) -> DeadlineSocket:
    """Return a TLS connection; raises UnreachableError or NotTrustedError with the reason."""
    plain = _connect_tcp(host, port, deadline)
    try:
        secured = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    assert isinstance(secured, DeadlineSocket)
    secured.deadline = deadline
    try:
        secured.settimeout(deadline.left())
        secured.do_handshake()
    except BaseException:
        secured.close()
        raise
    return secured


def _connect_tcp(host: str, port: int, deadline: Deadline) -> socket.socket:
    failure: OSError = OSError("no address")
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        candidate = socket.socket(family, kind, protocol)
        try:
            # Each address gets its share, so that a dead IPv6 route leaves time for IPv4.
            candidate.settimeout(deadline.left() / (len(addresses) - tried))
            candidate.connect(address)
            candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            candidate.close()
            failure = error
        else:
            return candidate
    raise failure


def explain_certificate(
    error: ssl.SSLCertVerificationError, url: str, ca_file: Path, sight: str
) -> NotTrustedError:
    """Say why the certificate was refused; `sight` is what an unverified look at it shows."""
    code = error.verify_code
    if code == NOT_YET_VALID:
        why = "its certificate is not yet valid by this machine's clock"
    elif code == EXPIRED:
        why = "its certificate has expired by this machine's clock"
    elif code in HOST_MISMATCH:
        why = "its certificate is for another host name"
    elif code in _UNKNOWN_ISSUER:
        why = f"its certificate was not issued by the CA in agent.ca_file ({ca_file})"
    else:
        why = f"its certificate was refused: {error.verify_message}"
    return NotTrustedError(f"{url}: {why}{f' ({sight})' if sight else ''}")


def explain_network(error: OSError, url: str) -> UnreachableError | NotTrustedError:
    """Say what kept the connection from being made or used."""
    if isinstance(error, socket.gaierror):
        return UnreachableError(f"{url}: the host name cannot be resolved ({error.strerror})")
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(
            f"{url}: connection refused; is the management server running there?"
        )
    if isinstance(error, TimeoutError):
        return UnreachableError(f"{url}: no answer in time")
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return NotTrustedError(f"{url}: does not speak TLS 1.3 there ({error.reason})")
    if isinstance(error, ssl.SSLError):
        return UnreachableError(f"{url}: TLS failed ({error.reason or 'connection broken'})")
    return UnreachableError(f"{url}: {error.strerror or 'the connection broke'}")


_NO_TLS = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "UNSUPPORTED_PROTOCOL",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "NO_PROTOCOLS_AVAILABLE",
        "HTTP_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
    }
)
