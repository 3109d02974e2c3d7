"""What a bundle says of itself, as exact octets, and the server's signature over them.

The manifest holds the digest of all leaves in order, so the one signature covers the bundle: who
made it and when, what was asked for, which events of which tree are in it, and the events.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from securecloud_protocol import suite
from securecloud_protocol.codecs import Codec, integer, items, octets, optional, record, text
from securecloud_protocol.encoding import MAX_INTEGER, json_decode, json_encode
from securecloud_protocol.errors import ProtocolError
from securecloud_protocol.messages import SERVER_IDENTITY, AuditHead, ServerIdentity
from securecloud_protocol.transcript import audit_head_parts, fingerprint

from securecloud_audit.merkle import HASH_BYTES

FORMAT = 1
MAX_HASHES = 128
"""On one side of a range: a tree of 2**53 leaves needs 106 at most."""

_NUMBER = integer(0, MAX_INTEGER)
_HASH = octets(HASH_BYTES)


class ManifestError(Exception):
    """The manifest is not what this format says, or its signatures do not hold."""


@dataclass(frozen=True, slots=True)
class Head:
    """A signed tree head; `time` in seconds since 1970."""

    size: int
    root: bytes
    time: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Range:
    """Events `start` to `end`, exclusive, and the hashes of what is before and behind them."""

    start: int
    end: int
    left: tuple[bytes, ...]
    right: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """`made_at` in seconds; `since` and `until`, what was asked for, in milliseconds or None.

    `leaves` is the digest of all leaves in order (`LeafDigest`).
    """

    format: int
    server: ServerIdentity
    fingerprint: str
    made_at: int
    since: int | None
    until: int | None
    head: Head
    range: Range
    leaves: bytes


_HEAD: Codec[Head] = record(
    Head, size=_NUMBER, root=_HASH, time=_NUMBER, signature=octets(suite.SIGNATURE_BYTES)
)
_RANGE: Codec[Range] = record(
    Range,
    start=_NUMBER,
    end=_NUMBER,
    left=items(_HASH, MAX_HASHES),
    right=items(_HASH, MAX_HASHES),
)
_MANIFEST: Codec[Manifest] = record(
    Manifest,
    format=integer(FORMAT, FORMAT),
    server=SERVER_IDENTITY,
    fingerprint=text("base64url text of 32 octets", "[A-Za-z0-9_-]{43}"),
    made_at=_NUMBER,
    since=optional(_NUMBER),
    until=optional(_NUMBER),
    head=_HEAD,
    range=_RANGE,
    leaves=_HASH,
)


class LeafDigest:
    """SHA-256 over leaves, each behind its length as four octets, most significant first."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, leaf: bytes) -> None:
        """Take the next leaf."""
        self._hash.update(len(leaf).to_bytes(4, "big"))
        self._hash.update(leaf)

    def digest(self) -> bytes:
        """Return the digest of what was added."""
        return self._hash.digest()


def encode(manifest: Manifest) -> bytes:
    """Return the octets that are signed."""
    return json_encode(_MANIFEST.encode(manifest))


def decode(document: bytes) -> Manifest:
    """Return what a bundle says of itself; ManifestError names the member that is wrong."""
    try:
        parsed: Any = json_decode(document)
        found = _MANIFEST.decode(parsed)
    except ProtocolError as error:
        raise ManifestError(error.detail) from None
    if found.fingerprint != fingerprint(found.server):
        raise ManifestError("Manifest.fingerprint: it is not that of the server")
    if not found.range.start <= found.range.end <= found.head.size:
        raise ManifestError("Manifest.range: it does not lie in the tree of the head")
    return found


def check_signature(manifest: Manifest, document: bytes, signature: bytes) -> None:
    """Raise ManifestError unless the server that the manifest names signed these octets."""
    _check(manifest, signature, "audit bundle signature", document)


def check_head(manifest: Manifest) -> None:
    """Raise ManifestError unless the server that the manifest names signed the tree head."""
    head = manifest.head
    unsigned = AuditHead(head.size, head.root, head.time, b"", ())
    parts = audit_head_parts(manifest.server.server_id, unsigned)
    _check(manifest, head.signature, "audit head signature", *parts)


def _check(manifest: Manifest, signature: bytes, purpose: str, *parts: bytes) -> None:
    try:
        suite.verify_signature(manifest.server.signing_key, signature, purpose, *parts)
    except ProtocolError as error:
        raise ManifestError(error.detail) from None
