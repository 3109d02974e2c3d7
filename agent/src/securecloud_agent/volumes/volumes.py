"""The volumes of this machine: what they are now, and how they are locked."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from securecloud_agent.decide.model import Content, Observed, State
from securecloud_agent.errors import AgentError
from securecloud_agent.volumes import filesystem
from securecloud_agent.volumes.cryptsetup import Cryptsetup
from securecloud_agent.volumes.source import Sight, look_at
from securecloud_agent.volumes.work import VERIFIED, Tools, Work, mapper_name

if TYPE_CHECKING:
    from securecloud_protocol.messages import Volume

HELD = "held"

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
        mapping = self._kernel.mapping(mapper_name(device))
        if mapping is not None:
            mounted = self._kernel.mount_points(mapping.numbers)
            return State.MOUNTED if mounted else State.OPENED
        if self._tools.encryptions.running(device):
            return State.ENCRYPTING
        return State.VERIFIED if self._marks.has(VERIFIED, device) else State.CLOSED

    def observe(
        self, device: str, source: str | None = None, remembered_uuid: str | None = None
    ) -> Observed:
        """Return what decisions are made on; the source is looked at only when it is closed."""
        state = self.state(device)
        sight = Sight(Content.UNKNOWN, "unknown content")
        if state is State.CLOSED and source is not None:
            sight = look_at(Path(source), self._tools.run)
        mapping = self._kernel.mapping(mapper_name(device))
        asked = self._tools.encryptions.asked(device)
        return Observed(
            state=state,
            content=sight.content,
            detail=sight.detail,
            luks_uuid=mapping.luks_uuid if mapping is not None else sight.luks_uuid,
            header_problem=sight.header_problem,
            device_mapper=self._device_mapper(),
            remembered_uuid=remembered_uuid,
            held=self._marks.has(HELD, device),
            disk_gone=mapping is not None and mapping.disk_gone,
            header_copy=_text(self._tools.header_copies.of(device)),
            encryption=asked.luks_uuid if asked is not None else None,
            encryption_begun=asked is not None and asked.phase == "begun",
            encryption_heading=asked is not None and asked.phase == "heading",
        )

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

    def lock(self, device: str) -> bool:
        """Stop what uses it, sync, unmount and close; return whether there was anything to do."""
        mapper = mapper_name(device)
        mapping = self._kernel.mapping(mapper)
        if mapping is None:
            stopped = self._tools.encryptions.stop(device)
            was_verified = self._marks.has(VERIFIED, device)
            self._marks.clear(VERIFIED, [device])
            return was_verified or stopped
        for where in reversed(self._kernel.mount_points(mapping.numbers)):
            self._tools.mounts.release(device, where)
        for where in reversed(self._kernel.mount_points(mapping.numbers)):
            filesystem.unmount(self._tools.run, self._kernel, where)
        if self._kernel.mapping(mapper) is not None:
            Cryptsetup(self._tools.run, Path(mapper)).close(mapper)
        return True

    def refuse_encryption(self, device: str, reason: str, *, for_good: bool) -> None:
        """Tell whoever asked to encrypt `device`, if anybody did, why it is not to be."""
        self._tools.encryptions.refuse(device, reason, for_good=for_good)

    def work(self, device: str, volume: "Volume | None", key: bytearray) -> Work:
        """Return the workbench for one device's steps. `key` stays the caller's, to be wiped."""
        return Work(self._tools, device, self.state(device), volume, key, self.lock)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
