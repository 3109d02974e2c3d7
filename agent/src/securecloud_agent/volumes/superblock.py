"""What a file system says of itself: its size, and the smallest sector that it can live on."""

import struct
from dataclasses import dataclass
from pathlib import Path

from securecloud_agent.volumes.trouble import VolumeError

_EXT_OFFSET = 1024
_EXT_MAGIC = 0xEF53
_EXT_64BIT = 0x80
_EXT_LOG_BASE = 10
_EXT_LARGEST_LOG = 6
_XFS_MAGIC = b"XFSB"
_READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Extent:
    """`size` in octets; `sector` is the largest sector size, in octets, that it can live on."""

    size: int
    sector: int


def read_extent(device: Path, filesystem: str) -> Extent:
    """Read the superblock of the ext2/3/4 or XFS file system on `device`."""
    with device.open("rb", buffering=0) as file:
        block = file.read(_READ_BYTES)
    extent = _xfs(block) if filesystem == "xfs" else _ext(block)
    if extent is None:
        raise VolumeError(f"the superblock of {filesystem} on {device} cannot be read")
    return extent


def _ext(block: bytes) -> Extent | None:
    """Fields of struct ext4_super_block, little-endian; their offsets are from its beginning."""
    if len(block) < _READ_BYTES:
        return None
    (blocks,) = struct.unpack_from("<I", block, _EXT_OFFSET + 0x4)
    (log_size,) = struct.unpack_from("<I", block, _EXT_OFFSET + 0x18)
    (magic,) = struct.unpack_from("<H", block, _EXT_OFFSET + 0x38)
    (incompatible,) = struct.unpack_from("<I", block, _EXT_OFFSET + 0x60)
    (blocks_high,) = struct.unpack_from("<I", block, _EXT_OFFSET + 0x150)
    if magic != _EXT_MAGIC or log_size > _EXT_LARGEST_LOG:
        return None
    if incompatible & _EXT_64BIT:
        blocks |= blocks_high << 32
    size = 1 << (_EXT_LOG_BASE + log_size)
    return Extent(blocks * size, size)


def _xfs(block: bytes) -> Extent | None:
    """Fields of struct xfs_dsb, big-endian."""
    if not block.startswith(_XFS_MAGIC) or len(block) < _READ_BYTES:
        return None
    size, blocks = struct.unpack_from(">IQ", block, 4)
    (sector,) = struct.unpack_from(">H", block, 102)
    return Extent(size * blocks, sector)
