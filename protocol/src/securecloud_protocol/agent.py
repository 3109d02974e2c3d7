"""The agent's side of the exchange: enrolment, and one object per exchange."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecloud_protocol import envelope as frames
from securecloud_protocol import messages as wire
from securecloud_protocol import suite
from securecloud_protocol.envelope import Envelope
from securecloud_protocol.errors import ErrorCode, ProtocolError, malformed
from securecloud_protocol.suite import RandomSource
from securecloud_protocol.token import EnrolmentToken
from securecloud_protocol.transcript import (
    audit_head_parts,
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
    suite.KemPublicKey(identity.kem_key)
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
        kem = suite.KemPublicKey(self._server.kem_key)
        sealed = kem.seal(token.secret, enrol_info(enrol))
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
    evidence: bytes = field(repr=False)
    evidence_mac: bytes = field(repr=False)


_GRANTS = {"key": ("approved",), "check": ("checked",), "renew": ("approved", "checked")}
"""The codes of a grant, by what was claimed."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What an exchange leaves behind: the right to wait for a check, as often as wanted.

    It holds none of the exchange's other keys and stays good when the exchange is over.
    """

    session_id: bytes
    transcript: bytes
    ack_token: bytes = field(repr=False)
    wait_key: bytes = field(repr=False)
    wake_key: bytes = field(repr=False)

    def wait(self) -> bytes:
        """Return the Wait message."""
        payload = wire.encode(wire.WAIT, wire.Wait(self.session_id, self.ack_token))
        tag = suite.mac(self.wait_key, "wait mac", self.transcript, payload)
        return frames.encode(Envelope("wait", payload, mac=tag))

    def wake(self, data: bytes) -> bool:
        """Verify the Wake; return whether somebody asked for a check."""
        frame = frames.decode(data, "wake")
        suite.verify_mac(self.wake_key, frame.mac, "wake mac", self.transcript, frame.payload)
        wake: wire.Wake = wire.decode(wire.WAKE, frame.payload)
        if wake.session_id != self.session_id:
            raise _refused("the wake is for another session")
        return wake.check


class Exchange:
    """One exchange: hello, challenge, evidence, release, ack, receipt - in this order, each once.

    A method called out of turn is a programming error and raises RuntimeError; a message that is
    refused raises ProtocolError, a value that the server would have to refuse raises ValueError,
    and both end the exchange.
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
        self._waits_for = "hello"
        self._secret = random(suite.SECRET_BYTES)
        self._reply_key = suite.KemKey(random(suite.KEM_SEED_BYTES))
        self._waiting: Waiting | None = None
        self._copies: tuple[str, ...] = ()

    @contextmanager
    def _step(self, name: str, following: str) -> Iterator[None]:
        if self._waits_for != name:
            raise RuntimeError(f"{name} is out of turn; the exchange waits for {self._waits_for}")
        self._waits_for = "over"
        yield
        self._waits_for = following

    def hello(
        self, devices: tuple[str, ...], boot_id: str, time: int, seen_audit_size: int = 0
    ) -> bytes:
        """Return the Hello message. No devices means all of this agent's."""
        with self._step("hello", "challenge"):
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
            sealed = suite.KemPublicKey(self._server.kem_key).seal(self._secret, info)
            payload = wire.encode(wire.HELLO, replace(hello, sealed_secret=sealed))
            self._asked = devices
            self._hello_digest = hello_digest(payload)
            sig = suite.sign(self._key, "hello signature", payload)
            return frames.encode(Envelope("hello", payload, sig=sig))

    def challenge(self, data: bytes, certificate: bytes) -> wire.ChallengeCore:
        """Verify the Challenge; `certificate` is the TLS peer's, DER, as this connection saw it."""
        with self._step("challenge", "evidence"):
            frame = frames.decode(data, "challenge")
            key = suite.derive(self._secret, self._hello_digest, "challenge mac")
            suite.verify_mac(key, frame.mac, "challenge mac", self._hello_digest, frame.payload)
            challenge: wire.Challenge = wire.decode(wire.CHALLENGE, frame.payload)
            core: wire.ChallengeCore = wire.decode(wire.CHALLENGE_CORE, challenge.core)
            if self._asked and not set(core.devices) <= set(self._asked):
                raise malformed("the challenge names a device that was not asked for")
            t = transcript(self._hello_digest, challenge.core, challenge.token, certificate)
            self._challenge = challenge
            self._core = core
            self._keys = _Keys(
                transcript=t,
                evidence=suite.derive(self._secret, t, "evidence encryption"),
                evidence_mac=suite.derive(self._secret, t, "evidence mac"),
            )
            return core

    @property
    def transcript(self) -> bytes:
        """`T` (32 octets), over which TPM quotes and cloud proofs are made; after the challenge."""
        if self._waits_for in ("hello", "challenge"):
            raise RuntimeError("there is no transcript before the challenge")
        return self._keys.transcript

    def evidence(self, body: wire.EvidenceBody) -> bytes:
        """Return the Evidence message; `body` claims each device of the challenge once."""
        with self._step("evidence", "release"):
            self._wanted = {claim.device: claim.want for claim in body.devices}
            if self._wanted.keys() != set(self._core.devices):
                raise ValueError("the claims are not for the devices of the challenge")
            keys = self._keys
            document = wire.encode(wire.EVIDENCE_BODY, body)
            sealed = suite.encrypt(keys.evidence, document, keys.transcript, self._random)
            payload = wire.encode(
                wire.EVIDENCE, wire.Evidence(self._challenge.core, self._challenge.token, sealed)
            )
            tag = suite.mac(keys.evidence_mac, "evidence mac", keys.transcript, payload)
            sig = suite.sign(self._key, "evidence signature", keys.transcript, payload)
            return frames.encode(Envelope("evidence", payload, mac=tag, sig=sig))

    def release(self, data: bytes) -> wire.ReleaseBody:
        """Verify and open the Release."""
        with self._step("release", "ack"):
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
            self._copy_key = suite.derive(joint, t, "copy mac")
            self._kept_key = suite.derive(joint, t, "kept mac")
            self._waiting = Waiting(
                session_id=body.session_id,
                transcript=t,
                ack_token=body.ack_token,
                wait_key=suite.derive(joint, t, "wait mac"),
                wake_key=suite.derive(joint, t, "wake mac"),
            )
            return body

    @property
    def waiting(self) -> Waiting:
        """The right to wait for a check; after the release."""
        if self._waiting is None:
            raise RuntimeError("there is nothing to wait with before the release")
        return self._waiting

    def _check_release(self, body: wire.ReleaseBody) -> None:
        if body.session_id != self._core.session_id:
            raise _refused("the release is for another session")
        if {decision.device for decision in body.decisions} != self._wanted.keys():
            raise malformed("the release decides on other devices than the challenge named")
        for decision in body.decisions:
            granted = _GRANTS[self._wanted[decision.device]]
            if decision.outcome == "granted" and decision.code not in granted:
                raise malformed("the release grants something else than was claimed")
            renewed = self._wanted[decision.device] == "renew" and decision.code == "approved"
            successor = decision.successor.key if decision.successor is not None else None
            if renewed and decision.offline is None and successor is None:
                raise malformed("the release has a key for a device that is open, for nothing")
        suite.verify_signature(
            self._server.signing_key,
            body.audit.signature,
            "audit head signature",
            *audit_head_parts(self._server.server_id, body.audit),
        )

    def ack(self, results: tuple[wire.AckResult, ...]) -> bytes:
        """Return the Ack message; `results` name devices of the release only."""
        with self._step("ack", "receipt"):
            if not {result.device for result in results} <= self._wanted.keys():
                raise ValueError("the results are for other devices than the release's")
            ack = wire.Ack(self._core.session_id, self._ack_token, results)
            payload = wire.encode(wire.ACK, ack)
            tag = suite.mac(self._ack_key, "ack mac", self._keys.transcript, payload)
            return frames.encode(Envelope("ack", payload, mac=tag))

    def receipt(self, data: bytes) -> tuple[str, ...]:
        """Verify that the server recorded the ack; return the devices of which it wants a copy of
        the LUKS header.
        """
        with self._step("receipt", "over"):
            frame = frames.decode(data, "receipt")
            t = self._keys.transcript
            suite.verify_mac(self._receipt_key, frame.mac, "receipt mac", t, frame.payload)
            receipt: wire.Receipt = wire.decode(wire.RECEIPT, frame.payload)
            if receipt.session_id != self._core.session_id:
                raise _refused("the receipt is for another session")
            if not set(receipt.copies) <= self._wanted.keys():
                raise malformed("the receipt asks for copies of other devices than the release's")
            self._copies = receipt.copies
            return receipt.copies

    def copy(self, device: str, header: bytes) -> bytes:
        """Return the Copy message, for a device that the receipt names."""
        if device not in self._copies:
            raise RuntimeError(f"no copy of the header of {device} is wanted")
        message = wire.Copy(self._core.session_id, self._ack_token, device, header)
        payload = wire.encode(wire.COPY, message)
        tag = suite.mac(self._copy_key, "copy mac", self._keys.transcript, payload)
        return frames.encode(Envelope("copy", payload, mac=tag))

    def kept(self, data: bytes) -> None:
        """Verify that the server has the copy."""
        frame = frames.decode(data, "kept")
        t = self._keys.transcript
        suite.verify_mac(self._kept_key, frame.mac, "kept mac", t, frame.payload)
        kept: wire.Kept = wire.decode(wire.KEPT, frame.payload)
        if kept.session_id != self._core.session_id:
            raise _refused("the copy was kept in another session")
