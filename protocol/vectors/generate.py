"""Records the test vectors beside this file; see README.md.

Run from anywhere: `python protocol/vectors/generate.py`. HPKE draws octets of its own, so a run
replaces the vectors by others that are as good: do it only when the protocol or the cases change.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import hostile_messages
import vector_scripts
from protocol_world import CERTIFICATE, LAST_CHECK, LIFETIME, NOW, Stage, World, stream
from securecloud_protocol import messages as wire
from securecloud_protocol import suite, transcript
from securecloud_protocol.encoding import b64u_encode, digest, length_prefixed
from securecloud_protocol.token import format_token

HERE = Path(__file__).parent

RANDOM = (
    ("agent", "secret"),
    ("agent", "reply_key_seed"),
    ("agent", "enrol_nonce"),
    ("agent", "hello_nonce"),
    ("server", "session_id"),
    ("server", "challenge_nonce"),
    ("server", "challenge_token_salt"),
    ("agent", "evidence_nonce"),
    ("server", "second_secret"),
    ("server", "ack_token_salt"),
    ("server", "release_nonce"),
)
"""Who drew what from its random source, in this order."""


class Recorder:
    """A random source that remembers what it gave."""

    def __init__(self, seed: str) -> None:
        self._source = stream(seed)
        self.drawn: list[bytes] = []

    def __call__(self, count: int) -> bytes:
        """Return `count` octets."""
        self.drawn.append(self._source(count))
        return self.drawn[-1]


def _document(codec: wire.Codec[Any], octets: bytes) -> Any:
    return codec.encode(wire.decode(codec, octets))


def exchange_vector(name: str, script: vector_scripts.Script) -> tuple[dict[str, Any], Stage]:
    """Play one exchange and write down what both sides drew, sent and concluded."""
    recorder = Recorder(name)
    certificates = tuple(dict.fromkeys((CERTIFICATE, script.certificate)))
    world = World(certificates=certificates, random=recorder)
    stage = Stage.play(world, script)
    random: dict[str, dict[str, str]] = {"agent": {}, "server": {}}
    for (side, what), octets in zip(RANDOM, recorder.drawn, strict=True):
        random[side][what] = b64u_encode(octets)
    vector = {
        "name": name,
        "now": NOW,
        "server": {
            "server_id": world.keys.server_id,
            "kem_seed": b64u_encode(world.keys.kem_seed),
            "signing_seed": b64u_encode(world.keys.signing_seed),
            "token_key": b64u_encode(world.keys.token_key),
            "certificates": [b64u_encode(each) for each in certificates],
        },
        "agent": {
            "agent_id": world.agent.agent_id,
            "identity_seed": b64u_encode(world.agent.key.private_bytes_raw()),
            "enrolment_token": format_token(world.token),
            "agent_name": "web1",
            "certificate_seen": b64u_encode(script.certificate),
        },
        "random": random,
        "messages": {kind: data.decode() for kind, data in stage.messages.items()},
        "expected": _expected(stage),
    }
    return vector, stage


def _expected(stage: Stage) -> dict[str, Any]:
    responder, sent = stage.world.responder, stage.messages
    evidence = responder.open_evidence(sent["evidence"], stage.world.lookup, NOW)
    agent = stage.agents["receipt"]
    return {
        "fingerprint": responder.fingerprint,
        "hello": _document(wire.HELLO, stage.payload("hello")),
        "hello_digest": b64u_encode(transcript.hello_digest(stage.payload("hello"))),
        "challenge_core": _document(wire.CHALLENGE_CORE, stage.core()),
        "lifetime": LIFETIME,
        "transcript": b64u_encode(agent.transcript),
        "evidence_body": wire.EVIDENCE_BODY.encode(evidence.body),
        "release_body": _document(wire.RELEASE_BODY, stage.release_body()),
        "ack_results": wire.ACK.encode(wire.decode(wire.ACK, stage.payload("ack")))["results"],
        "keys": {
            "evidence_encryption": b64u_encode(agent._keys.evidence),
            "evidence_mac": b64u_encode(agent._keys.evidence_mac),
            "ack_mac": b64u_encode(agent._ack_key),
            "receipt_mac": b64u_encode(agent._receipt_key),
            "copy_mac": b64u_encode(agent._copy_key),
            "kept_mac": b64u_encode(agent._kept_key),
            "wait_mac": b64u_encode(agent.waiting.wait_key),
            "wake_mac": b64u_encode(agent.waiting.wake_key),
        },
        "copies": list(wire.decode(wire.RECEIPT, stage.payload("receipt")).copies),
        "last_check": LAST_CHECK,
        "check": agent.waiting.wake(sent["wake"]),
    }


def primitive_vectors() -> Iterator[dict[str, Any]]:
    """Yield the building blocks with inputs and outputs."""
    octets = stream("primitives")
    parts = (b"", octets(3), octets(40))
    texts = [b64u_encode(part) for part in parts]
    yield {
        "operation": "length_prefixed",
        "parts": texts,
        "result": b64u_encode(length_prefixed(parts)),
    }
    yield {
        "operation": "digest",
        "label": "transcript",
        "parts": texts,
        "result": b64u_encode(digest(suite.label("transcript"), *parts)),
    }
    secret, salt = octets(32), octets(32)
    for purpose in ("challenge mac", "evidence encryption", "release mac"):
        key = suite.derive(secret, salt, purpose)
        yield {
            "operation": "derive",
            "secret": b64u_encode(secret),
            "salt": b64u_encode(salt),
            "purpose": purpose,
            "result": b64u_encode(key),
        }
        yield {
            "operation": "mac",
            "key": b64u_encode(key),
            "purpose": purpose,
            "parts": texts,
            "result": b64u_encode(suite.mac(key, purpose, *parts)),
        }
    world = World()
    yield {
        "operation": "sign",
        "seed": b64u_encode(world.agent.key.private_bytes_raw()),
        "purpose": "hello signature",
        "parts": texts,
        "result": b64u_encode(suite.sign(world.agent.key, "hello signature", *parts)),
    }
    yield {
        "operation": "encrypt",
        "key": b64u_encode(secret),
        "nonce": b64u_encode(salt[:12]),
        "plaintext": texts[2],
        "associated": texts[1],
        "result": b64u_encode(suite.encrypt(secret, parts[2], parts[1], lambda _: salt[:12])),
    }
    sealed = suite.KemPublicKey(world.identity.kem_key).seal(secret, salt)
    yield {
        "operation": "kem_open",
        "seed": b64u_encode(world.keys.kem_seed),
        "public": b64u_encode(world.identity.kem_key),
        "sealed": b64u_encode(sealed),
        "info": b64u_encode(salt),
        "result": b64u_encode(secret),
    }
    head = wire.AuditHead(7, secret, NOW, b"", ())
    yield {
        "operation": "audit_head_signature",
        "seed": b64u_encode(world.keys.signing_seed),
        "server_id": world.keys.server_id,
        "size": head.size,
        "time": head.time,
        "root": b64u_encode(head.root),
        "result": b64u_encode(world.responder.sign_audit_head(7, secret, NOW)),
    }


def _write(name: str, about: str, vectors: list[dict[str, Any]]) -> None:
    document = {"protocol": 1, "about": about, "vectors": vectors}
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


def main() -> None:
    """Write all files."""
    played = [exchange_vector(name, script) for name, script in vector_scripts.SCRIPTS.items()]
    _write("exchange", "whole exchanges that must succeed", [vector for vector, _ in played])
    base, stage = played[0]
    hostile = [
        {"name": name, "exchange": base["name"], **case}
        for name, case in hostile_messages.cases(stage)
    ]
    _write("hostile", "messages that must be refused, each with its failure class", hostile)
    _write("primitives", "building blocks", list(primitive_vectors()))


if __name__ == "__main__":
    main()
