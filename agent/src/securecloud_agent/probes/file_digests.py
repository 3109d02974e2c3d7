"""Fact `file_digests`: SHA-256 of the files that a policy names."""

import hashlib
import os
import stat

from securecloud_agent.probes.context import Context, Glance

_LARGEST = 64 * 1024 * 1024
_CHUNK = 1024 * 1024


def collect(context: Context, args: tuple[str, ...]) -> dict[str, str]:
    """Return `{path: "sha256:<hex>"}`.

    A path is left out, so that its rule fails, when it is no regular file, a symbolic link,
    longer than 64 MiB, or cannot be read.
    """
    digests = {path: _digest(context, path) for path in args if _is_plain(path)}
    return {path: digest for path, digest in digests.items() if digest is not None}


def glance(context: Context, args: tuple[str, ...]) -> Glance:
    """Return what changes with the fact, see watch.py."""
    return context.stamps(*filter(_is_plain, args))


def _is_plain(path: str) -> bool:
    return path.startswith("/") and not {"", ".", ".."} & set(path[1:].split("/"))


def _digest(context: Context, path: str) -> str | None:
    # Non-blocking: opening a named pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(context.path(path), flags)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return _read(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> str | None:
    hashed, total = hashlib.sha256(), 0
    while chunk := os.read(descriptor, _CHUNK):
        total += len(chunk)
        if total > _LARGEST:
            return None
        hashed.update(chunk)
    return f"sha256:{hashed.hexdigest()}"
