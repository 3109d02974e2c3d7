"""Rounds of cold key releases: the systems in turn, each round with a fresh server."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cpu import tree_seconds
from benchmarks.here import OUT
from benchmarks.loadgen import Load, Outcome, run
from benchmarks.system import System

SETTLE_EXCHANGES = 10
"""Warm-up exchanges for each client; a fresh server pays for first times in them."""


@dataclass(frozen=True)
class Round:
    """One system in one round."""

    system: str
    number: int
    releases: int
    errors: int
    rate: float
    p50_ms: float
    p99_ms: float
    server_cpu_ms: float
    client_cpu_ms: float
    error_kinds: dict[str, int]


def load_of(concurrency: int, count: int) -> Load:
    """Return the load of `concurrency` clients that measure `count` releases."""
    return Load(
        concurrency=concurrency,
        processes=min(2, concurrency),
        warmup=concurrency * SETTLE_EXCHANGES,
        count=count,
    )


def alternate(systems: Sequence[System], rounds: int, load: Load, machines: int) -> list[Round]:
    """Measure A B A B ..., so that a machine that slows down slows both."""
    measured = []
    for number in range(1, rounds + 1):
        for system in systems:
            entry = _measure(system, number, load, machines)
            print(_line(entry), file=sys.stderr, flush=True)
            measured.append(entry)
    return measured


def _measure(system: System, number: int, load: Load, machines: int) -> Round:
    """Start a fresh server, load it, stop it."""
    OUT.mkdir(parents=True, exist_ok=True)
    # Not in /tmp, which may be memory: what is compared includes durable writes.
    with (
        tempfile.TemporaryDirectory(prefix="work-", dir=OUT) as work,
        system.running(Path(work), machines) as server,
    ):
        outcome = run(server.factory(), load, meter=lambda: tree_seconds(server.pid))
    return _round(system.name, number, outcome)


def _round(name: str, number: int, outcome: Outcome) -> Round:
    done = max(1, outcome.total)
    return Round(
        system=name,
        number=number,
        releases=outcome.total,
        errors=outcome.errors,
        rate=round(outcome.rate, 1),
        p50_ms=round(outcome.p50_ms, 2),
        p99_ms=round(outcome.p99_ms, 2),
        server_cpu_ms=round(outcome.metered / done * 1000, 3),
        client_cpu_ms=round(outcome.client_cpu_seconds / done * 1000, 3),
        error_kinds=outcome.error_kinds,
    )


def medians(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the median over the rounds of every figure, and the sum of the errors."""
    figures = ("rate", "p50_ms", "p99_ms", "server_cpu_ms", "client_cpu_ms")
    found: dict[str, Any] = {
        figure: round(statistics.median(getattr(entry, figure) for entry in rounds), 3)
        for figure in figures
    }
    return found | {"errors": sum(entry.errors for entry in rounds)}


def _line(entry: Round) -> str:
    text = (
        f"round {entry.number}  {entry.system:<30} {entry.rate:7.1f}/s  "
        f"p50 {entry.p50_ms:6.1f} ms  p99 {entry.p99_ms:6.1f} ms  "
        f"server CPU {entry.server_cpu_ms:5.2f} ms  errors {entry.errors}"
    )
    return f"{text}  {entry.error_kinds}" if entry.errors else text


def table(summary: dict[str, dict[str, Any]]) -> list[str]:
    """Return the medians as lines of a table for a terminal."""
    head = f"{'system':<38}{'releases/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'errors':>8}"
    lines = [head, "-" * len(head)]
    for name, row in summary.items():
        title = f"{name} {row.get('version', '')}".strip()
        lines.append(
            f"{title:<38}{row['rate']:>11.1f}{row['p50_ms']:>9.1f}"
            f"{row['p99_ms']:>9.1f}{row['server_cpu_ms']:>9.2f}{row['errors']:>8}"
        )
    return lines
