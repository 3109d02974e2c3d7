"""Ours: the SecureCloud server, and one cold key release as the agent does it.

Not written yet; it waits for ``securecloud-server init|serve`` and for the agent library. What
is needed here:

* ``RunningSecureCloud.pid``: the server's main process, so that its workers are in the tree;
* ``RunningSecureCloud.factory()``: a frozen, picklable dataclass whose ``__call__(slot)`` loads
  the state of an enrolled machine and returns the exchange, which opens a new TLS connection,
  sends Hello, Evidence and Ack with the agent's own code, checks that a key was granted, closes;
* ``SecureCloud.running()``: PKI and configuration in ``work``, ``init``, ``serve`` (through
  ``server_process`` and ``wait_until``), one device, policy and enrolled identity a machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loadgen import ExchangeFactory
from benchmarks.system import NotReadyError


@dataclass(frozen=True)
class RunningSecureCloud:
    """A provisioned server; satisfies :class:`benchmarks.system.Running`."""

    pid: int
    made: ExchangeFactory

    def factory(self) -> ExchangeFactory:
        """Return the picklable maker of exchanges."""
        return self.made


class SecureCloud:
    """The server of this repository; satisfies :class:`benchmarks.system.System`."""

    name = "SecureCloud"

    def version(self) -> str:
        """Return the version of the server."""
        raise NotReadyError(_MISSING)

    @contextmanager
    def running(self, work: Path, machines: int) -> Iterator[RunningSecureCloud]:
        """Start, provision and always stop a server on ``work``."""
        raise NotReadyError(f"{_MISSING}: nothing to start for {machines} machines in {work}")
        yield  # makes this a generator, as contextmanager wants


_MISSING = (
    "benchmarks/securecloud.py is a stub that cannot start the SecureCloud server yet; "
    "use --only openbao until it is written"
)
