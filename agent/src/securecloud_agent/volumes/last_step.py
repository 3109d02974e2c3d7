"""The last step of an encryption in place, where cryptsetup cannot take it any more.

Killed in its last chunk and recovered, cryptsetup 2.6 has encrypted all data but refuses to resume
(«Failed to set device segments for next reencryption hotzone»), so that its header asks for ever to
be finished, and the copy of the file system's beginning that it works with is left behind it in
plain. This module knows that state, and what the header looks like when it is over.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securecloud_agent.volumes.header import (
    BINARY,
    BINARY_BYTES,
    CHECKSUM,
    HeaderError,
    check,
    check_unfinished,
    parse,
)

_WIPE_CHUNK = 1024 * 1024
_SEQUENCE_FIELD = 3


@dataclass(frozen=True, slots=True)
class LastStep:
    """`header` is the finished one, 16 MiB; `left_over` are offset and size of what is in plain."""

    header: bytes
    left_over: tuple[int, int]


def last_step(copy: bytes) -> LastStep | None:
    """Return what is left to do when all of the data is encrypted; None when some is not."""
    header = parse(copy)
    check_unfinished(header)
    before = header.metadata
    current = {name: each for name, each in before["segments"].items() if not each.get("flags")}
    copies = [
        each
        for each in before["segments"].values()
        if "backup-moved-segment" in each.get("flags", ())
    ]
    hot = any("in-reencryption" in each.get("flags", ()) for each in before["segments"].values())
    plain = any(each["type"] != "crypt" for each in current.values())
    if hot or plain or (len(current), len(copies)) != (1, 1):
        return None
    (moved,) = copies
    finished = written(copy, _finished(before, current))
    check(parse(finished))
    return LastStep(finished, (int(moved["offset"]), int(moved["size"])))


def _finished(before: dict[str, Any], segments: dict[str, Any]) -> dict[str, Any]:
    slots = {name: each for name, each in before["keyslots"].items() if each["type"] == "luks2"}
    digests = {
        name: {**each, "segments": list(segments)}
        for name, each in before["digests"].items()
        if each["keyslots"] == list(slots)
    }
    config = {name: each for name, each in before["config"].items() if name != "requirements"}
    return {
        "keyslots": slots,
        "tokens": {},
        "segments": segments,
        "digests": digests,
        "config": config,
    }


def written(copy: bytes, metadata: dict[str, Any]) -> bytes:
    """Return `copy` with both headers saying `metadata`, as the format's sections 2.1 and 3 say."""
    size = BINARY.unpack_from(copy, 0)[2]
    document = json.dumps(metadata, separators=(",", ":")).encode()
    if len(document) >= size - BINARY_BYTES:
        raise HeaderError("its metadata does not fit")
    area = document.ljust(size - BINARY_BYTES, b"\0")
    result = bytearray(copy)
    for offset in (0, size):
        fields = list(BINARY.unpack_from(copy, offset))
        fields[_SEQUENCE_FIELD] += 1
        binary = bytearray(BINARY.pack(*fields).ljust(BINARY_BYTES, b"\0"))
        binary[CHECKSUM] = bytes(64)
        binary[CHECKSUM] = hashlib.sha256(binary + area).digest().ljust(64, b"\0")
        result[offset : offset + size] = binary + area
    return bytes(result)


def wipe(source: Path, left_over: tuple[int, int]) -> None:
    """Overwrite what is left in plain; the volume's file system ends before it."""
    offset, size = left_over
    with source.open("r+b", buffering=0) as file:
        for at in range(offset, offset + size, _WIPE_CHUNK):
            os.pwrite(file.fileno(), os.urandom(min(_WIPE_CHUNK, offset + size - at)), at)
        os.fsync(file.fileno())
