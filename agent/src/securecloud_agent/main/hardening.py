"""Keeps key material out of swap, core dumps and other processes' sight."""

import ctypes
import os
import resource
from pathlib import Path

from securecloud_agent.errors import warn

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_PR_SET_DUMPABLE = 4
_CAP_IPC_LOCK = 14


def protect_process() -> None:
    """Forbid core dumps and tracing, and lock memory; before any secret is read.

    On-fault locking counts only the pages in use, so a thread's stack costs what it touches.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        warn(f"core dumps could not be forbidden: {os.strerror(ctypes.get_errno())}")
    if not _may_lock() or library.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        warn(
            "memory could not be locked; a key might reach swap. Run as root, set"
            " LimitMEMLOCK=infinity, or encrypt swap"
        )


def _may_lock() -> bool:
    """Under a limit, locking would succeed now and then fail the start of a later thread."""
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY:
        resource.setrlimit(
            resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        return True
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = status.partition("CapEff:")[2].split(maxsplit=1)
    return bool(effective) and bool(int(effective[0], 16) >> _CAP_IPC_LOCK & 1)


def wipe(buffer: bytearray) -> None:
    """Overwrite a secret in place."""
    buffer[:] = bytes(len(buffer))
