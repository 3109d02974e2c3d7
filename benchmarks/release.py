"""Cold key releases: OpenBao and SecureCloud in turn, on one machine and in one run.

``python -m benchmarks.release`` prints a table and writes ``benchmarks/out/release.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.cpu import tree_seconds
from benchmarks.here import OUT, machine_facts
from benchmarks.loadgen import Load, LoadError, Outcome, run
from benchmarks.openbao import OpenBao
from benchmarks.securecloud import SecureCloud
from benchmarks.system import NotReadyError, System

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when anything failed, for ``make``."""
    options = _options(arguments)
    everything: list[System] = [OpenBao(options.token_type), SecureCloud()]
    systems = [s for s in everything if options.only in (None, s.name.lower())]
    load = Load(
        concurrency=options.concurrency,
        processes=min(2, options.concurrency),
        warmup=options.concurrency * SETTLE_EXCHANGES,
        count=options.count,
    )
    try:
        versions = {system.name: system.version() for system in systems}
        rounds = _alternate(systems, options.rounds, load, options.machines)
    except (NotReadyError, LoadError) as error:
        print(f"release benchmark: {error}", file=sys.stderr)
        return 1
    report = _report(versions, rounds, load, options.machines)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(_table(report))
    return 1 if any(entry.errors for entry in rounds) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.release", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each system")
    parser.add_argument("--count", type=int, default=1000, help="measured releases a round")
    parser.add_argument("--concurrency", type=int, default=8, help="clients at the same time")
    parser.add_argument("--machines", type=int, default=32, help="simulated machines")
    parser.add_argument("--only", choices=["openbao", "securecloud"], help="leave the other out")
    parser.add_argument(
        "--token-type", choices=["service", "batch"], default="service", help="OpenBao's tokens"
    )
    parser.add_argument("--output", type=Path, default=OUT / "release.json")
    return parser.parse_args(arguments)


def _alternate(systems: list[System], rounds: int, load: Load, machines: int) -> list[Round]:
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


def _report(
    versions: dict[str, str], rounds: list[Round], load: Load, machines: int
) -> dict[str, Any]:
    summary = {
        name: _median([entry for entry in rounds if entry.system == name]) | {"version": version}
        for name, version in versions.items()
    }
    return {
        "benchmark": "cold key release",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "load": asdict(load) | {"simulated_machines": machines},
        "summary": summary,
        "ratio": _ratio(summary),
        "rounds": [asdict(entry) for entry in rounds],
    }


def _median(rounds: list[Round]) -> dict[str, Any]:
    """Return the median over the rounds of every figure, and the sum of the errors."""
    figures = ("rate", "p50_ms", "p99_ms", "server_cpu_ms", "client_cpu_ms")
    medians: dict[str, Any] = {
        figure: round(statistics.median(getattr(entry, figure) for entry in rounds), 3)
        for figure in figures
    }
    return medians | {"errors": sum(entry.errors for entry in rounds)}


def _ratio(summary: dict[str, dict[str, Any]]) -> dict[str, float] | None:
    """Return ours divided by OpenBao's, or None when one of them was left out."""
    if not {OpenBao.name, SecureCloud.name} <= summary.keys():
        return None
    ours, theirs = summary[SecureCloud.name], summary[OpenBao.name]
    return {
        figure: round(ours[figure] / theirs[figure], 3)
        for figure in ("rate", "p50_ms", "p99_ms", "server_cpu_ms")
    }


def _line(entry: Round) -> str:
    text = (
        f"round {entry.number}  {entry.system:<12} {entry.rate:7.1f}/s  "
        f"p50 {entry.p50_ms:6.1f} ms  p99 {entry.p99_ms:6.1f} ms  "
        f"server CPU {entry.server_cpu_ms:5.2f} ms  errors {entry.errors}"
    )
    return f"{text}  {entry.error_kinds}" if entry.errors else text


def _table(report: dict[str, Any]) -> str:
    """Return the medians as a table for a terminal."""
    head = f"{'system':<38}{'releases/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'errors':>8}"
    lines = [head, "-" * len(head)]
    for name, row in report["summary"].items():
        lines.append(
            f"{name + ' ' + row['version']:<38}{row['rate']:>11.1f}{row['p50_ms']:>9.1f}"
            f"{row['p99_ms']:>9.1f}{row['server_cpu_ms']:>9.2f}{row['errors']:>8}"
        )
    if ratio := report["ratio"]:
        lines.append(
            f"{'ratio, SecureCloud / OpenBao':<38}{ratio['rate']:>11.2f}{ratio['p50_ms']:>9.2f}"
            f"{ratio['p99_ms']:>9.2f}{ratio['server_cpu_ms']:>9.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
