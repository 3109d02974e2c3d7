"""The server's side of the exchange: stateless functions around one `Responder`.

What the server must remember between two messages travels in tokens that it seals for itself, so
a Hello costs no write. Using a session once is the caller's duty: it inserts
`OpenedEvidence.session_id` under a unique key in the transaction that records the release.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecloud_protocol import envelope as frames
from securecloud_protocol import messages as wire
from securecloud_protocol import suite
from securecloud_protocol.envelope import Envelope
from securecloud_protocol.errors import ErrorCode, ProtocolError, malformed
from securecloud_protocol.state import (
    AckState,
    SessionState,
    TokenSealer,
    unpack_ack,
    unpack_session,
)
from securecloud_protocol.suite import RandomSource
from securecloud_protocol.transcript import (
    audit_head_parts,
    enrol_info,
    fingerprint,
    hello_digest,
    hello_info,
    release_info,
    transcript,
)

IdentityLookup = Callable[[str], bytes | None]
"""Maps an agent id to its Ed25519 public key (32 octets), or None when there is no such agent."""

ACK_LIFETIME = 3600
"""Seconds in which an agent may acknowledge a release: formatting a new volume takes its time."""

WAIT_LIFETIME = 2 * 86400
"""Seconds after a release in which its agent may wait; the next is long due by then."""

_CLOCK_SKEW_BETWEEN_NODES = 5


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The private half of a server's identity, 96 + 32 + 32 octets; every node has the same."""

    server_id: str
    kem_seed: bytes
    signing_seed: bytes
    token_key: bytes

    def __repr__(self) -> str:
        return f"ServerKeys({self.server_id})"


def generate_keys(server_id: str, random: RandomSource = os.urandom) -> ServerKeys:
    """Return a fresh identity."""
    return ServerKeys(server_id, random(suite.KEM_SEED_BYTES), random(32), random(32))


@dataclass(frozen=True, slots=True)
class OpenedEnrol:
    """An Enrol whose signature holds; the token's secret is still to be judged by the caller."""

    request: wire.Enrol
    secret: bytes
    payload: bytes

    def __repr__(self) -> str:
        return f"OpenedEnrol({self.request.agent_name})"


@dataclass(frozen=True, slots=True)
class OpenedHello:
    """An authenticated Hello with its first secret and digest."""

    hello: wire.Hello
    secret: bytes
    digest: bytes

    def __repr__(self) -> str:
        return f"OpenedHello({self.hello.agent_id})"


@dataclass(frozen=True, slots=True)
class OpenedEvidence:
    """An authenticated Evidence: who, in which session, asked what, and the evidence document."""

    state: SessionState
    core: wire.ChallengeCore
    body: wire.EvidenceBody
    transcript: bytes
    reply_key: suite.KemPublicKey = field(repr=False)

    @property
    def agent_id(self) -> str:
        """The agent that signed."""
        return self.state.agent_id

    @property
    def session_id(self) -> bytes:
        """To be consumed once (16 octets)."""
        return self.core.session_id

    def __repr__(self) -> str:
        return f"OpenedEvidence({self.state.agent_id})"


@dataclass(frozen=True, slots=True)
class OpenedAck:
    """An authenticated Ack."""

    agent_id: str
    ack: wire.Ack
    state: AckState

    def __repr__(self) -> str:
        return f"OpenedAck({self.agent_id})"


@dataclass(frozen=True, slots=True)
class OpenedCopy:
    """An authenticated Copy; whether it is the header that is wanted is for the caller to say."""

    agent_id: str
    copy: wire.Copy
    state: AckState

    def __repr__(self) -> str:
        return f"OpenedCopy({self.agent_id})"


@dataclass(frozen=True, slots=True)
class OpenedWait:
    """An authenticated Wait."""

    agent_id: str
    wait: wire.Wait
    state: AckState

    @property
    def last_check(self) -> int:
        """The number of the last check that the agent's last exchange knew of."""
        return self.state.last_check

    def __repr__(self) -> str:
        return f"OpenedWait({self.agent_id})"


class Responder:
    """Opens what agents send and seals what they get.

    `certificates` are the DER certificates under which this server may be seen; more than one
    only while a certificate is being replaced.
    """

    def __init__(
        self,
        keys: ServerKeys,
        certificates: Sequence[bytes],
        random: RandomSource = os.urandom,
    ) -> None:
        self._kem = suite.KemKey(keys.kem_seed)
        self._signing = Ed25519PrivateKey.from_private_bytes(keys.signing_seed)
        self._sessions = TokenSealer(keys.token_key, "challenge token 2", random)
        self._acks = TokenSealer(keys.token_key, "ack token 3", random)
        self._certificates = tuple(certificates)
        self._random = random
        self._nobody = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        self.identity = wire.ServerIdentity(
            keys.server_id,
            self._kem.public,
            self._signing.public_key().public_bytes_raw(),
        )
        self.fingerprint = fingerprint(self.identity)
        payload = wire.encode(wire.SERVER_IDENTITY, self.identity)
        sig = suite.sign(self._signing, "server signature", payload)
        self._identity_message = frames.encode(Envelope("server", payload, sig=sig))

    # Enrolment

    def identity_message(self) -> bytes:
        """Return the answer to GET enrol."""
        return self._identity_message

    def open_enrol(self, data: bytes) -> OpenedEnrol:
        """Verify that the sender holds the identity key, and open the token's secret."""
        frame = frames.decode_request(data, "enrol")
        enrol: wire.Enrol = wire.decode(wire.ENROL, frame.payload)
        suite.verify_signature(enrol.identity_key, frame.sig, "enrol signature", frame.payload)
        if enrol.server_id != self.identity.server_id:
            raise ProtocolError(ErrorCode.NOT_AUTHENTICATED, "enrolment for another server")
        secret = self._kem.open(enrol.sealed_secret, enrol_info(enrol))
        return OpenedEnrol(enrol, secret, frame.payload)

    def enrolled(self, opened: OpenedEnrol, agent_id: str) -> bytes:
        """Return the signed answer that binds `agent_id` to the request."""
        answer = wire.Enrolled(
            self.identity.server_id, agent_id, opened.request.agent_name, opened.request.nonce
        )
        payload = wire.encode(wire.ENROLLED, answer)
        sig = suite.sign(self._signing, "enrolled signature", opened.payload, payload)
        return frames.encode(Envelope("enrolled", payload, sig=sig))

    # Exchange

    def open_hello(self, data: bytes, identity_of: IdentityLookup) -> OpenedHello:
        """Authenticate a Hello. An unknown agent and a wrong signature look the same."""
        frame = frames.decode_request(data, "hello")
        hello: wire.Hello = wire.decode(wire.HELLO, frame.payload)
        public = identity_of(hello.agent_id)
        self._verify_agent(public, frame.sig, "hello signature", frame.payload)
        secret = self._kem.open(hello.sealed_secret, hello_info(self.identity.server_id, hello))
        return OpenedHello(hello, secret, hello_digest(frame.payload))

    def challenge(
        self,
        opened: OpenedHello,
        devices: tuple[str, ...],
        facts: tuple[wire.FactRequest, ...],
        policy_digest: bytes,
        now: int,
        lifetime: int,
        last_check: int = 0,
    ) -> bytes:
        """Return the Challenge; nothing is stored. `now` in seconds since 1970 UTC.

        `last_check` is the number of the last check that was asked for of this agent, 0 for none;
        such numbers only ever grow. It comes back with the Evidence and with each Wait.
        """
        core = wire.encode(
            wire.CHALLENGE_CORE,
            wire.ChallengeCore(
                session_id=self._random(wire.SESSION_ID_BYTES),
                nonce=self._random(suite.NONCE_BYTES),
                time=now,
                lifetime=lifetime,
                devices=devices,
                facts=facts,
                policy_digest=policy_digest,
            ),
        )
        hello = opened.hello
        state = SessionState(
            agent_id=hello.agent_id,
            boot_id=hello.boot_id,
            hello_digest=opened.digest,
            secret=opened.secret,
            reply_key=hello.reply_key,
            issued_at=now,
            agent_time=hello.time,
            seen_audit_size=hello.seen_audit_size,
            last_check=last_check,
        )
        token = self._sessions.seal(state.pack(), core)
        payload = wire.encode(wire.CHALLENGE, wire.Challenge(core, token))
        key = suite.derive(opened.secret, opened.digest, "challenge mac")
        tag = suite.mac(key, "challenge mac", opened.digest, payload)
        return frames.encode(Envelope("challenge", payload, mac=tag))

    def open_evidence(self, data: bytes, identity_of: IdentityLookup, now: int) -> OpenedEvidence:
        """Authenticate an Evidence against the session that its token seals."""
        frame = frames.decode_request(data, "evidence")
        evidence: wire.Evidence = wire.decode(wire.EVIDENCE, frame.payload)
        state = unpack_session(self._sessions.open(evidence.token, evidence.core))
        core: wire.ChallengeCore = wire.decode(wire.CHALLENGE_CORE, evidence.core)
        _check_age(state.issued_at, core.lifetime, now)
        t = self._authenticated_transcript(state, evidence, frame)
        public = identity_of(state.agent_id)
        self._verify_agent(public, frame.sig, "evidence signature", t, frame.payload)
        key = suite.derive(state.secret, t, "evidence encryption")
        body: wire.EvidenceBody = wire.decode(
            wire.EVIDENCE_BODY, suite.decrypt(key, evidence.body, t)
        )
        if body.boot_id != state.boot_id:
            raise ProtocolError(ErrorCode.NOT_AUTHENTICATED, "evidence of another boot")
        if {claim.device for claim in body.devices} != set(core.devices):
            raise malformed("the evidence claims other devices than the challenge named")
        # Parsed before the session is used up, so that a key that nothing can be sealed to costs
        # the sender its answer and not the operator a phantom release.
        return OpenedEvidence(state, core, body, t, suite.KemPublicKey(state.reply_key))

    def _verify_agent(self, public: bytes | None, sig: bytes, purpose: str, *parts: bytes) -> None:
        """Raise unless a known agent signed; an unknown one takes as long and looks the same."""
        suite.verify_signature(public or self._nobody, sig, purpose, *parts)
        if not public:
            raise ProtocolError(ErrorCode.NOT_AUTHENTICATED, "no such agent")

    def _authenticated_transcript(
        self, state: SessionState, evidence: wire.Evidence, frame: Envelope
    ) -> bytes:
        """Return the transcript under whose key the MAC holds, trying each of our certificates."""
        refusal = ProtocolError(ErrorCode.NOT_AUTHENTICATED, "no certificate is configured")
        for certificate in self._certificates:
            t = transcript(state.hello_digest, evidence.core, evidence.token, certificate)
            key = suite.derive(state.secret, t, "evidence mac")
            try:
                suite.verify_mac(key, frame.mac, "evidence mac", t, frame.payload)
            except ProtocolError as error:
                refusal = error
            else:
                return t
        raise refusal

    def release(
        self,
        opened: OpenedEvidence,
        decisions: tuple[wire.DeviceDecision, ...],
        check_interval: int,
        audit: wire.AuditHead,
        now: int,
    ) -> bytes:
        """Return the Release, sealed to the reply key of this exchange's Hello.

        `check_interval` and `now` in seconds. ValueError when `decisions` are not one for each
        device of the challenge, or hold what an agent must refuse.
        """
        if {decision.device for decision in decisions} != set(opened.core.devices):
            raise ValueError("the decisions are not for the devices of the challenge")
        t = opened.transcript
        second = self._random(suite.SECRET_BYTES)
        joint = opened.state.secret + second
        ack_state = AckState(
            agent_id=opened.agent_id,
            session_id=opened.session_id,
            transcript=t,
            ack_key=suite.derive(joint, t, "ack mac"),
            receipt_key=suite.derive(joint, t, "receipt mac"),
            copy_key=suite.derive(joint, t, "copy mac"),
            kept_key=suite.derive(joint, t, "kept mac"),
            wait_key=suite.derive(joint, t, "wait mac"),
            wake_key=suite.derive(joint, t, "wake mac"),
            issued_at=now,
            last_check=opened.state.last_check,
            devices=opened.core.devices,
        )
        ack_token = self._acks.seal(ack_state.pack(), b"")
        body = wire.ReleaseBody(opened.session_id, decisions, check_interval, audit, ack_token)
        sealed = suite.encrypt(
            suite.derive(joint, t, "release encryption"),
            wire.encode(wire.RELEASE_BODY, body),
            t,
            self._random,
        )
        second_sealed = opened.reply_key.seal(second, release_info(t))
        payload = wire.encode(wire.RELEASE, wire.Release(second_sealed, sealed))
        tag = suite.mac(suite.derive(joint, t, "release mac"), "release mac", t, payload)
        return frames.encode(Envelope("release", payload, mac=tag))

    def open_ack(self, data: bytes, now: int) -> OpenedAck:
        """Authenticate an Ack. Recording it once is the caller's duty."""
        frame = frames.decode_request(data, "ack")
        ack: wire.Ack = wire.decode(wire.ACK, frame.payload)
        state = unpack_ack(self._acks.open(ack.ack_token, b""))
        suite.verify_mac(state.ack_key, frame.mac, "ack mac", state.transcript, frame.payload)
        if ack.session_id != state.session_id:
            raise ProtocolError(ErrorCode.NOT_AUTHENTICATED, "ack for another session")
        if not {result.device for result in ack.results} <= set(state.devices):
            raise malformed("the ack names a device that the release did not decide on")
        _check_age(state.issued_at, ACK_LIFETIME, now)
        return OpenedAck(state.agent_id, ack, state)

    def receipt(self, opened: OpenedAck, copies: tuple[str, ...] = ()) -> bytes:
        """Return the receipt of an ack that has been recorded; of `copies` a Copy is wanted."""
        payload = wire.encode(wire.RECEIPT, wire.Receipt(opened.ack.session_id, copies))
        tag = suite.mac(opened.state.receipt_key, "receipt mac", opened.state.transcript, payload)
        return frames.encode(Envelope("receipt", payload, mac=tag))

    # Copies of LUKS headers

    def open_copy(self, data: bytes, now: int) -> OpenedCopy:
        """Authenticate a Copy by its token alone."""
        frame = frames.decode_request(data, "copy")
        copy: wire.Copy = wire.decode(wire.COPY, frame.payload)
        state = unpack_ack(self._acks.open(copy.ack_token, b""))
        suite.verify_mac(state.copy_key, frame.mac, "copy mac", state.transcript, frame.payload)
        if copy.session_id != state.session_id:
            raise ProtocolError(ErrorCode.NOT_AUTHENTICATED, "copy for another session")
        if copy.device not in state.devices:
            raise malformed("the copy is of a device that the release did not decide on")
        _check_age(state.issued_at, ACK_LIFETIME, now)
        return OpenedCopy(state.agent_id, copy, state)

    def kept(self, opened: OpenedCopy) -> bytes:
        """Return the answer to a Copy that has been kept."""
        payload = wire.encode(wire.KEPT, wire.Kept(opened.copy.session_id))
        tag = suite.mac(opened.state.kept_key, "kept mac", opened.state.transcript, payload)
        return frames.encode(Envelope("kept", payload, mac=tag))

    # Checks on demand

    def open_wait(self, data: bytes, now: int) -> OpenedWait:
        """Authenticate a Wait by its token alone; nothing is looked up for a stranger."""
        frame = frames.decode_request(data, "wait")
        wait: wire.Wait = wire.decode(wire.WAIT, frame.payload)
        state = unpack_ack(self._acks.open(wait.ack_token, b""))
        suite.verify_mac(state.wait_key, frame.mac, "wait mac", state.transcript, frame.payload)
        if wait.session_id != state.session_id:
            raise ProtocolError(ErrorCode.NOT_AUTHENTICATED, "wait for another session")
        _check_age(state.issued_at, WAIT_LIFETIME, now)
        return OpenedWait(state.agent_id, wait, state)

    def wake(self, opened: OpenedWait, *, check: bool) -> bytes:
        """Return the answer to a Wait."""
        payload = wire.encode(wire.WAKE, wire.Wake(opened.wait.session_id, check))
        tag = suite.mac(opened.state.wake_key, "wake mac", opened.state.transcript, payload)
        return frames.encode(Envelope("wake", payload, mac=tag))

    # Audit

    def sign_audit_head(self, size: int, root: bytes, time: int) -> bytes:
        """Return the signature of a tree head (64 octets)."""
        head = wire.AuditHead(size, root, time, b"", ())
        parts = audit_head_parts(self.identity.server_id, head)
        return suite.sign(self._signing, "audit head signature", *parts)

    def sign_audit_bundle(self, manifest: bytes) -> bytes:
        """Return the signature of an evidence bundle's manifest (64 octets)."""
        return suite.sign(self._signing, "audit bundle signature", manifest)


def _check_age(issued_at: int, lifetime: int, now: int) -> None:
    if not -_CLOCK_SKEW_BETWEEN_NODES <= now - issued_at <= lifetime:
        raise ProtocolError(ErrorCode.EXPIRED, f"issued {now - issued_at} s ago")
