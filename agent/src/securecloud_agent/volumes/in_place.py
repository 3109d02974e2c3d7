"""Encrypts what is on a disk, in place and with its data kept.

The file system is checked and made 32 MiB smaller if it fills the disk; LUKS2 headers are put
before it; then cryptsetup moves and encrypts it, chunk by chunk from its end. Each chunk is written
elsewhere before the header says so, and what the headers take the place of is kept aside meanwhile
(heading.py), so a power cut loses nothing.
"""

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from securecloud_agent.decide.model import Content
from securecloud_agent.run import Finished, Follower, Runner
from securecloud_agent.state.memory import Encryption
from securecloud_agent.volumes.cryptsetup import REDUCTION, Cryptsetup, largest_sector
from securecloud_agent.volumes.header import HeaderError
from securecloud_agent.volumes.heading import flush, put_back, room_on, set_aside
from securecloud_agent.volumes.last_step import last_step, wipe
from securecloud_agent.volumes.source import Sight, look_at
from securecloud_agent.volumes.superblock import Extent, read_extent
from securecloud_agent.volumes.trouble import VolumeError
from securecloud_agent.volumes.usage import why_in_use

_DAY = 86400.0
_E2FSCK_CORRECTED = 3
_XFS_DIRTY_LOG = "metadata changes in a log"
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an encryption in place is: octets, octets a second, and seconds left.

    `phase` is checking, shrinking, encrypting, finished, stopped or failed; `detail` says why.
    """

    phase: str
    done: int = 0
    total: int = 0
    rate: int = 0
    remaining: int | None = None
    detail: str = ""

    @property
    def percent(self) -> float:
        """The share that is encrypted, 0 to 100, with one decimal."""
        return round(100 * self.done / self.total, 1) if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be encrypted: `filesystem` on `source`, which becomes the device's volume."""

    device: str
    source: Path
    filesystem: str


@dataclass(frozen=True, slots=True)
class Hands:
    """What the work is done with. `remember` puts on disk how far it came."""

    run: Runner
    follow: Follower
    remember: Callable[[Encryption], None]
    report: Callable[[Progress], None]
    stop: Callable[[], bool]
    pass_fds: tuple[int, ...]
    folder: Path
    """Where programs may leave files that end with this boot."""


class InPlace:
    """One encryption, from wherever it stands to its end. `key` is the caller's, to be wiped."""

    def __init__(self, order: Order, record: Encryption, key: bytearray, hands: Hands) -> None:
        self._order = order
        self._record = record
        self._identity: tuple[int, ...] = ()
        self._key = key
        self._hands = hands
        self._cryptsetup = Cryptsetup(hands.run, order.source)

    def work(self) -> None:
        """Do what is left of it; raise VolumeError where that cannot be."""
        self._identity = _identity(self._order.source)
        self._require_unused()
        if self._record.phase == "heading":
            self._put_back()
        sight = self._look()
        if sight.content is Content.OTHER:
            self._prepare(sight)
            self._begin(sight)
        elif self._record.phase != "begun":
            self._record = replace(self._record, luks_uuid=sight.luks_uuid or "")
            self._advance("begun")
        if self._look().content is Content.UNFINISHED:
            self._encrypt()
        if self._look().content is not Content.LUKS:
            raise VolumeError(
                f"{self._order.source} is still not encrypted as a whole;"
                f" `securecloud-agent encrypt {self._order.device}` goes on"
            )

    def _require_unused(self) -> None:
        used = why_in_use(self._order.source)
        if used is not None:
            raise VolumeError(f"{self._order.source} {used}")

    def _unless_stopped(self) -> None:
        if self._hands.stop():
            raise VolumeError("told to stop")

    def _put_back(self) -> None:
        """Begin again where the power went while LUKS headers were written."""
        with self._order.source.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
        put_back(self._order.source, size, self._record.head)
        self._advance("asked")

    def _look(self) -> Sight:
        """Look again right before a step: what was seen earlier may have been replaced."""
        sight = look_at(self._order.source, self._hands.run)
        if sight.content is Content.OTHER and self._record.phase != "begun":
            if sight.detail != self._order.filesystem:
                raise VolumeError(f"{self._order.source} holds {sight.detail}")
            return sight
        if sight.content not in {Content.LUKS, Content.UNFINISHED}:
            raise VolumeError(f"{self._order.source} is not as it was: {sight.detail}")
        if sight.header_problem is not None:
            raise VolumeError(f"the LUKS header is refused: {sight.header_problem}")
        return sight

    def _advance(self, phase: str, head: str = "") -> None:
        self._record = replace(self._record, phase=phase, head=head)
        self._hands.remember(self._record)

    def _prepare(self, sight: Sight) -> None:
        """Make the file system sound and small enough; nothing is encrypted yet."""
        if sight.size % _SECTOR:
            raise VolumeError(
                f"{self._order.source} has {sight.size} octets, which is no multiple of {_SECTOR};"
                " enlarge it to one"
            )
        self._hands.report(Progress("checking", total=sight.size))
        check = self._check_xfs if self._order.filesystem == "xfs" else self._check_ext
        check(self._order.source)
        room = room_on(sight.size)
        extent = read_extent(self._order.source, self._order.filesystem)
        self._unless_stopped()
        if extent.size <= room:
            return
        if self._order.filesystem == "xfs":
            raise VolumeError(
                f"XFS cannot be made smaller and fills {self._order.source}; enlarge the disk by"
                f" {REDUCTION // 1024**2} MiB, which are needed for the LUKS headers"
            )
        self._hands.report(Progress("shrinking", total=sight.size))
        self._advance("shrinking")
        self._shrink(sight.size, room)

    def _check_ext(self, source: Path) -> None:
        # After a power cut while shrinking there may be more to mend than what is always safe.
        careful = "-y" if self._record.phase == "shrinking" else "-p"
        done = self._run("e2fsck", "-f", careful, "--", str(source))
        if done.status > _E2FSCK_CORRECTED:
            raise VolumeError(
                f"{source} has errors that e2fsck does not mend by itself; run `e2fsck -f {source}`"
            )

    def _check_xfs(self, source: Path) -> None:
        done = self._run("xfs_repair", "-n", str(source))
        if _XFS_DIRTY_LOG in f"{done.output.decode('utf-8', 'replace')}{done.messages}":
            raise VolumeError(f"the log of XFS on {source} is not clean; mount and unmount it once")
        if done.status != 0:
            raise VolumeError(f"{source} has errors; run `xfs_repair {source}`")

    def _shrink(self, size: int, room: int) -> None:
        done = self._run("resize2fs", "--", str(self._order.source), f"{room // 1024}K")
        if done.status != 0:
            # It says so before it changes anything.
            self._advance("asked")
            raise VolumeError(
                f"the file system on {self._order.source} could not be made smaller"
                f" ({done.complaint}); free {REDUCTION // 1024**2} MiB in it, or enlarge the disk"
                " by that much"
            )
        if self._order.source.is_file():
            # A file was cut off there; the headers take that place.
            os.truncate(self._order.source, size)

    def _begin(self, sight: Sight) -> None:
        extent = self._require_same(sight)
        self._unless_stopped()
        sector = largest_sector(sight.size, extent.sector)
        self._advance("heading", set_aside(self._order.source, sight.size))
        label = f"securecloud:{self._order.device}"
        try:
            self._cryptsetup.begin_encryption(
                self._key,
                label,
                self._record.luks_uuid,
                sector,
                self._hands.pass_fds,
                self._hands.folder,
            )
        except VolumeError:
            self._put_back()
            raise
        flush(self._order.source)
        self._advance("begun")

    def _require_same(self, sight: Sight) -> Extent:
        """What was checked must be what is there: a link may lead elsewhere after all this time."""
        source = self._order.source
        now = self._look()
        extent = read_extent(source, self._order.filesystem)
        if (
            _identity(source) != self._identity
            or (now.content, now.size) != (sight.content, sight.size)
            or extent.size > room_on(now.size)
        ):
            raise VolumeError(f"{source} is another disk than before, or was changed meanwhile")
        self._require_unused()
        return extent

    def _encrypt(self) -> None:
        self._unless_stopped()
        stopped = ""
        try:
            self._cryptsetup.encrypt(
                self._key, self._hands.follow, self._hands.pass_fds, self._line, self._hands.stop
            )
        except VolumeError as error:
            stopped = str(error)
        if stopped and not self._finish():
            raise VolumeError(stopped)

    def _finish(self) -> bool:
        """Say whether all is encrypted in spite of what cryptsetup said; take the last step."""
        sight = self._look()
        if sight.content is Content.LUKS:
            return True
        try:
            last = last_step(sight.header)
        except HeaderError:
            return False
        if last is None:
            return False
        self._cryptsetup.verify(self._key, last.header)
        wipe(self._order.source, last.left_over)
        self._cryptsetup.restore_header(last.header, self._hands.pass_fds)
        return True

    def _line(self, line: bytes) -> None:
        progress = read_progress(line)
        if progress is not None:
            self._hands.report(progress)

    def _run(self, *argv: str) -> Finished:
        return self._hands.run(argv, timeout=_DAY, pass_fds=self._hands.pass_fds)


def _identity(path: Path) -> tuple[int, ...]:
    """Return what stays the same while `path` leads to the same disk or file."""
    found = path.stat()
    if stat.S_ISBLK(found.st_mode):
        return (found.st_rdev,)
    return found.st_dev, found.st_ino


def read_progress(line: bytes) -> Progress | None:
    """Return what a line of `cryptsetup --progress-json` says; None of anything else."""
    with suppress(ValueError, KeyError, TypeError):
        told = json.loads(line)
        done, total = int(told["device_bytes"]), int(told["device_size"])
        rate, left = int(told["speed"]), int(told["eta_ms"])
        return Progress("encrypting", done, total, rate, (left + 999) // 1000)
    return None
