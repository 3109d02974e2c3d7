"""Replaces the key of a volume, so that at each moment one that the server releases opens it.

The successor is added beside the present key and proved. Only when the server is known to have
taken it into use is the old key slot wiped; when it has given the successor up, the new one is.
What is under way is on disk before the header is changed, since a header with two key slots is
refused otherwise.
"""

from collections.abc import Callable
from pathlib import Path

from securecloud_agent.decide.model import Content
from securecloud_agent.run import Runner
from securecloud_agent.state.memory import Memory, Rotation
from securecloud_agent.volumes.cryptsetup import Cryptsetup
from securecloud_agent.volumes.header_copies import HeaderCopies
from securecloud_agent.volumes.source import Sight, look_at
from securecloud_agent.volumes.trouble import VolumeError


class Rotations:
    """The replacements that are under way on this machine."""

    def __init__(self, run: Runner, memory: Memory, copies: HeaderCopies) -> None:
        self._run = run
        self._memory = memory
        self._copies = copies

    def slots(self, device: str) -> tuple[str, ...]:
        """Return the key slots that the header of `device` may have beside the usual one."""
        known = self._memory.rotation(device)
        return () if known is None else (known.old_slot, known.new_slot)

    def add(self, device: str, key: bytearray, successor: bytearray, version: int) -> None:
        """Let the volume open by the `successor` as well, which gets this `version`, and prove it.

        Interrupted anywhere, it may be called again. Raises AgentError; `key` opens it then.
        """
        volume = self._volume(device)
        sight = volume.look()
        known = self._memory.rotation(device)
        if known is not None and known.version != version:
            # Of a replacement that the server gave up.
            self._wipe(device, volume, known.new_slot)
            known, sight = None, volume.look()
        if known is None:
            known = _begun(sight, version)
            self._memory.remember_rotation(device, known)
        cryptsetup = Cryptsetup(self._run, volume.source)
        if known.new_slot not in sight.slots:
            cryptsetup.add_key(key, successor, known.new_slot)
        after = volume.look()
        if after.digest != sight.digest:
            raise VolumeError(f"the LUKS header on {volume.source} was replaced meanwhile")
        cryptsetup.verify(successor, after.header, known.new_slot)

    def settle(self, device: str, version: int, successor: int | None) -> bool:
        """Wipe the key slot that is not needed any more, if it is known which; say whether it was.

        `version` is the one that the server releases, `successor` the one that is to follow it.
        """
        known = self._memory.rotation(device)
        if known is None or successor == known.version:
            return False
        if version > known.version:
            raise VolumeError(
                f"the server releases version {version} of its key, of which this machine knows"
                f" nothing; it was being replaced by version {known.version}"
            )
        over = known.old_slot if version == known.version else known.new_slot
        self._wipe(device, self._volume(device), over)
        return True

    def _wipe(self, device: str, volume: "_Volume", slot: str) -> None:
        sight = volume.look()
        if slot in sight.slots:
            if len(sight.slots) == 1:
                raise VolumeError(
                    f"the LUKS header on {volume.source} has only the key slot that is to go; it"
                    " was restored from an old copy"
                )
            Cryptsetup(self._run, volume.source).remove_slot(slot)
            sight = volume.look()
        # The old copy would open with the old key.
        self._copies.keep(device, sight.header)
        self._memory.remember_rotation(device, None)

    def _volume(self, device: str) -> "_Volume":
        known = self._memory.device(device)
        if known is None or known.luks_uuid is None:
            raise VolumeError("this machine does not remember the volume that it belongs to")
        source = Path(known.source)

        def look() -> Sight:
            return look_at(source, self._run, self.slots(device))

        return _Volume(source, known.luks_uuid, look)


class _Volume:
    """The volume of a device, which is looked at again before each step."""

    def __init__(self, source: Path, luks_uuid: str, look: Callable[[], Sight]) -> None:
        self.source = source
        self._luks_uuid = luks_uuid
        self._look = look

    def look(self) -> Sight:
        """Return what is there; raise VolumeError unless it is the volume with a sound header."""
        sight = self._look()
        problem = sight.header_problem
        if sight.content is not Content.LUKS:
            problem = f"it holds {sight.detail}"
        elif problem is None and sight.luks_uuid != self._luks_uuid:
            problem = f"it is of volume {sight.luks_uuid}, not {self._luks_uuid}"
        if problem is not None:
            raise VolumeError(f"the LUKS header on {self.source} is refused: {problem}")
        return sight


def _begun(sight: Sight, version: int) -> Rotation:
    (old,) = sight.slots
    return Rotation(version, old, "1" if old == "0" else "0")
