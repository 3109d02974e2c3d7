"""Digests and contexts, spelled out."""

import hashlib

from protocol_world import AGENT_ID, BOOT_ID, SERVER_ID, Stage, audit_head
from securecloud_protocol import messages as wire
from securecloud_protocol import transcript
from securecloud_protocol.encoding import b64u_encode


def prefixed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(prefixed(*parts)).digest()


def test_fingerprint(stage: Stage) -> None:
    identity = stage.world.identity
    expected = sha(
        b"securecloud/1 server fingerprint",
        SERVER_ID.encode(),
        identity.kem_key,
        identity.signing_key,
    )
    assert transcript.fingerprint(identity) == b64u_encode(expected)


def test_hello_digest_and_transcript() -> None:
    assert transcript.hello_digest(b"payload") == sha(b"securecloud/1 hello", b"payload")
    expected = sha(b"securecloud/1 transcript", b"digest", b"core", b"token", b"certificate")
    assert transcript.transcript(b"digest", b"core", b"token", b"certificate") == expected


def test_contexts_of_sealed_secrets(stage: Stage) -> None:
    hello: wire.Hello = wire.decode(wire.HELLO, stage.payload("hello"))
    assert transcript.hello_info(SERVER_ID, hello) == prefixed(
        b"securecloud/1 hello secret",
        SERVER_ID.encode(),
        AGENT_ID.encode(),
        BOOT_ID.encode(),
        hello.nonce,
        hello.reply_key,
    )
    enrol: wire.Enrol = wire.decode(wire.ENROL, stage.payload("enrol"))
    assert transcript.enrol_info(enrol) == prefixed(
        b"securecloud/1 enrol secret",
        SERVER_ID.encode(),
        b"web1",
        b"t0k3n",
        enrol.identity_key,
        enrol.nonce,
    )
    assert transcript.release_info(b"T") == prefixed(b"securecloud/1 release secret", b"T")


def test_volume_key() -> None:
    expected = sha(b"securecloud/1 luks volume key", b"salt", b"digest")
    assert transcript.volume_key_digest(b"salt", b"digest") == expected


def test_audit_head(stage: Stage) -> None:
    head = audit_head(stage.world.responder)
    assert transcript.audit_head_parts(SERVER_ID, head) == (
        SERVER_ID.encode(),
        head.size.to_bytes(8, "big"),
        head.time.to_bytes(8, "big"),
        head.root,
    )
