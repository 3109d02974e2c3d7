"""What the kernel says of mapped and mounted volumes, read from /proc and /sys."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from securecloud_agent.errors import printable

_SHOWN_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class Mapping:
    """A device-mapper device: its kernel name (dm-0), its numbers, and its LUKS UUID."""

    kernel_name: str
    numbers: str
    luks_uuid: str | None
    disk_gone: bool = False
    """Whether the disk below it was taken away."""
    suspended: bool = False
    """Whether all that reads and writes it waits."""


@dataclass(frozen=True, slots=True)
class IscsiSession:
    """Whether an iSCSI target answers, and the kernel names (sda) of the disks that it gave."""

    up: bool
    disks: tuple[str, ...]


class Kernel:
    """Reads below `root`, which is / but for tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def has_device_mapper(self) -> bool:
        """Say whether device-mapper's control node can be opened."""
        try:
            os.close(os.open(self._root / "dev/mapper/control", os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def mapping(self, mapper: str) -> Mapping | None:
        """Return the mapping named `mapper`, if there is one."""
        for folder in sorted((self._root / "sys/block").glob("dm-*")):
            if _text(folder / "dm/name").strip() == mapper:
                uuid = _luks_uuid(_text(folder / "dm/uuid").strip())
                numbers = _text(folder / "dev").strip()
                waits = _text(folder / "dm/suspended").strip() == "1"
                return Mapping(folder.name, numbers, uuid, _is_empty(folder / "slaves"), waits)
        return None

    def mount_points(self, numbers: str) -> list[str]:
        """Return where the block device with `numbers` (major:minor) is mounted."""
        found = []
        for line in _text(self._root / "proc/self/mountinfo").splitlines():
            fields = line.split(" ")
            if len(fields) > 4 and fields[2] == numbers:  # noqa: PLR2004 - proc(5), mountinfo
                found.append(_unescape(fields[4]))
        return found

    def is_mount_point(self, path: str) -> bool:
        """Say whether anything is mounted at `path`."""
        lines = _text(self._root / "proc/self/mountinfo").splitlines()
        return any(_unescape(line.split(" ")[4]) == path for line in lines if line.count(" ") > 4)  # noqa: PLR2004 - proc(5), mountinfo

    def drop_cached_data(self) -> None:
        """Give up what is cached of files' contents (proc(5), drop_caches), on all file systems.

        Of a volume that was suspended, whoever is on the machine could else read on in plain. What
        a process has mapped or read itself stays.
        """
        with suppress(OSError):
            (self._root / "proc/sys/vm/drop_caches").write_text("1\n", encoding="ascii")

    def iscsi_session(self, address: str, port: int, target: str) -> IscsiSession | None:
        """Return the session with `target` at this portal, if there is one, whoever logged in."""
        found = [
            folder
            for folder in sorted((self._root / "sys/class/iscsi_session").glob("session*"))
            if _text(folder / "targetname").strip() == target
            and (address, str(port)) in self._portals(folder.name.removeprefix("session"))
        ]
        if not found:
            return None
        up = any(_text(folder / "state").strip() == "LOGGED_IN" for folder in found)
        disks = (disk.name for each in found for disk in each.glob("device/target*/*:*/block/*"))
        return IscsiSession(up, tuple(sorted(disks)))

    def _portals(self, session: str) -> set[tuple[str, str]]:
        """As they were asked for; where the target sent the connection on to is another matter."""
        return {
            (_text(each / "persistent_address").strip(), _text(each / "persistent_port").strip())
            for each in (self._root / "sys/class/iscsi_connection").glob(f"connection{session}:*")
        }

    def is_used(self, disk: str) -> bool:
        """Say whether the disk, or a partition, is mounted, swapped to, or below another device.

        Without opening it: that would wait, if it has stopped to answer.
        """
        whole = self._root / "sys/class/block" / disk
        parts = [each for each in _entries(whole) if (each / "partition").exists()]
        swaps = _text(self._root / "proc/swaps").split()
        return any(
            _entries(each / "holders")
            or self.mount_points(_text(each / "dev").strip())
            or f"/dev/{each.name}" in swaps
            for each in (whole, *parts)
        )

    def users_of(self, mount_point: str) -> str:
        """Return the names of some processes that keep `mount_point` busy.

        Nothing is read for which a process that waits for a suspended volume would have to answer
        (its command line, its map of memory): whoever reads that waits with it.
        """
        names = set()
        for process in (self._root / "proc").glob("[0-9]*"):
            links = [process / "cwd", process / "root", process / "exe", *_entries(process / "fd")]
            if any(_lies_below(link, mount_point) for link in links):
                names.add(f"{_text(process / 'comm').strip()} ({process.name})")
        return printable(", ".join(sorted(names)[:_SHOWN_PROCESSES]) or "unknown processes", 200)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_empty(folder: Path) -> bool:
    """Say whether `folder` is there, and nothing that a link in it leads to."""
    return folder.exists() and not any(entry.exists() for entry in _entries(folder))


def _lies_below(link: Path, mount_point: str) -> bool:
    try:
        target = os.readlink(link)  # noqa: PTH115 - Path.readlink makes objects for every fd
    except OSError:
        return False
    return target == mount_point or target.startswith(mount_point.rstrip("/") + "/")


def _unescape(field: str) -> str:
    """Undo the octal escapes of mountinfo: space, tab, line feed, backslash."""
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escaped, plain)
    return field


def _luks_uuid(dm_uuid: str) -> str | None:
    """Return the UUID in `CRYPT-LUKS2-<32 hex digits>-<name>`."""
    parts = dm_uuid.split("-", 3)
    if len(parts) < 4 or parts[:2] != ["CRYPT", "LUKS2"] or len(parts[2]) != 32:  # noqa: PLR2004 - as above
        return None
    digits = parts[2]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
