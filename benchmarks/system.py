"""What a system under measurement offers, and how its server process is kept.

Every peer is one module with one class that satisfies :class:`System`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from benchmarks.loadgen import ExchangeFactory

START_DEADLINE = 30.0
STOP_DEADLINE = 15.0


class NotReadyError(RuntimeError):
    """A server did not start, did not become ready in time, or does not exist yet."""


class Running(Protocol):
    """A server that is up and holds one secret for each simulated machine."""

    @property
    def pid(self) -> int:
        """Root of the server's process tree."""

    def factory(self) -> ExchangeFactory:
        """Return the picklable maker of client exchanges, one cold key release each."""


class System(Protocol):
    """A system that can be started for one round."""

    name: str

    def version(self) -> str:
        """Return the version, for the report."""

    def running(self, work: Path, machines: int) -> AbstractContextManager[Running]:
        """Start on ``work`` (an empty directory on a real disk), provision, always stop."""


def free_port() -> int:
    """Return a TCP port on the loopback interface that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server_process(
    argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``argv`` in its own session with its output in ``log``; stop it whatever happens."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask politely, then kill what is left of the process group we made."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_DEADLINE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(
    ready: Callable[[], bool],
    what: str,
    process: subprocess.Popen[bytes],
    log: Path,
    deadline: float = START_DEADLINE,
) -> None:
    """Poll ``ready`` until it holds; an ``OSError`` counts as "not yet".

    Raises:
        NotReadyError: when the process has ended or the deadline has passed; carries the log's end.
    """
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if process.poll() is not None:
            raise NotReadyError(f"{what}: ended with status {process.returncode}\n{_tail(log)}")
        with contextlib.suppress(OSError):
            if ready():
                return
        time.sleep(0.05)
    raise NotReadyError(f"{what}: not ready after {deadline:.0f} s\n{_tail(log)}")


def _tail(log: Path, octets: int = 2000) -> str:
    return log.read_bytes()[-octets:].decode(errors="replace")
