"""What the rest of the machine is told of mounts: nothing, or systemd's units."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from securecloud_agent.errors import AgentError, warn, warned
from securecloud_agent.run import Finished, Runner
from securecloud_agent.state.files import write_file
from securecloud_agent.volumes.trouble import VolumeError
from securecloud_agent.volumes.units import (
    MARK,
    device_text,
    device_unit,
    mark,
    mount_text,
    mount_unit,
    opened_unit,
    remote_text,
    suspended_unit,
)

if TYPE_CHECKING:
    from securecloud_protocol.messages import Volume

_SHORT = 60
_STOP_SECONDS = 180
_UNIT_MODE = 0o644
_FOLDER_MODE = 0o755
_NODE = "securecloud.conf"
_REMOTE = "iscsi.conf"
_LOGS_OUT = "open-iscsi.service"
_WANTED_BY = "multi-user.target"
_AT_REST = frozenset({"inactive", "failed"})
_STARTED_AT_BOOT = frozenset({"enabled", "enabled-runtime"})


class Mounts(Protocol):
    """Told of every mount after it is made and before it goes."""

    def mounted(self, device: str, mapped: Path, volume: "Volume") -> None:
        """`volume`, opened as `mapped`, was mounted."""

    def release(self, device: str, where: str) -> None:
        """Stop what uses the mount at `where`, which is about to go."""

    def suspended(self, device: str) -> None:
        """The volume is suspended: what waits for it must not hold up a shutdown."""

    def resumed(self, device: str) -> None:
        """The volume is not suspended any more."""

    def forgotten(self, device: str, mapped: Path) -> None:
        """The volume will not be mounted again."""

    def settle(self) -> None:
        """Start what waited for the volumes that were mounted."""


class Direct:
    """Nobody is told; `mounts = "direct"` in the settings."""

    def mounted(self, device: str, mapped: Path, volume: "Volume") -> None:
        """Do nothing."""

    def release(self, device: str, where: str) -> None:
        """Do nothing."""

    def suspended(self, device: str) -> None:
        """Do nothing."""

    def resumed(self, device: str) -> None:
        """Do nothing."""

    def forgotten(self, device: str, mapped: Path) -> None:
        """Do nothing."""

    def settle(self) -> None:
        """Do nothing."""


class Systemd:
    """Units for the mounts, in `directory`; what requires them is stopped and started with them."""

    def __init__(self, run: Runner, directory: Path = Path("/etc/systemd/system")) -> None:
        self._run = run
        self._directory = directory
        self._mounted: list[str] = []

    def mounted(self, device: str, mapped: Path, volume: "Volume") -> None:
        """Write the unit if it is not there yet: the next boot needs it, and this one's users."""
        where = volume.mount_point or ""
        unit = mount_unit(where)
        with warned(f"systemd was not told of the mount at {where}"):
            if self._write(unit, mount_text(device, str(mapped), volume)):
                self._remove_units(device, but=unit)
                self._link(f"{_WANTED_BY}.wants/{unit}", f"../{unit}")
                self._require_opened(device, device_unit(str(mapped)))
                self._keep_session(device, remote=volume.iscsi is not None)
                self._systemctl("daemon-reload")
            if volume.iscsi is not None:
                # It ends the sessions at shutdown, and rests as long as it knew of no target.
                self._systemctl("start", "--no-block", _LOGS_OUT)
        self._mounted.append(unit)

    def _write(self, unit: str, text: str) -> bool:
        """Return whether something was written; an administrator's own unit is left alone."""
        path = self._directory / unit
        try:
            found = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            found = None
        except (OSError, UnicodeDecodeError):
            warn(f"{path} cannot be read, so it was left as it is")
            return False
        if found == text or (found is not None and not found.startswith(MARK)):
            return False
        write_file(path, text.encode(), _UNIT_MODE)
        return True

    def _require_opened(self, device: str, node: str) -> None:
        """Let the job of the device node end with the agent's decision, not by a time-out.

        What waits for the node would else fail after systemd's 90 seconds, though the agent, whose
        own start has an end, may still open it.
        """
        self._link(f"{node}.requires/{opened_unit(device)}", "../securecloud-volume@.service")
        if self._make_folder(f"{node}.d"):
            self._write(f"{node}.d/{_NODE}", device_text(device))

    def _keep_session(self, device: str, *, remote: bool) -> None:
        """Have a volume on iSCSI closed before its session goes."""
        folder = f"{opened_unit(device)}.d"
        if not remote:
            _unlink(self._directory / folder / _REMOTE)
        elif self._make_folder(folder):
            self._write(f"{folder}/{_REMOTE}", remote_text(device))

    def _remove_units(self, device: str, but: str) -> None:
        """Take away the units of where the volume was mounted before."""
        for path in self._units_of(device, but):
            _unlink(path)

    def _units_of(self, device: str, but: str = "") -> list[Path]:
        units = [
            path
            for path in self._directory.glob("*.mount")
            if path.name != but and _is_of(path, device)
        ]
        return [*(self._directory / f"{_WANTED_BY}.wants" / each.name for each in units), *units]

    def _link(self, name: str, target: str) -> None:
        path = self._directory / name
        try:
            if self._make_folder(path.parent.name) and not path.is_symlink():
                path.symlink_to(target)
        except OSError as error:
            warn(f"{path} cannot be made: {error.strerror}")

    def _make_folder(self, name: str) -> bool:
        path = self._directory / name
        try:
            path.mkdir(exist_ok=True)
            path.chmod(_FOLDER_MODE)
        except OSError as error:
            warn(f"{path} cannot be made: {error.strerror}")
            return False
        return True

    def release(self, device: str, where: str) -> None:
        """Stop the mount, which stops every unit that requires it first."""
        done = self._systemctl("stop", mount_unit(where), opened_unit(device), wait=_STOP_SECONDS)
        if done.status != 0:
            warn(f"systemd could not stop {mount_unit(where)}: {done.complaint}")

    def suspended(self, device: str) -> None:
        """Start the unit that gives the volume up when the machine shuts down."""
        self._without_waiting("start", suspended_unit(device))

    def resumed(self, device: str) -> None:
        """Stop that unit, which finds nothing to give up: it asks when this agent has ended."""
        self._without_waiting("stop", suspended_unit(device))

    def forgotten(self, device: str, mapped: Path) -> None:
        """Take away every file that was written for it, so that the next boot does not wait."""
        node = device_unit(str(mapped))
        files = [
            *self._units_of(device),
            self._directory / f"{node}.requires" / opened_unit(device),
            self._directory / f"{node}.d" / _NODE,
            self._directory / f"{opened_unit(device)}.d" / _REMOTE,
        ]
        with warned(f"the units of {device} are still there"):
            # All of them: no `any` that ends with the first.
            if not sum(_unlink(path) for path in files):
                return
            for folder in (f"{node}.requires", f"{node}.d", f"{opened_unit(device)}.d"):
                # An administrator may have put something beside.
                with suppress(OSError):
                    (self._directory / folder).rmdir()
            self._systemctl("daemon-reload")

    def _without_waiting(self, verb: str, unit: str) -> None:
        with warned(f"systemd could not {verb} {unit}"):
            done = self._systemctl(verb, "--no-block", unit)
            if done.status != 0:
                warn(f"systemd could not {verb} {unit}: {done.complaint}")

    def settle(self) -> None:
        """Start the enabled units that require what was mounted and do not run.

        At boot they wait already; later they have failed, or were stopped when the volume went.
        """
        mounted, self._mounted = self._mounted, []
        try:
            resting = self._resting(self._users(mounted)) if mounted else []
            if resting:
                self._systemctl("start", "--no-block", *resting)
        except AgentError as error:
            warn(f"the units that use the volumes could not be started: {error}")

    def _users(self, mounts: list[str]) -> list[str]:
        shown = self._show("RequiredBy", mounts)
        names = {name for line in shown for name in line.get("RequiredBy", "").split()}
        return sorted(name for name in names if not name.endswith((".target", ".device")))

    def _resting(self, units: list[str]) -> list[str]:
        if not units:
            return []
        return [
            each["Id"]
            for each in self._show("Id,ActiveState,UnitFileState", units)
            if each.get("ActiveState") in _AT_REST and each.get("UnitFileState") in _STARTED_AT_BOOT
        ]

    def _show(self, properties: str, units: list[str]) -> list[dict[str, str]]:
        done = self._systemctl("show", f"--property={properties}", *units)
        if done.status != 0:
            raise VolumeError(f"systemctl show: {done.complaint}")
        blocks = done.output.decode("utf-8", "replace").strip().split("\n\n")
        return [
            dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            for block in blocks
        ]

    def _systemctl(self, verb: str, *words: str, wait: float = _SHORT) -> Finished:
        options = [word for word in words if word.startswith("-")]
        units = [word for word in words if not word.startswith("-")]
        tail = ["--", *units] if units else []
        return self._run(["systemctl", verb, *options, *tail], timeout=wait)


def _unlink(path: Path) -> bool:
    """Return whether there was something to remove."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        warn(f"{path} cannot be removed: {error.strerror}")
        return False
    return True


def _is_of(unit: Path, device: str) -> bool:
    try:
        return unit.read_text(encoding="utf-8").startswith(mark(device))
    except (OSError, UnicodeDecodeError):
        return False
