"""What other processes of this machine show of themselves: arguments and environment."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_PAUSE = 0.005


class ProcessWatch:
    """Reads them over and over while it is open; `seen` is everything that there was."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        own = os.getpid()
        while not self._over.wait(_PAUSE):
            for process in Path("/proc").glob("[0-9]*"):
                if int(process.name) != own:
                    for file in ("cmdline", "environ"):
                        with suppress(OSError):
                            self.seen.add((process / file).read_bytes())


def descendants(pid: int) -> list[int]:
    """Return the processes below this one, and itself."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The command's name, in parentheses, may hold anything.
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found += descendants(int(stat.parent.name))
    return found
