"""A real KMIP server of our own (PyKMIP's), with mutual TLS, for as long as a test run lasts."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.live import eventually

_START_SECONDS = 60.0
_PAUSE = threading.Event()


class Pki:
    """A CA, and certificates of it: `NAME.pem` and `NAME.key` in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("KMIP test CA")
        basic = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._builder(self._name, self._key).add_extension(basic, critical=True)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=7))
        )

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """Return certificate and key of `name`, for a server under `hosts` or a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_named(name), key)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(each) for each in hosts]), critical=False
            )
        certificate = self.folder / f"{name}.pem"
        certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        private = self.folder / f"{name}.key"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        private.chmod(0o600)
        return certificate, private

    def client_context(self, name: str = "client") -> ssl.SSLContext:
        """Return how a keystore connects, with a certificate for `name`."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.load_cert_chain(*self.issue(name))
        return context

    def server_context(self, *hosts: str) -> ssl.SSLContext:
        """Return how a server of another kind listens."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca_file))
        context.load_cert_chain(*self.issue(f"server-{'-'.join(hosts)}", *hosts))
        return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class KmipServer:
    """PyKMIP's server in `folder`; `start` and `stop` as often as wanted, objects stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pki = Pki(folder)
        self.host = "localhost"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        certificate, key = self.pki.issue("server", "localhost", "127.0.0.1")
        (folder / "policy").mkdir()
        settings = {
            "hostname": "127.0.0.1",
            "port": self.port,
            "certificate_path": certificate,
            "key_path": key,
            "ca_path": self.pki.ca_file,
            "auth_suite": "TLS1.2",
            "policy_path": folder / "policy",
            "enable_tls_client_auth": True,
            "logging_level": "WARNING",
            "database_path": folder / "objects.db",
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        (folder / "server.conf").write_text("\n".join(["[server]", *lines, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = Path(sys.executable).with_name("pykmip-server")
        words = ["-f", self.folder / "server.conf", "-l", self.folder / "server.log"]
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [program, *words], stdout=output, stderr=output, start_new_session=True
            )
        give_up = time.monotonic() + _START_SECONDS
        while not self._listens():
            assert self._process.poll() is None, (self.folder / "output").read_text()
            assert time.monotonic() < give_up, "the KMIP server does not listen"
            _PAUSE.wait(0.1)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """At once: an orderly end takes PyKMIP up to twenty seconds."""
        if self._process is not None:
            # It has processes of its own.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running_kmip_server(folder: Path) -> Iterator[KmipServer]:
    server = KmipServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


_FIN_WAIT1 = 4

Meddle = Callable[[ssl.SSLSocket, bytes], None]
"""Does with an answer what it likes, instead of sending it."""


class Relay:
    """A KMIP server that is the real one, until `meddle` has a say in what it answers."""

    def __init__(self, server: KmipServer, hosts: Sequence[str] = ("localhost",)) -> None:
        self._server = server
        self._context = server.pki.server_context(*hosts)
        self._to_server = server.pki.client_context()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.meddle: Meddle | None = None
        self._streams: list[ssl.SSLSocket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            with plain:
                stream = self._context.wrap_socket(plain, server_side=True)
            self._streams.append(stream)
            address = (self._server.host, self._server.port)
            with (
                stream,
                socket.create_connection(address) as onward,
                self._to_server.wrap_socket(onward, server_hostname=self._server.host) as beyond,
            ):
                while True:
                    beyond.sendall(_message(stream))
                    answer = _message(beyond)
                    meddle, self.meddle = self.meddle, None
                    if meddle is None:
                        stream.sendall(answer)
                    else:
                        meddle(stream, answer)

    def hang_up(self) -> None:
        """End all connections, as a server does that is restarted, and see that it is heard of."""
        streams, self._streams = self._streams, []
        for stream in streams:
            _shut_down(stream)

    def close(self) -> None:
        self._listener.close()
        self.hang_up()


def _shut_down(stream: ssl.SSLSocket) -> None:
    """End the connection. It is closed by its own thread alone: OpenSSL may still send an alert,
    and would send it into whatever has the number of a closed descriptor by then.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(stream, socket.SHUT_RDWR)
        # A busy kernel takes its time, and whoever asks before that cannot know.
        eventually(lambda: _state(stream) != _FIN_WAIT1, 10)


def _state(stream: socket.socket) -> int:
    """Return the state of the connection (Linux, tcp_info.tcpi_state)."""
    return stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def _message(stream: ssl.SSLSocket) -> bytes:
    """Return one TTLV message: eight octets that say how many follow, and those."""
    header = _exactly(stream, 8)
    return header + _exactly(stream, int.from_bytes(header[4:], "big"))


def _exactly(stream: ssl.SSLSocket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        piece = stream.recv(length - len(found))
        if not piece:
            raise EOFError
        found += piece
    return found
