"""Keeps key material out of swap, core dumps and other processes' sight."""

import ctypes
import os
import resource

from securecloud_agent.errors import warn

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_PR_SET_DUMPABLE = 4


def protect_process() -> None:
    """Forbid core dumps and tracing, and lock memory; before any secret is read.

    On-fault locking counts only the pages in use, so a thread's stack costs what it touches.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        warn(f"core dumps could not be forbidden: {os.strerror(ctypes.get_errno())}")
    if library.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        warn(
            f"memory could not be locked ({os.strerror(ctypes.get_errno())}); a key might reach"
            " swap. Run as root, raise LimitMEMLOCK, or encrypt swap"
        )


def wipe(buffer: bytearray) -> None:
    """Overwrite a secret in place."""
    buffer[:] = bytes(len(buffer))
