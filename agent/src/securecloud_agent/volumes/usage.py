"""Who uses a disk? Asked before anything is done to what lies on it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from securecloud_agent.errors import printable
from securecloud_agent.volumes.kernel import Kernel

_BY = {
    "UUID": "by-uuid",
    "LABEL": "by-label",
    "PARTUUID": "by-partuuid",
    "PARTLABEL": "by-partlabel",
}
_FSTAB_FIELDS = 4


def why_in_use(source: Path, root: Path = Path("/")) -> str | None:
    """Return who uses the block device or file `source`, as an end to «it …», or None."""
    found = source.stat()
    if stat.S_ISREG(found.st_mode):
        return _looped(source, root)
    numbers = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    return (
        _mounted(numbers, root)
        or _swap(found.st_rdev, root)
        or _held(root / "sys/dev/block" / numbers)
        or _fstab(found.st_rdev, root)
        or _exclusive(source)
    )


def _mounted(numbers: str, root: Path) -> str | None:
    points = Kernel(root).mount_points(numbers)
    if "/" in points:
        return "is the root file system"
    if points:
        return (
            f"is mounted at {printable(', '.join(points), 200)}; stop what uses it and unmount it"
        )
    return None


def _swap(device: int, root: Path) -> str | None:
    lines = (root / "proc/swaps").read_text(encoding="utf-8", errors="replace").splitlines()
    used = any(_device_number(Path(line.split()[0])) == device for line in lines[1:] if line)
    return "is swap space that is in use" if used else None


def _held(node: Path) -> str | None:
    holders = sorted(each.name for each in _entries(node / "holders"))
    if holders:
        return f"is part of {printable(', '.join(_title(node, each) for each in holders), 200)}"
    if any((each / "partition").exists() for each in _entries(node)):
        return "is divided into partitions; name one of them"
    return None


def _title(node: Path, holder: str) -> str:
    try:
        name = (node / "holders" / holder / "dm/name").read_text(encoding="utf-8").strip()
    except OSError:
        return holder
    return f"{holder} ({name}, LVM or another mapping)"


def _fstab(device: int, root: Path) -> str | None:
    """A mount that the system would try at the next boot, in vain once it is encrypted."""
    for number, spec, point, options in _fstab_lines(root / "etc/fstab"):
        if "noauto" not in options.split(",") and _device_number(_node(spec)) == device:
            place = printable(point, 100)
            return (
                f"is mounted at {place} by line {number} of /etc/fstab; remove that line, for the"
                " agent mounts the volume"
            )
    return None


def _fstab_lines(path: Path) -> Iterator[tuple[int, str, str, str]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if len(fields) >= _FSTAB_FIELDS and not line.lstrip().startswith("#"):
            yield number, fields[0], fields[1], fields[3]


def _node(spec: str) -> Path:
    key, _, value = spec.partition("=")
    folder = _BY.get(key)
    return Path("/dev/disk") / folder / value.strip("\"'") if folder else Path(spec)


def _device_number(path: Path) -> int | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_rdev if stat.S_ISBLK(found.st_mode) else None


def _exclusive(source: Path) -> str | None:
    """Whatever is not listed above: the kernel gives a device in use to nobody alone."""
    try:
        os.close(os.open(source, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError:
        return "is in use by the system"
    return None


def _looped(source: Path, root: Path) -> str | None:
    for backing in (root / "sys/block").glob("loop*/loop/backing_file"):
        path = Path(backing.read_text(encoding="utf-8", errors="replace").rstrip("\n"))
        if path == source.resolve() or _same_file(path, source):
            return f"is in use as {backing.parent.parent.name}"
    return None


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
