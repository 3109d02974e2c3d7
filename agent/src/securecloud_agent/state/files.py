"""Files that are whole or not there: atomic writes, exclusive creation, an advisory lock."""

import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from securecloud_agent.errors import AgentError, printable


class StateError(AgentError):
    """The agent's own files are missing, damaged or not safe."""

    code = "state"


def private_directory(path: Path) -> None:
    """Make `path` (mode 0700), or see that it belongs to this user and to nobody else."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise StateError(f"{path} cannot be made: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StateError(f"{path} must be a directory that belongs to uid {os.geteuid()}")
    if found.st_mode & 0o077:
        path.chmod(0o700)


def write_new_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Create `path` whole and on disk; raise FileExistsError rather than touch what is there."""
    _publish(path, content, mode, os.link)


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace `path` so that a crash leaves the old content or the new, never a mixture."""
    _publish(path, content, mode, os.replace)


def _publish(path: Path, content: bytes, mode: int, put: Callable[[Path, Path], None]) -> None:
    draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        put(draft, path)
        _sync_directory(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            draft.unlink()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    """Replace `path` with `value` as JSON."""
    write_file(path, (json.dumps(value, indent=1) + "\n").encode(), mode)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in `path`, or None when there is no such file."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StateError(f"{path} is damaged: it holds no JSON object; restore it or remove it")
    return found


def remove(path: Path) -> None:
    """Remove the file `path` if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"{path} cannot be removed: {error.strerror}") from None


_POLL = 0.1


@contextmanager
def only_instance(
    path: Path,
    purpose: str,
    wait: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock file `path`; wait up to `wait` seconds for another instance to let go."""
    give_up = clock() + wait
    with path.open("a+", encoding="utf-8") as file:
        while not _try_lock(file.fileno()):
            if clock() >= give_up:
                raise StateError(_who_holds(path), "busy")
            pause(_POLL)
        file.truncate(0)
        file.write(f"pid {os.getpid()}, {purpose}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _who_holds(path: Path) -> str:
    holder = printable(path.read_text(encoding="utf-8", errors="replace"), 80) or "unknown"
    return f"another securecloud-agent ({holder}) holds {path}; wait for it, or stop it first"
