"""A strict management server: the protocol package's own Responder behind a tiny HTTPS server.

It keeps the rules that a real one keeps: sessions and acks are taken once, a lineage that is
neither the previous nor the next one is a clone, keys leave only for `want: key`.
"""

import os
import ssl
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from securecloud_protocol import messages as wire
from securecloud_protocol.envelope import encode_error
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.server import Responder, generate_keys
from securecloud_protocol.token import EnrolmentToken, format_token

from . import merkle
from .certificates import Certificate

Fault = str | ErrorCode | Callable[[], object]


class Clock:
    """Time that stands still until a test moves it, or somebody pauses."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.time

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds


@dataclass
class Device:
    volume: wire.Volume | None
    key: bytes = field(default_factory=lambda: os.urandom(wire.DEVICE_KEY_BYTES))
    outcome: str = "granted"
    code: str = "approved"
    retry_after: int | None = None
    grace: wire.Grace | None = None
    offline: wire.Offline | None = None
    version: int = 1
    successor: bytes | None = None
    header: wire.LuksHeader | None = None
    copy: bytes | None = None
    previous: bytes | None = None
    next: bytes | None = None


class Management:
    """The state that all listeners share, as server nodes share a database."""

    def __init__(self, clock: Clock, certificates: list[Certificate]) -> None:
        self.clock = clock
        self.responder = Responder(
            generate_keys(str(uuid.uuid4())), [each.der for each in certificates]
        )
        self.agents: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.tokens: dict[str, bytes] = {}
        self.devices: dict[str, Device] = {}
        self.facts: tuple[wire.FactRequest, ...] = ()
        self.records: list[bytes] = []
        self.evidence: list[wire.EvidenceBody] = []
        self.acks: list[wire.Ack] = []
        self.hellos: list[wire.Hello] = []
        self.skew = 0
        self.last_check = 0
        self.waits = 0
        self.held_seconds = 20.0
        self.news = threading.Condition()
        self._consumed: set[bytes] = set()
        self._acked: set[bytes] = set()
        self._lock = threading.Lock()

    def token(self) -> str:
        token = EnrolmentToken(os.urandom(4).hex(), os.urandom(32), self.responder.fingerprint)
        self.tokens[token.token_id] = token.secret
        return format_token(token)

    def ask_for_check(self) -> None:
        with self.news:
            self.last_check += 1
            self.news.notify_all()

    def await_waits(self, count: int) -> None:
        """Return once agents have come to wait `count` times."""
        with self.news:
            assert self.news.wait_for(lambda: self.waits >= count, 20), self.waits

    def handle(self, method: str, path: str, body: bytes) -> bytes:
        if (method, path) == ("POST", "/agent/v1/wait"):
            return self._wait(body)
        route = {
            ("GET", "/agent/v1/enrol"): lambda _: self.responder.identity_message(),
            ("POST", "/agent/v1/enrol"): self._enrol,
            ("POST", "/agent/v1/hello"): self._hello,
            ("POST", "/agent/v1/evidence"): self._evidence,
            ("POST", "/agent/v1/ack"): self._ack,
            ("POST", "/agent/v1/copy"): self._copy,
        }[method, path]
        with self._lock:
            return route(body)

    def _now(self) -> int:
        return int(self.clock.now()) + self.skew

    def _enrol(self, body: bytes) -> bytes:
        opened = self.responder.open_enrol(body)
        asked = opened.request
        if self.tokens.get(asked.token_id) != opened.secret:
            raise ProtocolError(ErrorCode.ENROLMENT_REFUSED, "token")
        if asked.agent_name in self.names:
            raise ProtocolError(ErrorCode.IDENTITY_CONFLICT, "name")
        del self.tokens[asked.token_id]
        agent_id = str(uuid.uuid4())
        self.names[asked.agent_name] = agent_id
        self.agents[agent_id] = asked.identity_key
        return self.responder.enrolled(opened, agent_id)

    def _hello(self, body: bytes) -> bytes:
        opened = self.responder.open_hello(body, self.agents.get)
        self.hellos.append(opened.hello)
        devices = opened.hello.devices or tuple(sorted(self.devices))
        if set(devices) - self.devices.keys():
            raise ProtocolError(ErrorCode.UNKNOWN_DEVICE, "device")
        return self.responder.challenge(
            opened, devices, self.facts, bytes(32), self._now(), 30, self.last_check
        )

    def _evidence(self, body: bytes) -> bytes:
        opened = self.responder.open_evidence(body, self.agents.get, self._now())
        if opened.session_id in self._consumed:
            raise ProtocolError(ErrorCode.REPLAYED, "session")
        self._consumed.add(opened.session_id)
        self.evidence.append(opened.body)
        assert tuple(claim.device for claim in opened.body.devices) == opened.core.devices
        assert opened.body.facts.keys() == {fact.name for fact in opened.core.facts}
        decisions = tuple(self._decide(claim) for claim in opened.body.devices)
        self.records.append(os.urandom(8))
        return self.responder.release(
            opened, decisions, 300, self._head(opened.state.seen_audit_size), self._now()
        )

    def _decide(self, claim: wire.DeviceClaim) -> wire.DeviceDecision:
        device = self.devices[claim.device]
        refused = wire.DeviceDecision(
            claim.device, "denied", "quarantined", "1", None, None, None, None, None
        )
        if device.next is not None and claim.lineage not in (device.previous, device.next):
            return refused
        if device.outcome != "granted":
            return wire.DeviceDecision(
                claim.device, device.outcome, device.code, "1", device.retry_after,
                None, None, None, None, device.grace if claim.want != "key" else None,
            )  # fmt: skip
        changed = not _fits(device, claim.header)
        if changed and claim.want == "key":
            return wire.DeviceDecision(
                claim.device, "denied", "header_changed", "1", None, None, None, None, None
            )
        version, successor = device.version, device.successor
        useless = changed or (device.offline is None and successor is None)
        if claim.want == "check" or (claim.want == "renew" and useless):
            return wire.DeviceDecision(
                claim.device, "granted", "checked", "1", None, None, version, None, None, None,
                device.offline, wire.Successor(version + 1, None) if successor else None,
            )  # fmt: skip
        device.previous, device.next = claim.lineage, os.urandom(wire.LINEAGE_BYTES)
        volume = device.volume and replace(device.volume, header=device.header)
        if successor and device.header is not None:
            device.header = replace(device.header, changing=True)
        return wire.DeviceDecision(
            claim.device,
            "granted",
            "approved",
            "1",
            None,
            device.key,
            version,
            device.next,
            volume,
            offline=device.offline,
            successor=wire.Successor(version + 1, successor) if successor else None,
        )

    def _head(self, seen: int) -> wire.AuditHead:
        size, now = len(self.records), self._now()
        root = merkle.root(self.records)
        signature = self.responder.sign_audit_head(size, root, now)
        proof = merkle.consistency(seen, self.records) if seen <= size else []
        return wire.AuditHead(size, root, now, signature, tuple(proof))

    def _ack(self, body: bytes) -> bytes:
        opened = self.responder.open_ack(body, self._now())
        if opened.ack.session_id in self._acked:
            raise ProtocolError(ErrorCode.REPLAYED, "ack")
        self._acked.add(opened.ack.session_id)
        self.acks.append(opened.ack)
        for result in opened.ack.results:
            device = self.devices[result.device]
            device.previous = device.next
            in_use = result.result in {"mounted", "opened", "verified", "offline"}
            if device.successor and result.key_version == device.version + 1 and in_use:
                device.key, device.successor = device.successor, None
                device.version += 1
            if in_use and result.header is not None and _fits(device, result.header):
                assert result.header.volume_key is not None
                device.header = result.header
            if result.luks_uuid and device.volume is not None and result.result != "failed":
                device.volume = _pinned(device.volume, result.luks_uuid)
        wanted = [each.device for each in opened.ack.results if self._lacks_copy(each)]
        return self.responder.receipt(opened, tuple(wanted))

    def _lacks_copy(self, result: wire.AckResult) -> bool:
        device = self.devices[result.device]
        return (
            result.header is not None
            and device.header == result.header
            and not device.header.changing
            and (device.copy is None or sha256(device.copy).digest() != device.header.digest)
        )

    def _copy(self, body: bytes) -> bytes:
        opened = self.responder.open_copy(body, self._now())
        device = self.devices[opened.copy.device]
        if device.header is None or sha256(opened.copy.header).digest() != device.header.digest:
            raise ProtocolError(ErrorCode.STALE, "another header")
        device.copy = opened.copy.header
        return self.responder.kept(opened)

    def _wait(self, body: bytes) -> bytes:
        opened = self.responder.open_wait(body, self._now())

        def is_asked() -> bool:
            return self.last_check > opened.last_check

        with self.news:
            self.waits += 1
            self.news.notify_all()
            return self.responder.wake(
                opened, check=self.news.wait_for(is_asked, self.held_seconds)
            )


def _fits(device: Device, found: wire.LuksHeader | None) -> bool:
    return device.header is None or found is None or device.header.allows(found)


def _pinned(volume: wire.Volume, luks_uuid: str) -> wire.Volume:
    assert volume.luks_uuid in (None, luks_uuid)
    return wire.Volume(
        volume.source, volume.iscsi, volume.filesystem, volume.mount_point, volume.options,
        volume.read_only, "never", luks_uuid,
    )  # fmt: skip


class Listener:
    """One HTTPS listener. `faults` are used up one per request, in order."""

    def __init__(self, management: Management, certificate: Certificate, tls: str = "1.3") -> None:
        self.management = management
        self.faults: list[Fault | None] = []
        self.requests: list[tuple[str, str]] = []
        self.connections = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if tls == "1.2":
            self._context.maximum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_cert_chain(certificate.pem_file)
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.listener = self
        self.port = self._server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def secure(self, plain):
        self.connections += 1
        return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        listener = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self) -> None:
                self._answer("GET")

            def do_POST(self) -> None:
                self._answer("POST")

            def _answer(self, method: str) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                listener.requests.append((method, self.path))
                fault = listener.faults.pop(0) if listener.faults else None
                listener.answer(self, method, body, fault)

            def send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler

    def answer(self, handler, method: str, body: bytes, fault: Fault | None) -> None:
        if callable(fault) and not isinstance(fault, str):
            fault()
        if fault == "drop":
            handler.close_connection = True
            return
        if isinstance(fault, ErrorCode):
            handler.send(400, encode_error(fault))
            return
        if isinstance(fault, str) and fault.startswith("status "):
            handler.send(int(fault.split()[1]), b"<html>a proxy</html>")
            return
        try:
            status, answer = 200, self.management.handle(method, handler.path, body)
        except ProtocolError as error:
            status, answer = 400, encode_error(error.code)
        if fault == "drop after":
            handler.close_connection = True
            return
        if fault == "huge":
            answer += b" " * 300_000
        if fault == "close":
            handler.close_connection = True
        handler.send(status, answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    listener: Listener

    def process_request_thread(self, request, client_address) -> None:
        secured = self.listener.secure(request)
        with suppress(OSError):
            secured.do_handshake()
            self.finish_request(secured, client_address)
        with suppress(OSError):
            secured.close()

    def handle_error(self, request, client_address) -> None:
        pass
