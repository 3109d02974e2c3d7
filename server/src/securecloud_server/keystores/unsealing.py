"""Where shares of a master key come together: files in memory, of which a reboot leaves nothing."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from securecloud_protocol.encoding import b64u_encode

from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.keystores.master_key import write_durably
from securecloud_server.keystores.shares import Share, combine, parse, require_related

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, slots=True)
class Gathered:
    """How many shares are here, and how many it takes (None before the first)."""

    here: int
    needed: int | None
    unsealed: bool


class Unsealing:
    """Gathers shares in a directory beside `key`, the file in which the master key then is."""

    def __init__(self, key: Path) -> None:
        self._key = key
        self._shares = key.parent / "shares"

    def state(self) -> Gathered:
        """Return how far it is."""
        if self._key.exists():
            return Gathered(0, None, True)
        shares = self._read()
        return Gathered(len(shares), shares[0].needed if shares else None, False)

    def add(self, text: str) -> Gathered:
        """Take a share in; with the last that is needed, make the key and forget the shares.

        Invalid when it is none, of another key, here already, or does not go with the others.
        """
        share = parse(text)
        with self._alone():
            if self._key.exists():
                raise Conflict("the server is unsealed")
            others = self._read()
            require_related(share, others)
            shares = [*others, share]
            if len(shares) < share.needed:
                self._write(self._shares / str(share.number), share.text())
                return Gathered(len(shares), share.needed, False)
            self._write(self._key, b64u_encode(combine(shares)))
            self._forget()
            return Gathered(0, share.needed, True)

    def forget(self) -> None:
        """Forget the shares that are here."""
        with self._alone():
            self._forget()

    def _write(self, path: Path, text: str) -> None:
        """Whoever runs this, the server has to read it."""
        place = self._key.parent.stat()
        try:
            write_durably(path, f"{text}\n".encode(), (place.st_uid, place.st_gid))
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror}") from None

    def _forget(self) -> None:
        for path in self._shares.iterdir():
            path.unlink()

    def _read(self) -> list[Share]:
        if not self._shares.is_dir():
            return []
        return [parse(path.read_text("ascii")) for path in sorted(self._shares.iterdir())]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Work in a directory of one's own, in memory, one process at a time."""
        require_memory(self._key.parent)
        try:
            self._shares.mkdir(mode=0o700, exist_ok=True)
            directory = os.open(self._shares, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise Unavailable(f"{self._shares} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)


def require_memory(directory: Path) -> None:
    """Raise Unavailable unless what is written to `directory` stays in memory."""
    if not directory.is_dir():
        raise Unavailable(f"there is no directory {directory}; is the server started?")
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    around = [words for words in mounts if directory.resolve().is_relative_to(words[4])]
    nearest = max(around, key=lambda words: len(words[4]))
    if nearest[nearest.index("-") + 1] not in _IN_MEMORY:
        raise Unavailable(
            f"{directory} is not in memory; shares come together in a tmpfs, as /run is"
        )
