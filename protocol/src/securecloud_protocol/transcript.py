"""What both sides hash: fingerprints, the transcript, and the HPKE `info` of each sealed secret."""

from securecloud_protocol.encoding import b64u_encode, digest, length_prefixed
from securecloud_protocol.messages import AuditHead, Enrol, Hello, ServerIdentity
from securecloud_protocol.suite import label


def fingerprint(identity: ServerIdentity) -> str:
    """Return the text that pins a server: base64url SHA-256 over its id and both public keys."""
    return b64u_encode(
        digest(
            label("server fingerprint"),
            identity.server_id.encode(),
            identity.kem_key,
            identity.signing_key,
        )
    )


def hello_digest(payload: bytes) -> bytes:
    """Return the digest of a Hello's payload octets."""
    return digest(label("hello"), payload)


def transcript(hello: bytes, core: bytes, token: bytes, certificate: bytes) -> bytes:
    """Return `T`: Hello digest, challenge, and the TLS server certificate as seen (DER)."""
    return digest(label("transcript"), hello, core, token, certificate)


def hello_info(server_id: str, hello: Hello) -> bytes:
    """Return the HPKE info that ties the first secret to everything else in the Hello."""
    return length_prefixed(
        (
            label("hello secret"),
            server_id.encode(),
            hello.agent_id.encode(),
            hello.boot_id.encode(),
            hello.nonce,
            hello.reply_key,
        )
    )


def enrol_info(enrol: Enrol) -> bytes:
    """Return the HPKE info that ties the enrolment secret to the identity that presents it."""
    return length_prefixed(
        (
            label("enrol secret"),
            enrol.server_id.encode(),
            enrol.agent_name.encode(),
            enrol.token_id.encode(),
            enrol.identity_key,
            enrol.nonce,
        )
    )


def release_info(transcript_digest: bytes) -> bytes:
    """Return the HPKE info of the second secret."""
    return length_prefixed((label("release secret"), transcript_digest))


def volume_key_digest(salt: bytes, digest_: bytes) -> bytes:
    """Return what stands for a volume key: the digest of the LUKS2 header's digest object."""
    return digest(label("luks volume key"), salt, digest_)


def audit_head_parts(server_id: str, head: AuditHead) -> tuple[bytes, ...]:
    """Return what the server signs of a tree head, under the label "audit head signature"."""
    return (
        server_id.encode(),
        head.size.to_bytes(8, "big"),
        head.time.to_bytes(8, "big"),
        head.root,
    )
