"""What lies on a volume's source, before anything is done to it."""

import json
import os
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from securecloud_agent.decide.model import UNKNOWN_KIND, Content
from securecloud_agent.errors import printable
from securecloud_agent.run import Runner
from securecloud_agent.volumes.header import (
    COPY_BYTES,
    MAGIC,
    Header,
    HeaderError,
    check,
    check_unfinished,
    digest_of,
    identify,
    is_unfinished,
    newer_of_two,
    parse,
    parse_torn,
    used_bytes,
)

if TYPE_CHECKING:
    from securecloud_protocol.messages import LuksHeader

_FIRST_BYTES = 576 * 1024
"""Enough for a header with two key slots, as cryptsetup lays them out."""
_TAIL_BYTES = 1024 * 1024
_SAMPLES = 256
_SAMPLE_BYTES = 4096
_CHUNK = 1024 * 1024
_PROBE_SECONDS = 60
_NOTHING_FOUND = 2
_SMALLEST = COPY_BYTES + 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen; `header` is the copy that was checked, when the content is LUKS.

    `slots` are its key slots, and `digest` is the one of the volume key behind all of them. Of a
    `torn` one only one of the two headers is right; cryptsetup repairs the other. `luks_header` is
    what the server knows it by, also where there is a problem with it.
    """

    content: Content
    detail: str = ""
    size: int = 0
    luks_uuid: str | None = None
    header_problem: str | None = None
    header: bytes = b""
    slots: tuple[str, ...] = ()
    digest: str = ""
    torn: bool = False
    luks_header: "LuksHeader | None" = None


def look_at(path: Path, run: Runner, slots: Collection[str] = ()) -> Sight:
    """Say what is on the block device or file at `path`; nothing is written.

    `slots` are those that a LUKS header may have while its key is replaced, see `header.check`.
    """
    try:
        found = path.stat()
        if not (stat.S_ISBLK(found.st_mode) or stat.S_ISREG(found.st_mode)):
            return Sight(Content.ABSENT, "it is neither a block device nor a file")
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if _read(file.fileno(), 0, len(MAGIC)) == MAGIC:
                return _luks_on(file.fileno(), size, slots)
            beginning = _read(file.fileno(), 0, COPY_BYTES)
            return _not_luks(path, run, file.fileno(), size, beginning)
    except FileNotFoundError:
        return Sight(Content.ABSENT, "it does not exist")
    except OSError as error:
        return Sight(Content.ABSENT, error.strerror or "it cannot be read")


def header_on(path: Path, slots: Collection[str] = ()) -> "LuksHeader | None":
    """Return what the server knows the LUKS header on `path` by, if one can be seen there."""
    sight = _header_on(path, slots)
    return sight.luks_header if sight is not None else None


def header_copy(path: Path) -> bytes | None:
    """Return the LUKS header on `path`, all that its digest is over, if one can be seen there."""
    sight = _header_on(path, ())
    return sight.header[: used_bytes(sight.header)] if sight is not None else None


def _header_on(path: Path, slots: Collection[str]) -> Sight | None:
    try:
        found = path.stat()
        if not (stat.S_ISBLK(found.st_mode) or stat.S_ISREG(found.st_mode)):
            return None
        with path.open("rb", buffering=0) as file:
            if _read(file.fileno(), 0, len(MAGIC)) != MAGIC:
                return None
            return _luks_on(file.fileno(), 0, slots)
    except OSError:
        return None


def _luks_on(file: int, size: int, slots: Collection[str]) -> Sight:
    copy = _read(file, 0, _FIRST_BYTES)
    if used_bytes(copy, slots) > len(copy):
        copy = _read(file, 0, COPY_BYTES)
    sight = _luks(copy, size, slots)
    if sight.content is Content.UNFINISHED:
        return sight
    return replace(sight, luks_header=identify(copy, slots))


def _luks(copy: bytes, size: int, slots: Collection[str]) -> Sight:
    try:
        header = parse(copy)
    except HeaderError as error:
        return _torn(copy, size, str(error), slots)
    unfinished = is_unfinished(header)
    try:
        if unfinished:
            check_unfinished(header)
        else:
            check(header, slots)
    except HeaderError as error:
        return Sight(Content.LUKS, "LUKS", size, header.uuid, str(error), copy)
    if unfinished:
        return Sight(Content.UNFINISHED, "LUKS", size, header.uuid, None, copy)
    return _sound(header, copy, size)


def _sound(header: Header, copy: bytes, size: int) -> Sight:
    return Sight(
        Content.LUKS,
        "LUKS",
        size,
        header.uuid,
        header=copy,
        slots=tuple(sorted(header.metadata["keyslots"])),
        digest=digest_of(header),
    )


def _torn(copy: bytes, size: int, problem: str, slots: Collection[str]) -> Sight:
    if slots:
        with suppress(HeaderError):
            return replace(_sound(newer_of_two(copy, slots), copy, size), torn=True)
    try:
        header = parse_torn(copy)
    except HeaderError:
        return Sight(Content.LUKS, "LUKS", size, None, problem, copy)
    return Sight(Content.UNFINISHED, "LUKS", size, header.uuid, None, copy)


def _not_luks(path: Path, run: Runner, file: int, size: int, beginning: bytes) -> Sight:
    if size < _SMALLEST:
        needed = f"it has {size} octets; a LUKS2 volume needs more than {_SMALLEST}"
        return Sight(Content.ABSENT, needed, size)
    signature = signature_on(path, run)
    if signature is not None:
        return Sight(Content.OTHER, signature, size)
    if beginning.strip(b"\0") or not _rest_is_zero(file, size):
        return Sight(Content.OTHER, UNKNOWN_KIND, size)
    if stat.S_ISBLK(os.fstat(file).st_mode) and _is_in_use(path):
        return Sight(Content.OTHER, "nothing, but is in use by the system", size)
    return Sight(Content.BLANK, "nothing", size)


def signature_on(path: Path, run: Runner) -> str | None:
    """Return the kind of file system, partition table or other signature on `path`, if any."""
    probed = run(["blkid", "-p", "-o", "export", "--", str(path)], timeout=_PROBE_SECONDS)
    if probed.status not in (0, _NOTHING_FOUND):
        return "signatures of several kinds"
    values = dict(
        line.split("=", 1)
        for line in probed.output.decode("utf-8", "replace").splitlines()
        if "=" in line
    )
    for name in ("TYPE", "PTTYPE"):
        if name in values:
            return printable(values[name], 40)
    listed = run(["wipefs", "--json", "--", str(path)], timeout=_PROBE_SECONDS)
    try:
        signatures = json.loads(listed.output or b"{}").get("signatures", [])
        kinds = sorted({str(each["type"]) for each in signatures})
    except (ValueError, KeyError, TypeError, AttributeError):
        return "a signature that wipefs reports in an unknown way"
    if listed.status != 0:
        return f"something that wipefs cannot read ({listed.complaint})"
    return printable(", ".join(kinds), 80) if kinds else None


def _rest_is_zero(file: int, size: int) -> bool:
    """Check the last megabyte, where RAID and GPT keep theirs, and samples in between."""
    tail = max(COPY_BYTES, size - _TAIL_BYTES)
    if _read(file, tail, _TAIL_BYTES).strip(b"\0"):
        return False
    step = max(_SAMPLE_BYTES, (tail - COPY_BYTES) // _SAMPLES)
    places = range(COPY_BYTES, tail, step)
    return not any(os.pread(file, _SAMPLE_BYTES, place).strip(b"\0") for place in places)


def _read(file: int, offset: int, length: int) -> bytes:
    chunks = []
    while length > 0 and (chunk := os.pread(file, min(length, _CHUNK), offset)):
        chunks.append(chunk)
        offset += len(chunk)
        length -= len(chunk)
    return b"".join(chunks)


def _is_in_use(path: Path) -> bool:
    """Say whether the kernel holds the block device: mounted, in a RAID, under device-mapper."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError:
        return True
    return False


def blank_again(path: Path) -> None:
    """Put zeros back where a format failed half-way; only after `look_at` had found it blank."""
    with path.open("r+b", buffering=0) as file:
        for offset in range(0, COPY_BYTES, _CHUNK):
            os.pwrite(file.fileno(), bytes(_CHUNK), offset)
        os.fsync(file.fileno())
