"""File systems: make, mount, unmount."""

from pathlib import Path

from securecloud_agent.errors import warn, warned
from securecloud_agent.run import Runner
from securecloud_agent.volumes.kernel import Kernel
from securecloud_agent.volumes.source import signature_on
from securecloud_agent.volumes.trouble import VolumeError

_MAKE_SECONDS = 600
_MOUNT_SECONDS = 60
_UNMOUNT_SECONDS = 120
_SYNC_SECONDS = 300
_MOUNT_POINT_MODE = 0o755

_MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-E", "lazy_itable_init=1"),
    "xfs": ("mkfs.xfs", "-q"),
}


def make(run: Runner, device: Path, filesystem: str) -> bool:
    """Make a file system on `device` unless it has that one; any other content is refused."""
    present = signature_on(device, run)
    if present == filesystem:
        return False
    if present is not None:
        raise VolumeError(f"the opened volume holds {present} instead of {filesystem}")
    if filesystem not in _MAKERS:
        raise VolumeError(f"{filesystem} is not a file system that this agent makes: ext4 or xfs")
    done = run([*_MAKERS[filesystem], str(device)], timeout=_MAKE_SECONDS)
    if done.status != 0:
        raise VolumeError(f"{_MAKERS[filesystem][0]} failed: {done.complaint}")
    return True


def mount(
    run: Runner, kernel: Kernel, device: Path, filesystem: str, where: str, options: tuple[str, ...]
) -> None:
    """Mount `device` at `where`, which is made when it is missing."""
    if kernel.is_mount_point(where):
        raise VolumeError(f"something else is mounted at {where}; unmount it first")
    _make_mount_point(Path(where))
    argv = ["mount", "-t", filesystem, "-o", ",".join(options) or "defaults", "--"]
    done = run([*argv, str(device), where], timeout=_MOUNT_SECONDS)
    if done.status != 0:
        raise VolumeError(f"it could not be mounted at {where}: {done.complaint}")


def _make_mount_point(where: Path) -> None:
    """Make `where` and what is missing above it, open to those whose data is below.

    The service's own umask lets nobody in, so modes are set in so many words.
    """
    missing = [path for path in (where, *where.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir()
            path.chmod(_MOUNT_POINT_MODE)
    except OSError as error:
        raise VolumeError(f"{where} cannot be made a mount point: {error.strerror}") from None
    if not where.is_dir():
        raise VolumeError(f"{where} cannot be made a mount point: it is not a directory")


def sync(run: Runner, where: str) -> None:
    """Write out what is cached of the file system at `where`, and of no other.

    Another one may be suspended, and a sync(2) of all would wait for that one.
    """
    done = run(["sync", "--file-system", "--", where], timeout=_SYNC_SECONDS)
    if done.status != 0:
        warn(f"{where} could not be synced: {done.complaint}")


def unmount(run: Runner, kernel: Kernel, where: str) -> None:
    """Write out what is cached and unmount; says who is in the way."""
    with warned(f"{where} could not be synced"):
        sync(run, where)
    done = run(["umount", "--", where], timeout=_UNMOUNT_SECONDS)
    if done.status != 0:
        raise VolumeError(
            f"{where} could not be unmounted: {done.complaint}; in use by {kernel.users_of(where)}"
        )
