"""LUKS2 headers, parsed from a copy in memory before any key is tried on them.

Whoever can write to the disk can write a header. One that says `cipher_null` opens with any
passphrase and then stores what is written in plain text, so the cipher, the key slot and the
UUID are checked here, and cryptsetup is given this very copy (see `ram_copy`), not the disk's.
On-disk format: LUKS2 On-Disk Format Specification 1.1.
"""

import base64
import hashlib
import json
import os
import re
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from securecloud_agent.errors import AgentError, printable

if TYPE_CHECKING:
    from securecloud_protocol.messages import LuksHeader

COPY_BYTES = 16 * 1024 * 1024
MAGIC = b"LUKS\xba\xbe"
CIPHER = "aes-xts-plain64"
KEY_BYTES = 64
SECTOR_SIZES = (512, 4096)

_SECOND_MAGIC = b"SKUL\xba\xbe"
BINARY = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")
BINARY_BYTES = 4096
_USUAL_BYTES = 16 * 1024
_LARGEST_AREA = 4 * 1024 * 1024
CHECKSUM = slice(448, 512)
_NOT_AS_PRESCRIBED = (
    KeyError,
    TypeError,
    AttributeError,
    ValueError,
    OverflowError,
    RecursionError,
)
_KDFS = frozenset({"pbkdf2", "argon2i", "argon2id"})


class HeaderError(AgentError):
    """The header is damaged, or not one that this agent would have written."""

    code = "header"


@dataclass(frozen=True, slots=True)
class Header:
    """What a sound header says."""

    uuid: str
    label: str
    sequence: int
    metadata: dict[str, Any]


def parse(copy: bytes) -> Header:
    """Parse both headers in `copy`; raise HeaderError unless they are whole and say the same.

    cryptsetup takes the newer of the two, so a single checked one would not be enough.
    """
    first, size = _parse_one(copy, 0, MAGIC)
    second, second_size = _parse_one(copy, size, _SECOND_MAGIC)
    if not _are_alike(first, second) or size != second_size:
        raise HeaderError("its two headers differ; `cryptsetup repair` can restore an older one")
    return first


def _are_alike(first: Header, second: Header) -> bool:
    try:
        return first == second
    except RecursionError:
        raise HeaderError("its metadata is nested too deeply") from None


def parse_torn(copy: bytes) -> Header:
    """Return the newer of the two headers where a power cut came between the writing of both.

    Only for an encryption in place, which rewrites them all the time; raise HeaderError unless what
    is whole of the two belongs to one volume. cryptsetup repairs the older one by itself.
    """
    whole = []
    for offset, magic in ((0, MAGIC), (_USUAL_BYTES, _SECOND_MAGIC)):
        with suppress(HeaderError):
            whole.append(_parse_one(copy, offset, magic)[0])
    if not whole or len({each.uuid for each in whole}) > 1:
        raise HeaderError("neither of its two headers is whole, or they are of two volumes")
    if not any(is_unfinished(each) for each in whole):
        raise HeaderError("its two headers differ; `cryptsetup repair` can restore an older one")
    for each in whole:
        (check_unfinished if is_unfinished(each) else check)(each)
    return max(whole, key=lambda each: each.sequence)


def newer_of_two(copy: bytes, slots: Collection[str]) -> Header:
    """Return the newer of the two headers where a power cut came between the writing of both, while
    this agent replaced the key, so that they may have these `slots`.

    Raise HeaderError unless what is whole of the two belongs to one volume and one volume key.
    """
    whole = []
    for offset, magic in ((0, MAGIC), (_USUAL_BYTES, _SECOND_MAGIC)):
        with suppress(HeaderError):
            whole.append(_parse_one(copy, offset, magic)[0])
    for each in whole:
        check(each, slots)
    if len({(each.uuid, digest_of(each)) for each in whole}) != 1:
        raise HeaderError("neither of its two headers is whole, or they are of two volumes")
    return max(whole, key=lambda each: each.sequence)


def is_unfinished(header: Header) -> bool:
    """Say whether the header asks for something to be finished, such as a reencryption."""
    config = header.metadata.get("config")
    return isinstance(config, dict) and bool(config.get("requirements"))


def _parse_one(copy: bytes, offset: int, magic: bytes) -> tuple[Header, int]:
    if len(copy) < offset + BINARY_BYTES:
        raise HeaderError("it is cut short")
    fields = BINARY.unpack_from(copy, offset)
    found, version, size, sequence, label, algorithm, _, uuid, _, own_offset, _, checksum = fields
    if found != magic:
        raise HeaderError("one of its two headers is missing")
    if version != 2:  # noqa: PLR2004 - LUKS version 2
        raise HeaderError(f"it is LUKS version {version}, not 2")
    if own_offset != offset or not BINARY_BYTES < size <= _LARGEST_AREA or size % BINARY_BYTES:
        raise HeaderError("its size or place is not valid")
    if algorithm.rstrip(b"\0") != b"sha256":
        raise HeaderError("its checksum algorithm is not sha256")
    area = bytearray(copy[offset : offset + size])
    area[CHECKSUM] = bytes(64)
    if len(area) != size or hashlib.sha256(area).digest() != checksum[:32]:
        raise HeaderError("its checksum does not match")
    header = Header(_text(uuid), _text(label), sequence, _metadata(bytes(area[BINARY_BYTES:])))
    return header, size


def _text(field: bytes) -> str:
    return printable(field.split(b"\0", 1)[0].decode("utf-8", "replace"), 64)


def _metadata(area: bytes) -> dict[str, Any]:
    document, _, rest = area.partition(b"\0")
    if rest.strip(b"\0"):
        raise HeaderError("there is data behind its metadata")
    try:
        metadata = json.loads(document.decode("utf-8"))
    except (ValueError, RecursionError):
        raise HeaderError("its metadata is not JSON") from None
    if not isinstance(metadata, dict):
        raise HeaderError("its metadata is not a JSON object")
    return metadata


def check(header: Header, slots: Collection[str] = ()) -> None:
    """Raise HeaderError unless the header describes a volume as this agent formats them.

    Exactly one key slot and one segment, both AES-XTS with a 512-bit key; no tokens, no pending
    requirements such as an unfinished reencryption. While this agent replaces the key, it may have
    these `slots` and no others, one of them at least.
    """
    try:
        _check_metadata(header.metadata, slots)
    except _NOT_AS_PRESCRIBED:
        raise HeaderError("its metadata is not of the form that LUKS2 prescribes") from None


def check_unfinished(header: Header) -> None:
    """Raise HeaderError unless the header describes an encryption in place of this agent's kind.

    Its segments are plain or AES-XTS, so it must not be opened on the disk's word alone. That the
    segments are as cryptsetup left them is protected by a digest under the volume key, which
    cryptsetup verifies (the requirement online-reencrypt-v2).
    """
    try:
        _check_unfinished(header.metadata)
    except _NOT_AS_PRESCRIBED:
        raise HeaderError("its metadata is not of the form that LUKS2 prescribes") from None


def _check_unfinished(metadata: dict[str, Any]) -> None:
    _expect(metadata["config"]["requirements"]["mandatory"], _REENCRYPTION, "what it asks for")
    _expect(len(metadata["tokens"]), 0, "the number of tokens")
    slots = metadata["keyslots"]
    (name,) = (name for name, slot in slots.items() if slot["type"] == "luks2")
    (work,) = (slot for slot in slots.values() if slot["type"] == "reencrypt")
    _expect(len(slots), 2, "the number of key slots")
    _expect(work["mode"], "encrypt", "the kind of reencryption")
    _check_slot(slots[name])
    for segment in metadata["segments"].values():
        if segment["type"] != "linear":
            _check_segment(segment)


_REENCRYPTION = ["online-reencrypt-v2"]


def _expect(found: object, expected: object, what: str) -> None:
    if found != expected or type(found) is not type(expected):
        raise HeaderError(f"{what} is {printable(repr(found), 60)} instead of {expected!r}")


def _check_metadata(metadata: dict[str, Any], slots: Collection[str]) -> None:
    found = metadata["keyslots"]
    if not (found and found.keys() <= set(slots)):
        _expect(len(found), 1, "the number of key slots")
    _expect(len(metadata["tokens"]), 0, "the number of tokens")
    _expect(len(metadata["segments"]), 1, "the number of segments")
    _expect(len(metadata["digests"]), 1, "the number of digests")
    if metadata["config"].get("requirements"):
        raise HeaderError("it asks for an unfinished operation such as reencryption")
    (segment,) = metadata["segments"].values()
    _check_segment(segment)
    _check_keyslots(metadata)


def _check_segment(segment: dict[str, Any]) -> None:
    _expect(segment["type"], "crypt", "the segment's type")
    _expect(segment["encryption"], CIPHER, "the cipher")
    _expect("integrity" in segment, False, "the segment's integrity protection")
    if segment["sector_size"] not in SECTOR_SIZES:
        raise HeaderError("the sector size is neither 512 nor 4096")


def _check_keyslots(metadata: dict[str, Any]) -> None:
    for slot in metadata["keyslots"].values():
        _check_slot(slot)
    (digest,) = metadata["digests"].values()
    _expect(digest["type"], "pbkdf2", "the digest's type")
    for name in ("salt", "digest"):
        _expect(type(digest[name]), str, f"the type of the digest's {name}")
    # Whoever opens a slot gets the volume key that the digest is of, and no other one.
    _expect(sorted(digest["keyslots"]), sorted(metadata["keyslots"]), "the digest's key slots")
    _expect(digest["segments"], list(metadata["segments"]), "the digest's segments")


def _check_slot(slot: dict[str, Any]) -> None:
    _expect(slot["type"], "luks2", "the key slot's type")
    _expect(slot["key_size"], KEY_BYTES, "the key size")
    _expect(slot["area"]["encryption"], CIPHER, "the key slot's cipher")
    _expect(slot["area"]["key_size"], KEY_BYTES, "the key slot's key size")
    for name in ("offset", "size"):
        if not _is_number(slot["area"][name]):
            raise HeaderError(f"the key slot's {name} is not a number")
    if slot["kdf"]["type"] not in _KDFS:
        raise HeaderError("the key slot's key derivation is unknown")


def _is_number(text: object) -> bool:
    """Say whether this is a 64-bit number as LUKS2 writes it, in decimal as a string."""
    return isinstance(text, str) and re.fullmatch(r"[0-9]{1,20}", text) is not None


def digest_of(header: Header) -> str:
    """Return the digest of the volume key, of a header that passed `check`, with its salt."""
    (digest,) = header.metadata["digests"].values()
    return f"{digest['salt']} {digest['digest']}"


def identify(copy: bytes, slots: Collection[str] = ()) -> "LuksHeader":
    """Return what the server knows the header in `copy` by.

    `copy` are the first octets of the volume, as many as `used_bytes` says; `slots` those that it
    may have while its key is replaced, see `check`.
    """
    from securecloud_protocol.messages import LuksHeader

    digest = hashlib.sha256(copy[: used_bytes(copy, slots)]).digest()
    return LuksHeader(digest, _volume_key(copy, slots), bool(slots))


def _volume_key(copy: bytes, slots: Collection[str]) -> bytes | None:
    from securecloud_protocol.transcript import volume_key_digest

    try:
        header = parse(copy)
        check(header, slots)
    except HeaderError:
        if not slots:
            return None
        try:
            header = newer_of_two(copy, slots)
        except HeaderError:
            return None
    (found,) = header.metadata["digests"].values()
    try:
        salt, digest = (base64.b64decode(found[name]) for name in ("salt", "digest"))
    except (KeyError, TypeError, ValueError):
        return None
    return volume_key_digest(salt, digest)


def proof(copy: bytes, slot: str) -> str:
    """Return a digest of a key slot in `copy`, which `check` has passed: of what it says of itself,
    of the key in it, and of the volume key that it leads to.
    """
    header = parse(copy)
    try:
        found = header.metadata["keyslots"][slot]
        start, size = int(found["area"]["offset"]), int(found["area"]["size"])
    except (KeyError, TypeError, ValueError):
        raise HeaderError(f"key slot {slot} is not of the form that LUKS2 prescribes") from None
    hashed = hashlib.sha256(json.dumps(found, sort_keys=True).encode())
    hashed.update(digest_of(header).encode())
    hashed.update(copy[start : start + size])
    return hashed.hexdigest()


def used_bytes(copy: bytes, slots: Collection[str] = ()) -> int:
    """Return how much of a volume's beginning its header and its key slots take up.

    That is all of `COPY_BYTES` unless `copy` holds a finished header that passes `check`.
    """
    try:
        header = parse(copy)
        check(header, slots)
        areas = [slot["area"] for slot in header.metadata["keyslots"].values()]
        return max(int(area["offset"]) + int(area["size"]) for area in areas)
    except (HeaderError, *_NOT_AS_PRESCRIBED):
        return COPY_BYTES


@contextmanager
def ram_copy(copy: bytes) -> Iterator[int]:
    """Give a file descriptor of `copy` in memory, to be passed on as cryptsetup's `--header`."""
    descriptor = os.memfd_create("luks-header", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(copy)
            # cryptsetup wants the length that the header speaks of; nothing is read from the hole.
            file.truncate(max(len(copy), COPY_BYTES))
        yield descriptor
    finally:
        os.close(descriptor)
