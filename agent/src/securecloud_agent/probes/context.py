"""What every probe gets, and the small readers that several of them share."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from time import time
from typing import Any

from securecloud_agent.errors import AgentError
from securecloud_agent.run import Runner, run
from securecloud_agent.trust import why_not_file, why_not_folder

_LARGEST_FILE = 64 * 1024 * 1024
_PIECE = 65536


Glance = tuple[Any, ...] | str
"""Something to compare with a later one; differs when the fact may have changed."""


class ProbeError(AgentError):
    """A fact cannot be had; the text becomes the fact's error."""

    code = "probe"


@dataclass(frozen=True, slots=True)
class Context:
    """Where and how a probe looks. `timeout` in seconds holds for each probe and each program."""

    root: Path = Path("/")
    run: Runner = run
    timeout: float = 10.0
    clock: Callable[[], float] = time
    supplied: dict[str, Callable[[], Any]] = field(default_factory=dict)
    """Facts that come from elsewhere: the provider's `location` and `instance`."""
    probes_dir: Path | None = None
    """Where an administrator's own probes are; see `own_probe`."""

    def path(self, absolute: str) -> Path:
        """Return where the machine's path `absolute` lies below `root`."""
        return self.root / absolute.lstrip("/")

    def text(self, absolute: str) -> str:
        """Return the file's text; raise ProbeError when it cannot be read."""
        return self.octets(absolute).decode("utf-8", "replace")

    def octets(self, absolute: str, limit: int = _LARGEST_FILE) -> bytes:
        """Return the file's first `limit` octets; raise ProbeError when it cannot be read."""
        try:
            with self.path(absolute).open("rb", buffering=0) as file:
                return _read(file, limit)
        except OSError as error:
            raise ProbeError(f"{absolute} cannot be read: {error.strerror}") from None

    def optional_text(self, absolute: str) -> str | None:
        """Return the file's text, or None when there is no such file."""
        return self.text(absolute) if self.path(absolute).exists() else None

    def own_probe(self, name: str) -> Path | None:
        """Return the administrator's executable for the fact `name`, or None without one.

        Raises ProbeError when there is one that must not be run: nobody meant ours in its place.
        """
        if self.probes_dir is None or not os.path.lexists(path := self.probes_dir / name):
            return None
        problem = why_not_file(path) or why_not_folder(self.probes_dir)
        if problem is None and not path.stat().st_mode & 0o111:
            problem = "it is not executable"
        if problem is not None:
            raise ProbeError(f"{path} is not run: {problem}")
        return path

    def stamps(self, *absolutes: str) -> Glance:
        """Return for each path something that changes with it; not by its name alone, nor by
        times that anybody may set.
        """
        return tuple(self._stamp(absolute) for absolute in absolutes)

    def _stamp(self, absolute: str) -> tuple[str, int, int, int] | None:
        try:
            found = self.path(absolute).lstat()
        except OSError:
            return None
        return absolute, found.st_ctime_ns, found.st_ino, found.st_size

    def processes(self) -> Iterator[tuple[int, Path]]:
        """Give the id and the /proc folder of each process."""
        for folder in self.path("/proc").glob("[0-9]*"):
            if folder.name.isdecimal():
                yield int(folder.name), folder


def _read(file: FileIO, limit: int) -> bytes:
    # In pieces: sysctl files refuse a read that asks for megabytes (ENOMEM).
    pieces = []
    while limit > 0 and (piece := file.read(min(limit, _PIECE))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def whole_number(text: str, what: str) -> int:
    """Return the non-negative integer in `text`; raise ProbeError otherwise."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 15):  # noqa: PLR2004 - fits 2**53
        raise ProbeError(f"{what} is not a number")
    return int(digits)
