"""The agent's side of the exchange: enrolment, and one object per exchange."""

import os
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecloud_protocol import envelope as frames
from securecloud_protocol import messages as wire
from securecloud_protocol import suite
from securecloud_protocol.envelope import Envelope
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.suite import RandomSource
from securecloud_protocol.token import EnrolmentToken
from securecloud_protocol.transcript import (
    enrol_info,
    fingerprint,
    hello_digest,
    hello_info,
    release_info,
    transcript,
)


def _refused(detail: str) -> ProtocolError:
    return ProtocolError(ErrorCode.NOT_AUTHENTICATED, detail)


def read_server_identity(data: bytes, expected_fingerprint: str) -> wire.ServerIdentity:
    """Parse the server's identity message and raise unless it is the one that the token pins."""
    frame = frames.decode(data, "server")
    identity: wire.ServerIdentity = wire.decode(wire.SERVER_IDENTITY, frame.payload)
    suite.verify_signature(identity.signing_key, frame.sig, "server signature", frame.payload)
    if fingerprint(identity) != expected_fingerprint:
        raise _refused("the server is not the one that the enrolment token names")
    return identity


class Enrolment:
    """One enrolment: `request`, then `confirm` with the answer."""

    def __init__(
        self,
        server: wire.ServerIdentity,
        identity_key: Ed25519PrivateKey,
        random: RandomSource = os.urandom,
    ) -> None:
        self._server = server
        self._key = identity_key
        self._random = random
        self._sent: tuple[bytes, wire.Enrol] | None = None

    def request(self, agent_name: str, token: EnrolmentToken) -> bytes:
        """Return the Enrol message."""
        enrol = wire.Enrol(
            server_id=self._server.server_id,
            agent_name=agent_name,
            identity_key=self._key.public_key().public_bytes_raw(),
            nonce=self._random(suite.NONCE_BYTES),
            token_id=token.token_id,
            sealed_secret=b"",
        )
        sealed = suite.kem_seal(self._server.kem_key, token.secret, enrol_info(enrol))
        enrol = replace(enrol, sealed_secret=sealed)
        payload = wire.encode(wire.ENROL, enrol)
        self._sent = payload, enrol
        sig = suite.sign(self._key, "enrol signature", payload)
        return frames.encode(Envelope("enrol", payload, sig=sig))

    def confirm(self, data: bytes) -> wire.Enrolled:
        """Parse the answer; raise unless the pinned server signed it for this very request."""
        if self._sent is None:
            raise RuntimeError("confirm before request")
        payload, enrol = self._sent
        frame = frames.decode(data, "enrolled")
        suite.verify_signature(
            self._server.signing_key, frame.sig, "enrolled signature", payload, frame.payload
        )
        enrolled: wire.Enrolled = wire.decode(wire.ENROLLED, frame.payload)
        if (enrolled.server_id, enrolled.agent_name, enrolled.nonce) != (
            enrol.server_id,
            enrol.agent_name,
            enrol.nonce,
        ):
            raise _refused("the answer is for another enrolment")
        return enrolled


@dataclass(frozen=True, slots=True)
class _Keys:
    """Keys of one exchange, each for one direction and one purpose."""

    transcript: bytes
    evidence: bytes
    evidence_mac: bytes


class Exchange:
    """One exchange: hello, challenge, evidence, release, ack, receipt - in this order, each once.

    A method called out of turn is a programming error and raises RuntimeError; a message that is
    refused raises ProtocolError and ends the exchange.
    """

    def __init__(
        self,
        server: wire.ServerIdentity,
        agent_id: str,
        identity_key: Ed25519PrivateKey,
        random: RandomSource = os.urandom,
    ) -> None:
        self._server = server
        self._agent_id = agent_id
        self._key = identity_key
        self._random = random
        self._step = "hello"
        self._secret = random(suite.SECRET_BYTES)
        self._reply_key = suite.KemKey(random(suite.KEM_SEED_BYTES))

    def _turn(self, expected: str, following: str) -> None:
        if self._step != expected:
            raise RuntimeError(f"{expected} is out of turn; the exchange waits for {self._step}")
        self._step = "over"
        self._following = following

    def _done(self) -> None:
        self._step = self._following

    def hello(
        self, devices: tuple[str, ...], boot_id: str, time: int, seen_audit_size: int = 0
    ) -> bytes:
        """Return the Hello message."""
        self._turn("hello", "challenge")
        hello = wire.Hello(
            agent_id=self._agent_id,
            devices=devices,
            boot_id=boot_id,
            nonce=self._random(suite.NONCE_BYTES),
            time=time,
            seen_audit_size=seen_audit_size,
            reply_key=self._reply_key.public,
            sealed_secret=b"",
        )
        info = hello_info(self._server.server_id, hello)
        sealed = suite.kem_seal(self._server.kem_key, self._secret, info)
        payload = wire.encode(wire.HELLO, replace(hello, sealed_secret=sealed))
        self._asked = devices
        self._hello_digest = hello_digest(payload)
        sig = suite.sign(self._key, "hello signature", payload)
        self._done()
        return frames.encode(Envelope("hello", payload, sig=sig))

    def challenge(self, data: bytes, certificate: bytes) -> wire.ChallengeCore:
        """Verify the Challenge; `certificate` is the TLS peer's, DER, as this connection saw it."""
        self._turn("challenge", "evidence")
        frame = frames.decode(data, "challenge")
        key = suite.derive(self._secret, self._hello_digest, "challenge mac")
        suite.verify_mac(key, frame.mac, "challenge mac", self._hello_digest, frame.payload)
        challenge: wire.Challenge = wire.decode(wire.CHALLENGE, frame.payload)
        core: wire.ChallengeCore = wire.decode(wire.CHALLENGE_CORE, challenge.core)
        if self._asked and set(core.devices) - set(self._asked):
            raise _refused("the challenge names devices that were not asked for")
        t = transcript(self._hello_digest, challenge.core, challenge.token, certificate)
        self._challenge = challenge
        self._core = core
        self._keys = _Keys(
            transcript=t,
            evidence=suite.derive(self._secret, t, "evidence encryption"),
            evidence_mac=suite.derive(self._secret, t, "evidence mac"),
        )
        self._done()
        return core

    @property
    def transcript(self) -> bytes:
        """`T` (32 octets), over which TPM quotes and cloud proofs are made; after the challenge."""
        return self._keys.transcript

    def evidence(self, body: wire.EvidenceBody) -> bytes:
        """Return the Evidence message."""
        self._turn("evidence", "release")
        keys = self._keys
        sealed = suite.encrypt(
            keys.evidence, wire.encode(wire.EVIDENCE_BODY, body), keys.transcript, self._random
        )
        payload = wire.encode(
            wire.EVIDENCE, wire.Evidence(self._challenge.core, self._challenge.token, sealed)
        )
        tag = suite.mac(keys.evidence_mac, "evidence mac", keys.transcript, payload)
        sig = suite.sign(self._key, "evidence signature", keys.transcript, payload)
        self._done()
        return frames.encode(Envelope("evidence", payload, mac=tag, sig=sig))

    def release(self, data: bytes) -> wire.ReleaseBody:
        """Verify and open the Release."""
        self._turn("release", "ack")
        frame = frames.decode(data, "release")
        release: wire.Release = wire.decode(wire.RELEASE, frame.payload)
        t = self._keys.transcript
        joint = self._secret + self._reply_key.open(release.sealed_secret, release_info(t))
        key = suite.derive(joint, t, "release mac")
        suite.verify_mac(key, frame.mac, "release mac", t, frame.payload)
        opened = suite.decrypt(suite.derive(joint, t, "release encryption"), release.body, t)
        body: wire.ReleaseBody = wire.decode(wire.RELEASE_BODY, opened)
        self._check_release(body)
        self._ack_token = body.ack_token
        self._ack_key = suite.derive(joint, t, "ack mac")
        self._receipt_key = suite.derive(joint, t, "receipt mac")
        self._done()
        return body

    def _check_release(self, body: wire.ReleaseBody) -> None:
        if body.session_id != self._core.session_id:
            raise _refused("the release is for another session")
        if sorted(decision.device for decision in body.decisions) != sorted(self._core.devices):
            raise _refused("the release decides on other devices than the challenge named")
        suite.verify_signature(
            self._server.signing_key,
            body.audit.signature,
            "audit head signature",
            *audit_head_parts(self._server.server_id, body.audit),
        )

    def ack(self, results: tuple[wire.AckResult, ...]) -> bytes:
        """Return the Ack message."""
        self._turn("ack", "receipt")
        ack = wire.Ack(self._core.session_id, self._ack_token, results)
        payload = wire.encode(wire.ACK, ack)
        tag = suite.mac(self._ack_key, "ack mac", self._keys.transcript, payload)
        self._done()
        return frames.encode(Envelope("ack", payload, mac=tag))

    def receipt(self, data: bytes) -> None:
        """Verify that the server recorded the ack."""
        self._turn("receipt", "over")
        frame = frames.decode(data, "receipt")
        t = self._keys.transcript
        suite.verify_mac(self._receipt_key, frame.mac, "receipt mac", t, frame.payload)
        receipt: wire.Receipt = wire.decode(wire.RECEIPT, frame.payload)
        if receipt.session_id != self._core.session_id:
            raise _refused("the receipt is for another session")
        self._done()


def audit_head_parts(server_id: str, head: wire.AuditHead) -> tuple[bytes, ...]:
    """Return what the server signs of a tree head, under the label "audit head signature"."""
    return (
        server_id.encode(),
        head.size.to_bytes(8, "big"),
        head.time.to_bytes(8, "big"),
        head.root,
    )
