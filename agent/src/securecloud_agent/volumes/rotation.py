"""Replaces the key of a volume, so that at each moment one that the server releases opens it.

The successor is added beside the present key and proved. Only when the server is known to have
taken it into use is the old key slot wiped; when it has given the successor up, the new one is.
What is under way is on disk before the header is changed, since a header with two key slots is
refused otherwise. No slot is wiped unless the other one is as it was when its key opened it.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from securecloud_agent.decide.model import Content
from securecloud_agent.run import Runner
from securecloud_agent.state.memory import Memory, Rotation
from securecloud_agent.volumes.cryptsetup import Cryptsetup
from securecloud_agent.volumes.header import identify, proof
from securecloud_agent.volumes.header_copies import HeaderCopies
from securecloud_agent.volumes.source import Sight, look_at
from securecloud_agent.volumes.trouble import VolumeError

if TYPE_CHECKING:
    from securecloud_protocol.messages import LuksHeader


class Rotations:
    """The replacements that are under way on this machine."""

    def __init__(self, run: Runner, memory: Memory, copies: HeaderCopies) -> None:
        self._run = run
        self._memory = memory
        self._copies = copies

    def slots(self, device: str) -> tuple[str, ...]:
        """Return the key slots that the header of `device` may have beside the usual one."""
        known = self._known(device)
        return () if known is None else (known.old_slot, known.new_slot)

    def _known(self, device: str) -> Rotation | None:
        """Return what is under way, unless it is of another volume that the device had before."""
        known = self._memory.rotation(device)
        volume = self._memory.device(device) if known is not None else None
        pinned = volume.luks_uuid if volume is not None else None
        return None if known is None or pinned not in {None, known.luks_uuid} else known

    def add(self, device: str, key: bytearray, successor: bytearray, version: int) -> "LuksHeader":
        """Let the volume open by the `successor` as well, which gets this `version`, and prove it.

        Return the header as it is then. Interrupted anywhere, it may be called again. Raises
        AgentError; `key` opens it then.
        """
        volume = self._volume(device)
        known, sight = self._known(device), volume.look()
        if known is not None and known.version != version:
            # Of a replacement that the server gave up.
            self._wipe(device, volume, known.new_slot, known.old_slot, known.old_proof)
            known, sight = None, volume.look()
        if known is None:
            (only,) = sight.slots
            if not volume.opens(key, sight, only) and volume.opens(successor, sight, only):
                # The server was restored from a backup; it is to be told once more.
                return identify(sight.header, self.slots(device))
            known = self._begin(device, volume, sight, key, version)
        if known.new_slot in sight.slots and not volume.opens(successor, sight, known.new_slot):
            volume.wipe(known.new_slot, known.old_slot, known.old_proof)
            sight = volume.look()
        if known.new_slot not in sight.slots:
            volume.add(key, successor, known.new_slot)
        after = volume.look()
        if after.digest != sight.digest:
            raise VolumeError(f"the LUKS header on {volume.source} was replaced meanwhile")
        volume.cryptsetup.verify(successor, after.header, known.new_slot)
        # By the time that a copy is needed, the server may release this one alone.
        self._copies.keep(device, after.header)
        proved = replace(known, new_proof=proof(after.header, known.new_slot))
        if proved != known:
            self._memory.remember_rotation(device, proved)
        return identify(after.header, self.slots(device))

    def _begin(
        self, device: str, volume: "_Volume", sight: Sight, key: bytearray, version: int
    ) -> Rotation:
        (old,) = sight.slots
        volume.cryptsetup.verify(key, sight.header, old)
        new = "1" if old == "0" else "0"
        begun = Rotation(version, volume.luks_uuid, old, new, proof(sight.header, old))
        self._memory.remember_rotation(device, begun)
        return begun

    def settle(self, device: str, version: int, successor: int | None) -> "LuksHeader | None":
        """Wipe the key slot that is not needed any more, if it is known which.

        Return the header as it is then, or None where there was nothing to do.
        `version` is the one that the server releases, `successor` the one that is to follow it.
        """
        known = self._known(device)
        if known is None or successor == known.version:
            return None
        if version > known.version:
            raise VolumeError(
                f"the server releases version {version} of its key, of which this machine knows"
                f" nothing; it was being replaced by version {known.version}. If the volume has one"
                " key slot, remove what is remembered of that (rotations/ in the state directory)"
            )
        volume = self._volume(device)
        if version == known.version:
            return self._wipe(device, volume, known.old_slot, known.new_slot, known.new_proof)
        return self._wipe(device, volume, known.new_slot, known.old_slot, known.old_proof)

    def _wipe(
        self, device: str, volume: "_Volume", slot: str, other: str, proved: str
    ) -> "LuksHeader":
        volume.wipe(slot, other, proved)
        header = volume.look().header
        self._copies.put(device, header)
        self._memory.remember_rotation(device, None)
        return identify(header, self.slots(device))

    def _volume(self, device: str) -> "_Volume":
        known = self._memory.device(device)
        if known is None or known.luks_uuid is None:
            raise VolumeError("this machine does not remember the volume that it belongs to")
        slots = partial(self.slots, device)
        return _Volume(self._run, Path(known.source), known.luks_uuid, slots)


class _Volume:
    """The volume of a device, which is looked at again before each step."""

    def __init__(
        self, run: Runner, source: Path, luks_uuid: str, slots: Callable[[], tuple[str, ...]]
    ) -> None:
        self.source = source
        self.luks_uuid = luks_uuid
        self.cryptsetup = Cryptsetup(run, source)
        self._run = run
        self._slots = slots

    def look(self) -> Sight:
        """Return what is there; raise VolumeError unless it is the volume with a sound header."""
        sight = self._look()
        if sight.torn:
            self.cryptsetup.repair_header()
            self._flush()
            sight = self._look()
        if sight.torn:
            raise VolumeError(f"the LUKS header on {self.source} could not be repaired")
        return sight

    def _look(self) -> Sight:
        sight = look_at(self.source, self._run, self._slots())
        problem = sight.header_problem
        if sight.content is not Content.LUKS:
            problem = f"it holds {sight.detail}"
        elif problem is None and sight.luks_uuid != self.luks_uuid:
            problem = f"it is of volume {sight.luks_uuid}, not {self.luks_uuid}"
        if problem is not None:
            raise VolumeError(f"the LUKS header on {self.source} is refused: {problem}")
        return sight

    def opens(self, key: bytearray, sight: Sight, slot: str) -> bool:
        """Say whether `key` opens the volume by this slot."""
        try:
            self.cryptsetup.verify(key, sight.header, slot)
        except VolumeError:
            return False
        return True

    def add(self, key: bytearray, another: bytearray, slot: str) -> None:
        """Add a key in `slot`."""
        self.cryptsetup.add_key(key, another, slot)
        self._flush()

    def wipe(self, slot: str, other: str, proved: str) -> None:
        """Wipe `slot`, if it is there, beside the `other` one, which is as it was `proved`."""
        sight = self.look()
        if other not in sight.slots or proof(sight.header, other) != proved:
            raise VolumeError(
                f"key slot {other} on {self.source} is not as it was when it was proved; slot"
                f" {slot} stays, too. Was the header restored from a copy?"
            )
        if slot in sight.slots:
            self.cryptsetup.remove_slot(slot)
            self._flush()

    def _flush(self) -> None:
        """What is under way must not be forgotten before the header is on disk."""
        try:
            descriptor = os.open(self.source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            problem = f"the LUKS header may not be on {self.source}: {error.strerror}"
            raise VolumeError(problem) from None
