"""Carries out the steps that were decided for one volume."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from securecloud_agent.decide.model import Action, Content, Kind, State
from securecloud_agent.errors import AgentError
from securecloud_agent.run import Runner
from securecloud_agent.state.memory import BootMarks
from securecloud_agent.volumes import filesystem
from securecloud_agent.volumes.cryptsetup import Cryptsetup
from securecloud_agent.volumes.encryptions import Encryptions
from securecloud_agent.volumes.header_copies import HeaderCopies
from securecloud_agent.volumes.hooks import Hooks
from securecloud_agent.volumes.in_place import Order
from securecloud_agent.volumes.iscsi import Sessions
from securecloud_agent.volumes.kernel import Kernel
from securecloud_agent.volumes.mounts import Direct, Mounts
from securecloud_agent.volumes.rotation import Rotations
from securecloud_agent.volumes.source import Sight, blank_again, look_at
from securecloud_agent.volumes.trouble import VolumeError, WrongKeyError

if TYPE_CHECKING:
    from securecloud_protocol.messages import LuksHeader, Volume

VERIFIED = "verified"

_NO_DEVICE_MAPPER = "this kernel has no device-mapper, so nothing was opened or mounted"


@dataclass(frozen=True, slots=True)
class Tools:
    """What this room works with."""

    run: Runner
    kernel: Kernel
    marks: BootMarks
    encryptions: Encryptions
    header_copies: HeaderCopies
    rotations: Rotations
    sessions: Sessions
    new_uuid: Callable[[], uuid.UUID] = uuid.uuid4
    mounts: Mounts = field(default_factory=Direct)
    hooks: Hooks = field(default_factory=Hooks)


@dataclass(frozen=True, slots=True)
class Locked:
    """What locking came to: closed or suspended, whether there was anything to do, and how."""

    state: State
    changed: bool
    how: str = ""


@dataclass(slots=True)
class Done:
    """What has become of one volume so far; `header` is the one that its key opened, or the key
    that is to replace it: `by_successor`.
    """

    state: State
    how: str = ""
    changed: bool = False
    luks_uuid: str | None = None
    header: "LuksHeader | None" = None
    initialised: bool = False
    by_successor: bool = False


def mapper_name(device: str) -> str:
    """Return the device-mapper name of a device's volume."""
    return f"sc-{device}"


def mapped_path(device: str) -> Path:
    """Return the device node on which a device's volume is opened."""
    return Path("/dev/mapper") / mapper_name(device)


class Work:
    """Carries out the steps for one device, in order; a step that fails raises AgentError."""

    def __init__(
        self,
        tools: Tools,
        device: str,
        state: State,
        volume: "Volume | None",
        key: bytearray,
        successor: bytearray | None,
        lock: Callable[[str], Locked],
        shut: Callable[[str], None],
    ) -> None:
        self._tools = tools
        self._run = tools.run
        self._device = device
        self._volume = volume
        self._key = key
        self._successor = successor
        self._lock_volume = lock
        self._shut = shut
        self._opened_here = False
        self.done = Done(state)

    def carry_out(self, action: Action) -> None:
        """Take one step."""
        if action.kind is Kind.REFUSE:
            raise VolumeError(action.reason)
        if action.kind in {Kind.NOTHING, Kind.WAIT}:
            self.done.how = self.done.how or action.reason
            return
        steps: dict[Kind, Callable[[], bool]] = {
            Kind.CONNECT: self._connect,
            Kind.FORMAT: self._format,
            Kind.ENCRYPT: self._encrypt,
            Kind.VERIFY: self._verify,
            Kind.OPEN: self._open,
            Kind.MAKE_FILESYSTEM: self._make_filesystem,
            Kind.MOUNT: self._mount,
            Kind.LOCK: self._lock,
            Kind.RESUME: self._resume,
        }
        try:
            self.done.changed |= steps[action.kind]()
        except AgentError:
            if self._opened_here:
                self._close_again()
            raise

    def _close_again(self) -> None:
        """Leave nothing half-open; the next exchange begins from a closed volume."""
        with suppress(AgentError):
            self._shut(self._device)
            self.done.state = State.CLOSED

    def _say(self, text: str) -> None:
        self.done.how = f"{self.done.how}, {text}" if self.done.how else text

    @property
    def _target(self) -> "Volume":
        if self._volume is None:
            raise VolumeError("the server did not say where the volume is")
        return self._volume

    @property
    def _mapped(self) -> Path:
        return mapped_path(self._device)

    def _look(self) -> Sight:
        """Look again right before a step: what was seen earlier may have been replaced."""
        slots = self._tools.rotations.slots(self._device)
        sight = look_at(Path(self._target.source), self._run, slots)
        if sight.content is not Content.LUKS or sight.header_problem is not None:
            problem = sight.header_problem or f"it holds {sight.detail}"
            raise VolumeError(f"{self._target.source} is not as it was seen before: {problem}")
        pinned = self._target.luks_uuid or self.done.luks_uuid
        if pinned and sight.luks_uuid != pinned:
            raise VolumeError(f"{self._target.source} was replaced: LUKS UUID {sight.luks_uuid}")
        expected, found = self._target.header, sight.luks_header
        if expected is not None and (found is None or not expected.allows(found)):
            raise VolumeError(f"the LUKS header on {self._target.source} was changed meanwhile")
        return sight

    def _connect(self) -> bool:
        target = self._target
        if target.iscsi is None:
            raise VolumeError(f"{target.source} is on no iSCSI target")
        if self._tools.sessions.connect(self._device, target.iscsi, Path(target.source)):
            self._say(f"connected to {target.iscsi.target} at {target.iscsi.portal}")
        return True

    def _format(self) -> bool:
        source = Path(self._target.source)
        sight = look_at(source, self._run)
        if sight.content is not Content.BLANK:
            raise VolumeError(f"{source} is not blank any more: it holds {sight.detail}")
        fresh = str(self._tools.new_uuid())
        cryptsetup = Cryptsetup(self._run, source)
        try:
            cryptsetup.format(self._key, f"securecloud:{self._device}", fresh, sight.size)
            self.done.luks_uuid = fresh
            cryptsetup.verify(self._key, self._look().header)
        except AgentError:
            blank_again(source)
            raise
        self.done.initialised = True
        self._say("formatted as LUKS2")
        return True

    def _encrypt(self) -> bool:
        """Only begin: it takes hours, and the pass has other devices."""
        target = self._target
        order = Order(self._device, Path(target.source), target.filesystem)
        self._tools.encryptions.start(order, self._key)
        self.done.state = State.ENCRYPTING
        self._say("it is being encrypted in place; it is opened when that has ended")
        return True

    def _verify(self) -> bool:
        sight = self._look()
        cryptsetup = Cryptsetup(self._run, Path(self._target.source))
        self._with_key(lambda key: cryptsetup.verify(key, sight.header))
        self.done.luks_uuid = sight.luks_uuid
        self._tools.marks.put(VERIFIED, self._device)
        self.done.state = State.VERIFIED
        self._was_right(sight)
        skipped = "; no file system was made" if self.done.initialised else ""
        self._say(
            f"key proved with cryptsetup open --test-passphrase ({_NO_DEVICE_MAPPER}{skipped})"
        )
        return True

    def _open(self) -> bool:
        if self._tools.kernel.mapping(mapper_name(self._device)) is not None:
            raise VolumeError(
                f"{self._mapped} was given up, and somebody holds it still; end them, and it opens"
            )
        sight = self._look()
        cryptsetup, name = Cryptsetup(self._run, Path(self._target.source)), self._mapped.name
        read_only = self._target.read_only
        self._with_key(lambda key: cryptsetup.open(key, sight.header, name, read_only))
        self.done.luks_uuid = sight.luks_uuid
        self.done.state = State.OPENED
        self._opened_here = True
        self._was_right(sight)
        self._say(f"opened as {self._mapped}")
        return True

    def _with_key(self, use: Callable[[bytearray], None]) -> None:
        """Use the key, or the one that is to replace it: a server that was restored from a backup
        may not know any more that it did.
        """
        try:
            use(self._key)
        except WrongKeyError:
            if not self._successor:
                raise
            use(self._successor)
            self.done.by_successor = True

    def _was_right(self, sight: Sight) -> None:
        self.done.header = sight.luks_header
        self._tools.encryptions.forget(self._device)
        self._tools.header_copies.keep(self._device, sight.header)

    def _make_filesystem(self) -> bool:
        made = filesystem.make(self._run, self._mapped, self._target.filesystem)
        if made:
            self.done.initialised = True
            self._say(f"{self._target.filesystem} made")
        return made

    def _mount(self) -> bool:
        volume = self._target
        where = volume.mount_point or ""
        options = (*volume.options, "ro") if volume.read_only else volume.options
        filesystem.mount(
            self._run, self._tools.kernel, self._mapped, volume.filesystem, where, options
        )
        self._tools.mounts.mounted(self._device, self._mapped, volume)
        self.done.state = State.MOUNTED
        self._say(f"mounted at {where}")
        return True

    def _resume(self) -> bool:
        sight = self._look()
        cryptsetup, name = Cryptsetup(self._run, Path(self._target.source)), self._mapped.name
        self._with_key(lambda key: cryptsetup.resume(key, sight.header, name))
        self.done.luks_uuid = sight.luks_uuid
        self.done.header = sight.luks_header
        self._tools.mounts.resumed(self._device)
        mapping = self._tools.kernel.mapping(mapper_name(self._device))
        points = self._tools.kernel.mount_points(mapping.numbers) if mapping is not None else []
        self.done.state = State.MOUNTED if points else State.OPENED
        if self._target.mount_point in points:
            self._tools.mounts.mounted(self._device, self._mapped, self._target)
        self._say("resumed; what waited for it goes on")
        return True

    def _lock(self) -> bool:
        locked = self._lock_volume(self._device)
        self.done.state = locked.state
        self._say(locked.how or "locked")
        return locked.changed
