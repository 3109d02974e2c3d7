"""A minimal agent, written from SPEC.md alone: it imports nothing of ours.

The section numbers in the comments are those of SPEC.md.
"""

import base64
import hashlib
import hmac
import json
import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class RefusedError(Exception):
    """The server's message does not hold, or is an error frame."""


# Section 2


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def unb64(text: str) -> bytes:
    octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64(octets) != text:
        raise RefusedError("base64url")
    return octets


def prefixed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def label(text: str) -> bytes:
    return b"securecloud/1 " + text.encode()


def to_json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# Section 3


def digest(purpose: str, *parts: bytes) -> bytes:
    return hashlib.sha256(prefixed(label(purpose), *parts)).digest()


def mac(key: bytes, purpose: str, *parts: bytes) -> bytes:
    return hmac.digest(key, prefixed(label(purpose), *parts), "sha256")


def derive(secret: bytes, salt: bytes, purpose: str) -> bytes:
    key = hmac.digest(salt, secret, "sha256")
    return hmac.digest(key, label(purpose) + b"\x01", "sha256")


def seal(public: bytes, info: bytes, plaintext: bytes) -> bytes:
    key = MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(public[:1184]),
        X25519PublicKey.from_public_bytes(public[1184:]),
    )
    return HPKE.encrypt(plaintext, key, info=info)


def encrypt(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def decrypt(key: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    return AESGCM(key).decrypt(ciphertext[:12], ciphertext[12:], associated)


# Section 4


def envelope(kind: str, payload: bytes, **seals: bytes) -> bytes:
    frame: dict[str, Any] = {"v": 1, "type": kind, "payload": b64(payload)}
    return to_json(frame | {name: b64(octets) for name, octets in seals.items()})


def opened(message: bytes, kind: str, seal_name: str) -> tuple[bytes, bytes]:
    frame = json.loads(message)
    if frame["type"] == "error":
        raise RefusedError(frame["code"])
    if frame["v"] != 1 or frame["type"] != kind or len(frame) != 4:
        raise RefusedError("envelope")
    return unb64(frame["payload"]), unb64(frame[seal_name])


class IndependentAgent:
    """One agent on one machine; every step takes and returns the octets that travel."""

    def __init__(self, token: str, name: str, boot_id: str) -> None:
        prefix, self.token_id, secret, self.fingerprint = token.split(".")
        if prefix != "sce":
            raise RefusedError("token")
        self.token_secret = unb64(secret)
        self.name = name
        self.boot_id = boot_id
        self.identity = Ed25519PrivateKey.generate()

    def sign(self, purpose: str, *parts: bytes) -> bytes:
        return self.identity.sign(prefixed(label(purpose), *parts))

    def verify(self, signature: bytes, purpose: str, *parts: bytes) -> None:
        key = Ed25519PublicKey.from_public_bytes(self.server_signing_key)
        key.verify(signature, prefixed(label(purpose), *parts))

    # Section 5

    def pin(self, message: bytes) -> None:
        payload, signature = opened(message, "server", "sig")
        server = json.loads(payload)
        self.server_id = server["server_id"]
        self.server_kem_key = unb64(server["kem_key"])
        self.server_signing_key = unb64(server["signing_key"])
        self.verify(signature, "server signature", payload)
        found = digest(
            "server fingerprint",
            self.server_id.encode(),
            self.server_kem_key,
            self.server_signing_key,
        )
        if b64(found) != self.fingerprint:
            raise RefusedError("fingerprint")

    # Section 6

    def enrol(self) -> bytes:
        public, nonce = self.identity.public_key().public_bytes_raw(), os.urandom(32)
        info = prefixed(
            label("enrol secret"),
            self.server_id.encode(),
            self.name.encode(),
            self.token_id.encode(),
            public,
            nonce,
        )
        self.enrol_nonce = b64(nonce)
        self.enrol_payload = to_json(
            {
                "server_id": self.server_id,
                "agent_name": self.name,
                "identity_key": b64(public),
                "nonce": self.enrol_nonce,
                "token_id": self.token_id,
                "sealed_secret": b64(seal(self.server_kem_key, info, self.token_secret)),
            }
        )
        sig = self.sign("enrol signature", self.enrol_payload)
        return envelope("enrol", self.enrol_payload, sig=sig)

    def enrolled(self, message: bytes) -> None:
        payload, signature = opened(message, "enrolled", "sig")
        self.verify(signature, "enrolled signature", self.enrol_payload, payload)
        answer = json.loads(payload)
        expected = (self.server_id, self.name, self.enrol_nonce)
        if (answer["server_id"], answer["agent_name"], answer["nonce"]) != expected:
            raise RefusedError("another enrolment")
        self.agent_id = answer["agent_id"]

    # Section 7

    def hello(self, devices: list[str], now: int) -> bytes:
        self.s1, nonce = os.urandom(32), os.urandom(32)
        mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        self.reply_key = MLKEM768X25519PrivateKey(mlkem, x25519)
        public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        info = prefixed(
            label("hello secret"),
            self.server_id.encode(),
            self.agent_id.encode(),
            self.boot_id.encode(),
            nonce,
            public,
        )
        payload = to_json(
            {
                "agent_id": self.agent_id,
                "devices": devices,
                "boot_id": self.boot_id,
                "nonce": b64(nonce),
                "time": now,
                "seen_audit_size": 0,
                "reply_key": b64(public),
                "sealed_secret": b64(seal(self.server_kem_key, info, self.s1)),
            }
        )
        self.hello_digest = digest("hello", payload)
        return envelope("hello", payload, sig=self.sign("hello signature", payload))

    # Section 8

    def challenge(self, message: bytes, certificate: bytes) -> dict[str, Any]:
        payload, tag = opened(message, "challenge", "mac")
        key = derive(self.s1, self.hello_digest, "challenge mac")
        self.check(tag, key, "challenge mac", self.hello_digest, payload)
        self.received = json.loads(payload)
        core, token = unb64(self.received["core"]), unb64(self.received["token"])
        self.core: dict[str, Any] = json.loads(core)
        self.t = digest("transcript", self.hello_digest, core, token, certificate)
        return self.core

    @staticmethod
    def check(tag: bytes, key: bytes, purpose: str, *parts: bytes) -> None:
        if not hmac.compare_digest(tag, mac(key, purpose, *parts)):
            raise RefusedError(purpose)

    # Section 9

    def evidence(self, facts: dict[str, object]) -> bytes:
        body = {
            "agent_version": "independent-1",
            "boot_id": self.boot_id,
            "devices": [
                {"device": name, "want": "key", "lineage": None, "header": None}
                for name in self.core["devices"]
            ],
            "facts": {
                name: {"value": value, "provenance": "claimed", "error": None}
                for name, value in facts.items()
            },
            "proofs": [],
        }
        key = derive(self.s1, self.t, "evidence encryption")
        payload = to_json(
            {
                "core": self.received["core"],
                "token": self.received["token"],
                "body": b64(encrypt(key, to_json(body), self.t)),
            }
        )
        return envelope(
            "evidence",
            payload,
            mac=mac(derive(self.s1, self.t, "evidence mac"), "evidence mac", self.t, payload),
            sig=self.sign("evidence signature", self.t, payload),
        )

    # Section 10

    def release(self, message: bytes) -> dict[str, Any]:
        payload, tag = opened(message, "release", "mac")
        received = json.loads(payload)
        info = prefixed(label("release secret"), self.t)
        s2 = HPKE.decrypt(unb64(received["sealed_secret"]), self.reply_key, info=info)
        del self.reply_key
        self.joint = self.s1 + s2
        self.check(tag, derive(self.joint, self.t, "release mac"), "release mac", self.t, payload)
        key = derive(self.joint, self.t, "release encryption")
        body: dict[str, Any] = json.loads(decrypt(key, unb64(received["body"]), self.t))
        decided = sorted(decision["device"] for decision in body["decisions"])
        if body["session_id"] != self.core["session_id"] or decided != sorted(self.core["devices"]):
            raise RefusedError("another session")
        head = body["audit"]
        self.verify(
            unb64(head["signature"]),
            "audit head signature",
            self.server_id.encode(),
            head["size"].to_bytes(8, "big"),
            head["time"].to_bytes(8, "big"),
            unb64(head["root"]),
        )
        self.ack_token = body["ack_token"]
        return body

    # Section 11

    def ack(self, results: list[dict[str, object]]) -> bytes:
        payload = to_json(
            {
                "session_id": self.core["session_id"],
                "ack_token": self.ack_token,
                "results": results,
            }
        )
        key = derive(self.joint, self.t, "ack mac")
        return envelope("ack", payload, mac=mac(key, "ack mac", self.t, payload))

    def receipt(self, message: bytes) -> list[str]:
        payload, tag = opened(message, "receipt", "mac")
        key = derive(self.joint, self.t, "receipt mac")
        self.check(tag, key, "receipt mac", self.t, payload)
        received = json.loads(payload)
        copies: list[str] = received.pop("copies")
        if received != {"session_id": self.core["session_id"]}:
            raise RefusedError("another session")
        return copies

    def copy(self, device: str, header: bytes) -> bytes:
        payload = to_json(
            {
                "session_id": self.core["session_id"],
                "ack_token": self.ack_token,
                "device": device,
                "header": b64(header),
            }
        )
        key = derive(self.joint, self.t, "copy mac")
        return envelope("copy", payload, mac=mac(key, "copy mac", self.t, payload))

    def kept(self, message: bytes) -> None:
        payload, tag = opened(message, "kept", "mac")
        self.check(tag, derive(self.joint, self.t, "kept mac"), "kept mac", self.t, payload)
        if json.loads(payload) != {"session_id": self.core["session_id"]}:
            raise RefusedError("another session")

    # Section 12

    def wait(self) -> bytes:
        payload = to_json({"session_id": self.core["session_id"], "ack_token": self.ack_token})
        key = derive(self.joint, self.t, "wait mac")
        return envelope("wait", payload, mac=mac(key, "wait mac", self.t, payload))

    def wake(self, message: bytes) -> bool:
        payload, tag = opened(message, "wake", "mac")
        self.check(tag, derive(self.joint, self.t, "wake mac"), "wake mac", self.t, payload)
        received = json.loads(payload)
        check: bool = received.pop("check")
        if received != {"session_id": self.core["session_id"]}:
            raise RefusedError("another session")
        return check
