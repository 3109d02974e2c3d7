"""The volumes of this machine: what they are now, and how they are locked."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from securecloud_agent.decide.model import Content, Observed, State
from securecloud_agent.decide.plan import KEYLESS
from securecloud_agent.errors import AgentError, warned
from securecloud_agent.volumes import dead, filesystem
from securecloud_agent.volumes.cryptsetup import Cryptsetup
from securecloud_agent.volumes.kernel import Mapping
from securecloud_agent.volumes.source import Sight, header_copy, header_on, look_at
from securecloud_agent.volumes.trouble import VolumeError
from securecloud_agent.volumes.work import VERIFIED, Locked, Tools, Work, mapped_path, mapper_name

if TYPE_CHECKING:
    from securecloud_protocol.messages import IscsiTarget, LuksHeader, Volume

HELD = "held"
GIVEN_UP = "given_up"

_MODPROBE_SECONDS = 20


class Volumes:
    """The volumes of this machine."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._kernel = tools.kernel
        self._marks = tools.marks
        self._asked_for_module = False

    def state(self, device: str) -> State:
        """Return what the volume is to the machine now."""
        mapping = self._mapping(device)
        if mapping is not None and mapping.suspended:
            return State.SUSPENDED
        if mapping is not None:
            mounted = self._kernel.mount_points(mapping.numbers)
            return State.MOUNTED if mounted else State.OPENED
        if self._tools.encryptions.running(device):
            return State.ENCRYPTING
        return State.VERIFIED if self._marks.has(VERIFIED, device) else State.CLOSED

    def _mapping(self, device: str) -> Mapping | None:
        """Return the open volume; one that was given up is none, though somebody still holds it."""
        mapping = self._kernel.mapping(mapper_name(device))
        given_up = mapping is not None and mapping.disk_gone and self._marks.has(GIVEN_UP, device)
        return None if given_up else mapping

    def observe(
        self,
        device: str,
        source: str | None = None,
        remembered_uuid: str | None = None,
        iscsi: "IscsiTarget | None" = None,
    ) -> Observed:
        """Return what decisions are made on.

        The source is looked at only when it is closed, and there: with `iscsi` it may have to be
        connected first.
        """
        state = self.state(device)
        sight = Sight(Content.UNKNOWN, "unknown content")
        connected = iscsi is None or self._is_there(state, iscsi, source)
        if state in KEYLESS and source is not None and connected:
            sight = look_at(Path(source), self._tools.run, self._tools.rotations.slots(device))
        mapping = self._mapping(device)
        if mapping is not None and mapping.suspended:
            sight = _of_suspended(sight, mapping)
        asked = self._tools.encryptions.asked(device)
        return Observed(
            state=state,
            content=sight.content,
            detail=sight.detail,
            luks_uuid=mapping.luks_uuid if mapping is not None else sight.luks_uuid,
            header_problem=sight.header_problem,
            luks_header=sight.luks_header,
            device_mapper=self._device_mapper(),
            remembered_uuid=remembered_uuid,
            held=self._marks.has(HELD, device),
            disk_gone=mapping is not None and mapping.disk_gone,
            header_copy=_text(self._tools.header_copies.of(device)),
            encryption=asked.luks_uuid if asked is not None else None,
            encryption_begun=asked is not None and asked.phase == "begun",
            encryption_heading=asked is not None and asked.phase == "heading",
            connected=connected,
        )

    def header(self, device: str, source: str, iscsi: "IscsiTarget | None") -> "LuksHeader | None":
        """Return what the server knows the LUKS header on `source` by, if it can be seen now."""
        if iscsi is not None and not self.is_connected(iscsi):
            return None
        return header_on(Path(source), self._tools.rotations.slots(device))

    def header_copy(self, source: str, iscsi: "IscsiTarget | None") -> bytes | None:
        """Return a copy of the LUKS header on `source`, if it can be seen now."""
        if iscsi is not None and not self.is_connected(iscsi):
            return None
        return header_copy(Path(source))

    def _is_there(self, state: State, iscsi: "IscsiTarget", source: str | None) -> bool:
        there = state is not State.CLOSED or (source is not None and Path(source).exists())
        return there and self.is_connected(iscsi)

    def is_connected(self, iscsi: "IscsiTarget") -> bool:
        """Say whether there is a session with this target, and it is up."""
        return self._tools.sessions.is_up(iscsi)

    def _device_mapper(self) -> bool:
        if self._kernel.has_device_mapper():
            return True
        if not self._asked_for_module:
            self._asked_for_module = True
            with suppress(AgentError):
                self._tools.run(["modprobe", "-q", "dm_crypt"], timeout=_MODPROBE_SECONDS)
        return self._kernel.has_device_mapper()

    def settle(self) -> None:
        """Let start what waited for the volumes that were mounted."""
        self._tools.mounts.settle()

    def lock(self, device: str) -> Locked:
        """Run hooks, stop what uses the volume, sync, unmount and close; suspend what is busy.

        Return what has become of it: closed or suspended, its key gone in either case. Raises
        AgentError when it is neither. A disk on iSCSI is disconnected from what is closed.
        """
        locked = self._lock(device)
        if locked.state is State.CLOSED and self.disconnect(device):
            return replace(locked, changed=True)
        return locked

    def disconnect(self, device: str) -> bool:
        """End the iSCSI session of a closed volume's disk, if it is ours and nobody needs it."""
        with warned(f"the iSCSI session of {device} is still there"):
            return self._tools.sessions.disconnect(device)
        return False

    def _lock(self, device: str) -> Locked:
        mapping = self._mapping(device)
        if mapping is None:
            stopped = self._tools.encryptions.stop(device)
            was_verified = self._marks.has(VERIFIED, device)
            self._marks.clear(VERIFIED, [device])
            return Locked(State.CLOSED, was_verified or stopped)
        points = self._kernel.mount_points(mapping.numbers)
        where = points[0] if points else ""
        if mapping.suspended:
            # Again, in case that an agent ended between the two.
            self._tools.mounts.suspended(device)
            return Locked(State.SUSPENDED, False, self._who_holds(where))
        self._tools.hooks.tell("locking", device, where)
        for point in reversed(points):
            self._tools.mounts.release(device, point)
        try:
            self.shut(device)
        except AgentError as busy:
            locked = self._suspend(device, str(busy))
        else:
            locked = Locked(State.CLOSED, True)
        event = "locked" if locked.state is State.CLOSED else "suspended"
        self._tools.hooks.tell(event, device, where)
        return locked

    def shut(self, device: str) -> None:
        """Sync, unmount and close, and nothing else; raises AgentError when somebody holds it."""
        mapping = self._mapping(device)
        points = self._kernel.mount_points(mapping.numbers) if mapping is not None else []
        for where in reversed(points):
            filesystem.unmount(self._tools.run, self._kernel, where)
        mapper = mapper_name(device)
        if self._kernel.mapping(mapper) is not None:
            Cryptsetup(self._tools.run, Path(mapper)).close(mapper)

    def _suspend(self, device: str, busy: str) -> Locked:
        """Take the key away under whoever holds the volume (decision 9)."""
        mapper = mapper_name(device)
        try:
            Cryptsetup(self._tools.run, Path(mapper)).suspend(mapper)
        except AgentError as error:
            raise VolumeError(f"{busy}; and {error}") from None
        self._kernel.drop_cached_data()
        self._tools.mounts.suspended(device)
        return Locked(State.SUSPENDED, True, f"suspended, for {busy}")

    def _who_holds(self, where: str) -> str:
        holders = f", held by {self._kernel.users_of(where)}" if where else ""
        return f"it is suspended already{holders}"

    def give_up(self, device: str) -> bool:
        """Let all that waits for a suspended volume fail, and close it; False where none waits.

        What was written before it was suspended is on the disk; what waits was never reported as
        written. Raises AgentError when somebody holds it still; it goes when they end.
        """
        mapping = self._kernel.mapping(mapper_name(device))
        if mapping is None or not mapping.suspended:
            return False
        points = self._kernel.mount_points(mapping.numbers)
        # The mark first: without it, the dead volume would pass for an open one.
        self._marks.put(GIVEN_UP, device)
        dead.replace_by_errors(self._tools.run, mapper_name(device))
        for where in reversed(points):
            dead.detach(self._tools.run, where)
        dead.remove(self._tools.run, mapper_name(device))
        self.disconnect(device)
        return True

    def forget(self, device: str) -> None:
        """Take away what was written for the next boot."""
        self._tools.mounts.forgotten(device, mapped_path(device))

    def add_key(
        self, device: str, key: bytearray, successor: bytearray, version: int
    ) -> "LuksHeader":
        """Let an open volume open by the `successor` of its key as well, and prove it.

        Return the header that it has from now on.
        """
        return self._tools.rotations.add(device, key, successor, version)

    def settle_keys(self, device: str, version: int, successor: int | None) -> "LuksHeader | None":
        """Take off the volume the key that the server does not release any more.

        Return the header that it has from now on, or None where there was nothing to do.
        """
        return self._tools.rotations.settle(device, version, successor)

    def tell(self, event: str, device: str, mount_point: str, seconds_left: int) -> None:
        """Tell the hooks."""
        self._tools.hooks.tell(event, device, mount_point, seconds_left)

    def refuse_encryption(self, device: str, reason: str, *, for_good: bool) -> None:
        """Tell whoever asked to encrypt `device`, if anybody did, why it is not to be."""
        self._tools.encryptions.refuse(device, reason, for_good=for_good)

    def work(
        self,
        device: str,
        volume: "Volume | None",
        key: bytearray,
        successor: bytearray | None = None,
    ) -> Work:
        """Return the workbench for one device's steps. The keys stay the caller's, to be wiped."""
        state = self.state(device)
        return Work(self._tools, device, state, volume, key, successor, self.lock, self.shut)


def _of_suspended(sight: Sight, mapping: Mapping) -> Sight:
    """Return what was seen on the source; a header of another volume is none for this one."""
    if sight.header_problem is None and sight.luks_uuid not in {None, mapping.luks_uuid}:
        problem = f"it is of volume {sight.luks_uuid}, and {mapping.luks_uuid} is suspended"
        return replace(sight, header_problem=problem)
    return sight


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
