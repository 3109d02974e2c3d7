"""CPU time of a process tree, from ``/proc`` (see proc(5))."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
# Fields of /proc/<pid>/stat counted from the one after the command name (field 3, state).
_PARENT = 1
_TIMES = slice(11, 15)  # utime, stime, cutime, cstime


def tree_seconds(root: int) -> float:
    """Return user and system seconds of ``root`` and all its descendants so far.

    Children that have ended and were waited for are in their parent's ``cutime`` and ``cstime``,
    so a worker that is replaced between two readings is not lost.

    Raises:
        ProcessLookupError: when ``root`` does not exist.
    """
    ticks: dict[int, int] = {}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, fields in _all_stats():
        ticks[pid] = sum(int(field) for field in fields[_TIMES])
        children[int(fields[_PARENT])].append(pid)
    if root not in ticks:
        raise ProcessLookupError(f"no process {root}")
    total, to_visit = 0, [root]
    while to_visit:
        pid = to_visit.pop()
        total += ticks[pid]
        to_visit += children[pid]
    return total / _TICKS


def _all_stats() -> list[tuple[int, list[str]]]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:  # ended since the directory was listed
            continue
        # The command name is in parentheses and may itself hold spaces and parentheses.
        found.append((int(entry.name), text[text.rindex(")") + 2 :].split()))
    return found
