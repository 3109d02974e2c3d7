"""Whether an administrator's executable may be run: whoever could write one would be root."""

import os
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def why_not_file(path: Path) -> str | None:
    """Return why the file at `path` must not be run, or None; what is above it is not looked at."""
    try:
        found = path.lstat()
    except OSError as error:
        return error.strerror
    if stat.S_ISLNK(found.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISREG(found.st_mode):
        return "it is no file"
    return _who_else(found)


def why_not_folder(folder: Path) -> str | None:
    """Return why nothing in `folder` must be run, or None.

    Also for what is above it: whoever can rename a folder can put another one there.
    """
    for each in (folder, *folder.parents):
        try:
            found = each.lstat()
        except OSError as error:
            return f"{each}: {error.strerror}"
        if not stat.S_ISDIR(found.st_mode):
            return f"{each} is not a directory"
        sticky = each != folder and found.st_mode & stat.S_ISVTX
        problem = None if sticky and _is_ours(found) else _who_else(found)
        if problem:
            return f"{each}: {problem}"
    return None


def _who_else(found: os.stat_result) -> str | None:
    if not _is_ours(found):
        return f"it belongs to uid {found.st_uid}; it must be root's"
    if found.st_mode & _OTHERS_WRITE:
        return f"others than its owner may write it (mode {stat.S_IMODE(found.st_mode):04o})"
    return None


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid in {0, os.geteuid()}
