"""A closed-loop load generator: each client starts its next exchange when the last has ended.

Concurrency is spread over a few processes, because one Python process cannot drive more than
about one core. All clients are warm and waiting at a barrier before the clock starts.
"""

from __future__ import annotations

import math
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

Exchange = Callable[[], None]
ExchangeFactory = Callable[[int], Exchange]
"""Makes the exchange of one client, given the client's number (0 to concurrency - 1).

Pickled into the load processes; called once for each client, in the thread that will use it.
"""


class LoadError(RuntimeError):
    """The clients could not be started or did not finish in time."""


@dataclass(frozen=True)
class Load:
    """How much to ask for; ``warmup`` and ``count`` are totals over all clients."""

    concurrency: int = 8
    processes: int = 2
    warmup: int = 80
    count: int = 800
    deadline: float = 120.0

    def __post_init__(self) -> None:
        if self.processes < 1 or self.concurrency < self.processes:
            raise ValueError("each process needs at least one client")
        if self.count < self.concurrency:
            raise ValueError("each client needs at least one exchange")


@dataclass(frozen=True)
class Outcome:
    """What one measured run gave. Latencies are of exchanges that succeeded."""

    total: int
    errors: int
    seconds: float
    rate: float
    p50_ms: float
    p99_ms: float
    metered: float
    client_cpu_seconds: float
    error_kinds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Report:
    """What one load process sends back."""

    latencies: list[float]
    errors: list[str]
    started: float
    ended: float
    cpu_seconds: float


def percentile(ordered: list[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the ordered values do not exceed."""
    if not ordered:
        return float("nan")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def run(factory: ExchangeFactory, load: Load, meter: Callable[[], float] = lambda: 0.0) -> Outcome:
    """Warm up, start all clients together, wait for them, and sum up.

    ``meter`` is read once before the start and once after the end, for example the CPU seconds
    of the server; the difference is ``Outcome.metered``.

    Raises:
        LoadError: a load process ended early or the deadline passed.
    """
    end = time.monotonic() + load.deadline
    with _clients(factory, load) as pipes:
        _gather(pipes, end)  # all warm
        before = meter()
        for pipe in pipes:
            pipe.send("go")
        reports = _gather(pipes, end)
        metered = meter() - before
    return _sum_up(reports, metered)


@contextmanager
def _clients(factory: ExchangeFactory, load: Load) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    processes, pipes = [], []
    try:
        for index in range(load.processes):
            ours, theirs = context.Pipe()
            slots = list(range(index, load.concurrency, load.processes))
            process = context.Process(
                target=_load_process, args=(factory, slots, load, theirs), daemon=True
            )
            process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        yield pipes
    finally:
        for process in processes:
            process.join(1.0)
            if process.is_alive():
                process.kill()
                process.join()


def _gather(pipes: list[Connection], end: float) -> list[_Report]:
    """Receive one message from every pipe, before ``end``."""
    messages: dict[Connection, _Report] = {}
    while len(messages) < len(pipes):
        missing = [pipe for pipe in pipes if pipe not in messages]
        ready = wait(missing, timeout=max(0.0, end - time.monotonic()))
        if not ready:
            raise LoadError("the clients did not finish before the deadline")
        for pipe in ready:
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except EOFError:
                raise LoadError("a load process ended early; see its traceback above") from None
            if isinstance(message, Exception):
                raise LoadError(f"a client could not be made: {message!r}") from message
            messages[pipe] = message
    return [messages[pipe] for pipe in pipes]


def _load_process(factory: ExchangeFactory, slots: list[int], load: Load, pipe: Connection) -> None:
    """Body of a load process: warm up, report, wait for the word, measure, report."""
    clients = [
        _Client(factory, slot, _share(load.warmup, slot, load), _share(load.count, slot, load))
        for slot in slots
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.warm.wait()
    broken = next((client.broken for client in clients if client.broken), None)
    pipe.send(broken)
    if broken or not pipe.poll(load.deadline):
        return
    pipe.recv()
    started, cpu = time.time(), time.process_time()
    for client in clients:
        client.go.set()
    for client in clients:
        client.join()
    pipe.send(
        _Report(
            latencies=[value for client in clients for value in client.latencies],
            errors=[kind for client in clients for kind in client.errors],
            started=started,
            ended=time.time(),
            cpu_seconds=time.process_time() - cpu,
        )
    )


def _share(total: int, slot: int, load: Load) -> int:
    """Split ``total`` over the clients as evenly as whole numbers allow."""
    return total // load.concurrency + (slot < total % load.concurrency)


class _Client(threading.Thread):
    """One client of the closed loop."""

    def __init__(self, factory: ExchangeFactory, slot: int, warmup: int, count: int) -> None:
        super().__init__(daemon=True)
        self._factory, self._slot, self._warmup, self._count = factory, slot, warmup, count
        self.warm, self.go = threading.Event(), threading.Event()
        self.latencies: list[float] = []
        self.errors: list[str] = []
        self.broken: Exception | None = None

    def run(self) -> None:
        """Make the exchange, warm up, wait for the word, do the measured exchanges."""
        try:
            exchange = self._factory(self._slot)
        except Exception as error:  # carried to the parent, which raises
            self.broken = error
            self.warm.set()
            return
        for _ in range(self._warmup):
            self._once(exchange)
        self.latencies.clear()  # errors while warming up stay: a run that had any is no good run
        self.warm.set()
        self.go.wait()
        for _ in range(self._count):
            self._once(exchange)

    def _once(self, exchange: Exchange) -> None:
        start = time.perf_counter()
        try:
            exchange()
        except Exception as error:  # counted by kind, whatever it is
            self.errors.append(f"{type(error).__name__}: {str(error)[:80]}")
        else:
            self.latencies.append(time.perf_counter() - start)


def _sum_up(reports: list[_Report], metered: float) -> Outcome:
    latencies = sorted(value for report in reports for value in report.latencies)
    errors = Counter(kind for report in reports for kind in report.errors)
    seconds = max(r.ended for r in reports) - min(r.started for r in reports)
    return Outcome(
        total=len(latencies),
        errors=errors.total(),
        seconds=seconds,
        rate=len(latencies) / seconds,
        p50_ms=percentile(latencies, 0.50) * 1000,
        p99_ms=percentile(latencies, 0.99) * 1000,
        metered=metered,
        client_cpu_seconds=sum(report.cpu_seconds for report in reports),
        error_kinds=dict(errors.most_common(5)),
    )
