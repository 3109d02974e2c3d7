"""A small world: servers, agents, and exchanges whose every message can be forged and delivered.

`Stage` keeps, for each of the eleven messages, the authentic octets, an endpoint that waits for
just that message, and a way to seal other payload octets as the true sender would.
"""

import copy
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securecloud_protocol import messages as wire
from securecloud_protocol import suite
from securecloud_protocol.agent import Enrolment, Exchange, read_server_identity
from securecloud_protocol.envelope import Envelope, decode_request, encode
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.server import OpenedEvidence, Responder, ServerKeys, generate_keys
from securecloud_protocol.token import EnrolmentToken
from securecloud_protocol.transcript import release_info

NOW = 1_800_000_000
LIFETIME = 30
LAST_CHECK = 11
CERTIFICATE = b"certificate of the first server"
SERVER_ID = "5e7e0000-0000-4000-8000-000000000001"
AGENT_ID = "a9e00000-0000-4000-8000-000000000001"
BOOT_ID = "b0070000-0000-4000-8000-000000000001"
LUKS_UUID = "1c5e0000-0000-4000-8000-000000000001"

TYPES = (
    "server",
    "enrol",
    "enrolled",
    "hello",
    "challenge",
    "evidence",
    "release",
    "ack",
    "receipt",
    "copy",
    "kept",
    "wait",
    "wake",
)


def stream(seed: str) -> suite.RandomSource:
    """Return a random source that gives the same octets for the same seed.

    Block i is SHA-256(seed ‖ i as four octets, most significant first).
    """

    def blocks() -> Iterator[int]:
        for number in range(2**32):
            yield from hashlib.sha256(seed.encode() + number.to_bytes(4, "big")).digest()

    source = blocks()
    return lambda count: bytes(next(source) for _ in range(count))


@dataclass
class Agent:
    """An agent that some servers know."""

    agent_id: str = AGENT_ID
    seed: str = "first agent"

    @property
    def key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(stream(self.seed)(32))

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()


@dataclass
class World:
    """A server that knows two agents."""

    server_id: str = SERVER_ID
    seed: str = "first server"
    certificates: tuple[bytes, ...] = (CERTIFICATE,)
    agent: Agent = field(default_factory=Agent)
    other: Agent = field(
        default_factory=lambda: Agent("a9e00000-0000-4000-8000-000000000002", "second agent")
    )
    random: suite.RandomSource = os.urandom

    def __post_init__(self) -> None:
        self.keys: ServerKeys = generate_keys(self.server_id, stream(self.seed))
        self.responder = Responder(self.keys, self.certificates, self.random)
        self.identity = self.responder.identity
        self.known = {each.agent_id: each.public for each in (self.agent, self.other)}
        self.token = EnrolmentToken("t0k3n", stream("token secret")(32), self.responder.fingerprint)

    def lookup(self, agent_id: str) -> bytes | None:
        return self.known.get(agent_id)

    def exchange(self, agent: Agent | None = None) -> Exchange:
        agent = agent or self.agent
        return Exchange(self.identity, agent.agent_id, agent.key, self.random)


HEADER = b"LUKS\xba\xbe and more"


def header(*, changing: bool = False) -> wire.LuksHeader:
    return wire.LuksHeader(bytes(range(32)), bytes(range(32, 64)), changing)


def volume() -> wire.Volume:
    """A volume with every optional member given."""
    return wire.Volume(
        source="/dev/disk/by-id/virtio-data",
        iscsi=wire.IscsiTarget("192.0.2.7:3260", "iqn.2026-01.org.example:data", 1),
        filesystem="ext4",
        mount_point="/srv/data",
        options=("defaults", "noatime"),
        read_only=False,
        initialise="never",
        luks_uuid=LUKS_UUID,
        header=header(),
    )


def evidence_body() -> wire.EvidenceBody:
    return wire.EvidenceBody(
        agent_version="0.1.0",
        boot_id=BOOT_ID,
        devices=(
            wire.DeviceClaim("data", "key", bytes(32), header()),
            wire.DeviceClaim("logs", "check", bytes(range(32))),
        ),
        facts={
            "host_name": wire.Fact("web1", "claimed", None),
            "os": wire.Fact({"id": "debian", "version_id": "12"}, "claimed", None),
            "tpm": wire.Fact(None, None, "no device"),
        },
        proofs=(wire.Proof("tpm_quote", b"quote"),),
    )


def decisions() -> tuple[wire.DeviceDecision, ...]:
    granted = wire.DeviceDecision(
        device="data",
        outcome="granted",
        code="approved",
        request_id="r-1",
        retry_after=15,
        key=bytes(range(64)),
        key_version=3,
        lineage=bytes(32),
        volume=volume(),
    )
    checked = wire.DeviceDecision("logs", "granted", "checked", "r-2", 15, None, 1, bytes(32), None)
    return granted, checked


def audit_head(responder: Responder) -> wire.AuditHead:
    root = hashlib.sha256(b"root").digest()
    signature = responder.sign_audit_head(7, root, NOW)
    return wire.AuditHead(7, root, NOW, signature, (bytes(32),))


RESULTS = (
    wire.AckResult("data", 3, "mounted", LUKS_UUID, False, "mounted on /srv/data", header()),
    wire.AckResult("logs", 1, "checked", LUKS_UUID, False, ""),
)
FACTS = (wire.FactRequest("host_name"), wire.FactRequest("packages", ("openssl", "bash")))


def challenge(world: World, hello: bytes, **changes: Any) -> bytes:
    opened = world.responder.open_hello(hello, world.lookup)
    arguments: dict[str, Any] = {
        "devices": ("data", "logs"),
        "facts": FACTS,
        "policy_digest": bytes(32),
        "now": NOW,
        "lifetime": LIFETIME,
        "last_check": LAST_CHECK,
    }
    return world.responder.challenge(opened, **(arguments | changes))


def release(
    world: World,
    opened: OpenedEvidence,
    decided: tuple[wire.DeviceDecision, ...] | None = None,
) -> bytes:
    head = audit_head(world.responder)
    return world.responder.release(
        opened, decisions() if decided is None else decided, 300, head, NOW
    )


@dataclass(frozen=True)
class Script:
    """What the two sides say in one exchange."""

    asked: tuple[str, ...] = ("data", "logs")
    devices: tuple[str, ...] = ("data", "logs")
    facts: tuple[wire.FactRequest, ...] = FACTS
    body: wire.EvidenceBody = field(default_factory=evidence_body)
    decisions: tuple[wire.DeviceDecision, ...] = field(default_factory=decisions)
    results: tuple[wire.AckResult, ...] = RESULTS
    copies: tuple[str, ...] = ("data",)
    certificate: bytes = CERTIFICATE


def refusal(action: Callable[[], object]) -> ErrorCode:
    """Return the code with which `action` is refused; any other outcome fails the test."""
    try:
        result = action()
    except ProtocolError as error:
        return error.code
    raise AssertionError(f"accepted: {result!r}")


@dataclass
class Stage:
    """An exchange and an enrolment, played once."""

    world: World
    messages: dict[str, bytes]
    agents: dict[str, Exchange]
    """The agent's side as it was before each reply."""
    enrolment: Enrolment

    @classmethod
    def play(cls, world: World, script: Script | None = None) -> "Stage":
        script, agent = script or Script(), world.agent
        responder, sent, waiting = world.responder, {}, {}
        exchange = world.exchange(agent)
        enrolment = Enrolment(world.identity, agent.key, world.random)
        sent["server"] = responder.identity_message()
        sent["enrol"] = enrolment.request("web1", world.token)
        sent["enrolled"] = responder.enrolled(responder.open_enrol(sent["enrol"]), agent.agent_id)
        sent["hello"] = exchange.hello(script.asked, BOOT_ID, NOW, 5)
        sent["challenge"] = challenge(
            world, sent["hello"], devices=script.devices, facts=script.facts
        )
        waiting["challenge"] = copy.copy(exchange)
        exchange.challenge(sent["challenge"], script.certificate)
        waiting["evidence"] = copy.copy(exchange)
        sent["evidence"] = exchange.evidence(script.body)
        opened = responder.open_evidence(sent["evidence"], world.lookup, NOW)
        sent["release"] = release(world, opened, script.decisions)
        waiting["release"] = copy.copy(exchange)
        exchange.release(sent["release"])
        waiting["ack"] = copy.copy(exchange)
        sent["ack"] = exchange.ack(script.results)
        acknowledged = responder.open_ack(sent["ack"], NOW)
        sent["receipt"] = responder.receipt(acknowledged, script.copies)
        waiting["receipt"] = exchange
        waiting["kept"] = copy.copy(exchange)
        for device in waiting["kept"].receipt(sent["receipt"]):
            sent["copy"] = waiting["kept"].copy(device, HEADER)
            sent["kept"] = responder.kept(responder.open_copy(sent["copy"], NOW))
        sent["wait"] = exchange.waiting.wait()
        sent["wake"] = responder.wake(responder.open_wait(sent["wait"], NOW), check=True)
        return cls(world, sent, waiting, enrolment)

    def payload(self, kind: str) -> bytes:
        return decode_request(self.messages[kind], kind).payload

    def deliver(self, kind: str, data: bytes) -> object:
        """Give `data` to the endpoint that waits for a message of `kind`."""
        world, responder = self.world, self.world.responder
        endpoints: dict[str, Callable[[], object]] = {
            "server": lambda: read_server_identity(data, responder.fingerprint),
            "enrol": lambda: responder.open_enrol(data),
            "enrolled": lambda: self.enrolment.confirm(data),
            "hello": lambda: responder.open_hello(data, world.lookup),
            "challenge": lambda: self._waiting("challenge").challenge(data, CERTIFICATE),
            "evidence": lambda: responder.open_evidence(data, world.lookup, NOW),
            "release": lambda: self._waiting("release").release(data),
            "ack": lambda: responder.open_ack(data, NOW),
            "receipt": lambda: self._waiting("receipt").receipt(data),
            "copy": lambda: responder.open_copy(data, NOW),
            "kept": lambda: self.agents["kept"].kept(data),
            "wait": lambda: responder.open_wait(data, NOW),
            "wake": lambda: self.agents["receipt"].waiting.wake(data),
        }
        return endpoints[kind]()

    def _waiting(self, kind: str) -> Exchange:
        return copy.copy(self.agents[kind])

    # Forging: what the true sender would make of other octets

    def seal(self, kind: str, payload: bytes) -> bytes:
        """Return the message of `kind` with this payload, authenticated as by its sender."""
        agent, exchange = self.world.agent.key, self.agents["receipt"]
        server = Ed25519PrivateKey.from_private_bytes(self.world.keys.signing_seed)
        mac = sig = b""
        if kind == "server":
            sig = suite.sign(server, "server signature", payload)
        elif kind == "enrolled":
            sig = suite.sign(server, "enrolled signature", self.payload("enrol"), payload)
        elif kind in ("enrol", "hello"):
            sig = suite.sign(agent, f"{kind} signature", payload)
        elif kind == "challenge":
            digest = exchange._hello_digest
            key = suite.derive(exchange._secret, digest, "challenge mac")
            mac = suite.mac(key, "challenge mac", digest, payload)
        elif kind == "evidence":
            keys = exchange._keys
            mac = suite.mac(keys.evidence_mac, "evidence mac", keys.transcript, payload)
            sig = suite.sign(agent, "evidence signature", keys.transcript, payload)
        else:
            key = {
                "ack": exchange._ack_key,
                "receipt": exchange._receipt_key,
                "copy": exchange._copy_key,
                "kept": exchange._kept_key,
                "wait": exchange.waiting.wait_key,
                "wake": exchange.waiting.wake_key,
            }[kind]
            mac = suite.mac(key, f"{kind} mac", exchange.transcript, payload)
        return encode(Envelope(kind, payload, mac=mac, sig=sig))

    def seal_core(self, core: bytes) -> bytes:
        """Return a Challenge with these core octets."""
        token = wire.decode(wire.CHALLENGE, self.payload("challenge")).token
        payload = wire.encode(wire.CHALLENGE, wire.Challenge(core, token))
        return self.seal("challenge", payload)

    def seal_evidence_body(self, body: bytes) -> bytes:
        """Return an Evidence with these octets inside its encryption."""
        keys = self.agents["receipt"]._keys
        sent: wire.Evidence = wire.decode(wire.EVIDENCE, self.payload("evidence"))
        sealed = suite.encrypt(keys.evidence, body, keys.transcript, stream("nonce"))
        payload = wire.encode(wire.EVIDENCE, wire.Evidence(sent.core, sent.token, sealed))
        return self.seal("evidence", payload)

    def seal_release_body(self, body: bytes) -> bytes:
        """Return a Release with these octets inside its encryption."""
        exchange = self.agents["release"]
        t, second = exchange.transcript, stream("second secret")(32)
        joint = exchange._secret + second
        key = suite.derive(joint, t, "release encryption")
        sealed = suite.encrypt(key, body, t, stream("nonce"))
        reply_key = suite.KemPublicKey(exchange._reply_key.public)
        message = wire.Release(reply_key.seal(second, release_info(t)), sealed)
        payload = wire.encode(wire.RELEASE, message)
        tag = suite.mac(suite.derive(joint, t, "release mac"), "release mac", t, payload)
        return encode(Envelope("release", payload, mac=tag))

    def release_body(self) -> bytes:
        opened = self._waiting("release").release(self.messages["release"])
        return wire.encode(wire.RELEASE_BODY, opened)

    def core(self) -> bytes:
        return wire.decode(wire.CHALLENGE, self.payload("challenge")).core
