"""The end of a suspended volume whose key does not come back: dmsetup(8) and umount(8)."""

from securecloud_agent.errors import warn, warned
from securecloud_agent.run import Runner
from securecloud_agent.volumes.trouble import VolumeError

_SECONDS = 60


def replace_by_errors(run: Runner, mapper: str) -> None:
    """Let every access to the mapping fail from now on, those that wait for it first.

    The disk below is let go, so that the volume can be opened again from it.
    """
    done = run(["dmsetup", "wipe_table", "--noflush", "--", mapper], timeout=_SECONDS)
    if done.status != 0:
        raise VolumeError(f"{mapper} could not be given up: {done.complaint}")


def detach(run: Runner, where: str) -> None:
    """Unmount, also from under whoever still holds files there: nothing can be written to them."""
    if run(["umount", "--", where], timeout=_SECONDS).status == 0:
        return
    with warned(f"{where} was not detached"):
        done = run(["umount", "--lazy", "--", where], timeout=_SECONDS)
        if done.status != 0:
            warn(f"{where} could not be detached: {done.complaint}")


def remove(run: Runner, mapper: str) -> None:
    """Remove the mapping now, or when the last who holds it ends."""
    done = run(["dmsetup", "remove", "--deferred", "--", mapper], timeout=_SECONDS)
    if done.status != 0:
        raise VolumeError(f"{mapper} could not be removed: {done.complaint}")
