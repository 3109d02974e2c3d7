"""The beginning of a disk, kept aside while LUKS headers are put in its place.

cryptsetup copies it behind the file system and then writes over it, without a flush in between. A
power cut there would leave a beginning that is neither the one nor the other, so there is a copy of
ours, which is on the disk and known by its digest before the first octet changes.
"""

import hashlib
import os
from pathlib import Path

from securecloud_agent.volumes.cryptsetup import REDUCTION
from securecloud_agent.volumes.trouble import VolumeError

_HEAD_BYTES = REDUCTION // 2
_ALIGNMENT = 4096


def room_on(size: int) -> int:
    """Return where a file system must end on a disk of `size` octets that gets LUKS headers."""
    return (size - REDUCTION) // _ALIGNMENT * _ALIGNMENT


def set_aside(source: Path, size: int) -> str:
    """Copy the beginning to behind the file system, and on to the disk; return its SHA-256.

    There is room for two: cryptsetup's own copy ends the disk. Encrypting writes over both.
    """
    with source.open("r+b", buffering=0) as file:
        head = _read(file.fileno(), 0)
        _write(file.fileno(), room_on(size), head)
    return hashlib.sha256(head).hexdigest()


def put_back(source: Path, size: int, digest: str) -> None:
    """Bring the beginning back; VolumeError, and nothing written, when it is nowhere whole."""
    with source.open("r+b", buffering=0) as file:
        aside = _read(file.fileno(), room_on(size))
        if _is(aside, digest):
            _write(file.fileno(), 0, aside)
        elif not _is(_read(file.fileno(), 0), digest):
            raise VolumeError(
                f"{source} was cut off from power while LUKS headers were put on it, and its"
                " beginning is not to be found; it is another disk, or something else wrote to it"
            )


def flush(source: Path) -> None:
    """Have all that was written to `source` on the disk."""
    with source.open("r+b", buffering=0) as file:
        os.fsync(file.fileno())


def _is(content: bytes, digest: str) -> bool:
    return hashlib.sha256(content).hexdigest() == digest


def _read(file: int, offset: int) -> bytes:
    content = bytearray()
    while len(content) < _HEAD_BYTES:
        chunk = os.pread(file, _HEAD_BYTES - len(content), offset + len(content))
        if not chunk:
            break
        content += chunk
    return bytes(content)


def _write(file: int, offset: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(file, content[written:], offset + written)
    os.fsync(file)
