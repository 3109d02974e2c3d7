"""What may go wrong with a database, each at one step that can be counted."""

import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from server.tests.injections.disk import Disk, Half

Connected = Callable[[sqlite3.Connection], None]

# sqlite3.h; the module sqlite3 has only some of them.
_IO_ERRORS = {
    "open": sqlite3.SQLITE_CANTOPEN,
    "delete": sqlite3.SQLITE_IOERR_DELETE,
    "read": sqlite3.SQLITE_IOERR_READ,
    "write": sqlite3.SQLITE_IOERR_WRITE,
    "truncate": sqlite3.SQLITE_IOERR_TRUNCATE,
    "sync": sqlite3.SQLITE_IOERR_FSYNC,
    "map": sqlite3.SQLITE_IOERR_SHMMAP,
}
"""What SQLite says after EIO."""
_FULL = {
    "write": sqlite3.SQLITE_FULL,
    "sync": sqlite3.SQLITE_IOERR_FSYNC,
    "map": sqlite3.SQLITE_IOERR_SHMSIZE,
}
"""What SQLite says after ENOSPC; a file system may find out only when it flushes."""
_CHANGES = {"write", "truncate", "sync", "delete"}


@dataclass
class Steps:
    """Counts steps; something happens at one of them, or from there on."""

    at: int
    lasting: bool
    taken: int = 0
    struck: bool = False
    is_over: bool = False
    locks: list[sqlite3.Connection] = field(default_factory=list)

    def now(self) -> bool:
        """Take a step; return whether it is time."""
        if self.is_over:
            return False
        self.taken += 1
        now = self.taken == self.at or (self.struck and self.lasting)
        self.struck = self.struck or now
        return now

    def over(self) -> None:
        """All is well again."""
        self.is_over = True
        for lock in self.locks:
            lock.close()


@dataclass
class Scene:
    """Where a server runs that something is to happen to."""

    disk: Disk
    database: Path
    connected: list[Connected]
    """Called with each connection of the server."""


@dataclass(frozen=True)
class Fault:
    """One kind; `prepare` lets it happen. Every so many steps are tried."""

    prepare: Callable[[Scene, Steps], None]
    kills: bool = False
    lasting: bool = False
    every: int = 1


def _die(*_: object) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def _kill_at_files(scene: Scene, steps: Steps) -> None:
    scene.disk.ask = lambda _kind, _half: _die() if steps.now() else 0


def _kill_within_a_write(scene: Scene, steps: Steps) -> None:
    def ask(kind: str, half: Half) -> int:
        if kind == "write" and steps.now():
            half()
            _die()
        return 0

    scene.disk.ask = ask


def _cut_the_power(scene: Scene, steps: Steps) -> None:
    def ask(kind: str, _half: Half) -> int:
        if kind in _CHANGES and steps.now():
            scene.disk.lose_unflushed()
            _die()
        return 0

    scene.disk.remembers = True
    scene.disk.ask = ask


def _kill_at_statements(scene: Scene, steps: Steps) -> None:
    scene.connected.append(
        lambda connection: connection.set_trace_callback(lambda _: steps.now() and _die())
    )


def _fail(codes: dict[str, int]) -> Callable[[Scene, Steps], None]:
    def prepare(scene: Scene, steps: Steps) -> None:
        scene.disk.ask = lambda kind, _half: codes[kind] if kind in codes and steps.now() else 0

    return prepare


def _lock(scene: Scene, steps: Steps) -> None:
    writes = False

    def lock(statement: str) -> None:
        nonlocal writes
        # While the server writes, it keeps others out.
        if not writes and steps.now():
            other = sqlite3.connect(scene.database, timeout=0, isolation_level=None)
            steps.locks.append(other)
            other.execute("BEGIN IMMEDIATE")
        writes = statement == "BEGIN IMMEDIATE" or (
            writes and statement not in {"COMMIT", "ROLLBACK"}
        )

    scene.connected.append(lambda connection: connection.set_trace_callback(lock))


def _break_off(scene: Scene, steps: Steps) -> None:
    scene.connected.append(
        lambda connection: connection.set_progress_handler(lambda: int(steps.now()), 1)
    )


FAULTS = {
    "kill -9 at an operation on a file": Fault(_kill_at_files, kills=True),
    "kill -9 within a write": Fault(_kill_within_a_write, kills=True),
    "kill -9 before a statement": Fault(_kill_at_statements, kills=True),
    "power cut": Fault(_cut_the_power, kills=True),
    "full disk": Fault(_fail(_FULL), lasting=True),
    "I/O error": Fault(_fail(_IO_ERRORS)),
    "failing disk": Fault(_fail(_IO_ERRORS), lasting=True),
    "locked database": Fault(_lock),
    "statement broken off": Fault(_break_off, every=7),
}
