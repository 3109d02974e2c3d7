"""Files that are there as a whole or not at all."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from securecloud_server.domain.errors import Unavailable

_DIRECTORY_MODE = 0o700
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system says that has no hard links."""


def make_parents(path: Path) -> None:
    """Create the directories above `path`, private to this account."""
    try:
        path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{path.parent} cannot be created: {error.strerror}") from None


@contextmanager
def replaced(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Give a file to write to that takes the place of `path` when all went well; see `beside`."""
    with beside(path, mode) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def beside(path: Path, mode: int, *, replace: bool = True) -> Iterator[Path]:
    """Give the path of an empty file that takes the place of `path` when all went well.

    The new file keeps owner and group of the one it replaces; it is on disk before it is seen.
    Unavailable, before anything is written, where this account may not create it, and where there
    is a file already that is not to be replaced.
    """
    _check_free(path, replace)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = None
    # Opening is inside, too: a signal may end this as soon as the file is there.
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        os.fchmod(descriptor, mode)
        _keep_owner(path, descriptor)
        yield temporary
        os.fsync(descriptor)
        _put(temporary, path, replace)
        _sync_directory(path.parent)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from None
    finally:
        if descriptor is not None:
            os.close(descriptor)
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end this as Ctrl-C does, with everything put away."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _put(temporary: Path, path: Path, replace: bool) -> None:
    if not replace:
        # Of two that write the same file at the same time one gets it.
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _check_free(path, replace)
        else:
            return
    temporary.replace(path)


def _check_free(path: Path, replace: bool) -> None:
    if path.is_dir():
        raise Unavailable(f"{path} is a directory; expected the name of a file")
    if not replace and os.path.lexists(path):
        raise Unavailable(f"{path} is there already; give --force")


def _keep_owner(path: Path, descriptor: int) -> None:
    with suppress(FileNotFoundError, PermissionError):
        present = path.stat()
        os.fchown(descriptor, present.st_uid, present.st_gid)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
