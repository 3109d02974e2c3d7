"""What audit log and keystore cost a cold key release: the server as it is, and without them.

``python -m benchmarks.overhead`` prints a table and writes ``benchmarks/out/overhead.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.here import OUT, machine_facts
from benchmarks.loadgen import LoadError
from benchmarks.rounds import Round, alternate, load_of, medians, table
from benchmarks.securecloud import SecureCloud
from benchmarks.system import NotReadyError

PARTS = ("audit", "keystore")
WHOLE = "as it is"
NEITHER = "without audit and keystore"
MOST = 0.20
"""The goal: by how much of its rate the release may be slowed down."""


def _without(*parts: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.without", ",".join(parts)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when anything failed, for ``make``."""
    options = _options(arguments)
    # Started alike: what is compared is what the server does, not how it is called.
    systems = [
        SecureCloud(WHOLE, _without()),
        SecureCloud(NEITHER, _without(*PARTS)),
    ]
    if options.apart:
        systems += [SecureCloud(f"without {part}", _without(part)) for part in PARTS]
    load = load_of(options.concurrency, options.count)
    try:
        rounds = alternate(systems, options.rounds, load, options.machines)
    except (NotReadyError, LoadError) as error:
        print(f"overhead benchmark: {error}", file=sys.stderr)
        return 1
    if any(entry.errors for entry in rounds):
        print("overhead benchmark: releases failed, so no rate means anything", file=sys.stderr)
        return 1
    summary = {
        system.name: medians([entry for entry in rounds if entry.system == system.name])
        for system in systems
    }
    report = {
        "benchmark": "what audit log and keystore cost a cold key release",
        "version": SecureCloud().version(),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "load": asdict(load) | {"simulated_machines": options.machines},
        "summary": summary,
        "ratio": {name: _ratios(rounds, name) for name in summary if name != WHOLE},
        "rounds": [asdict(entry) for entry in rounds],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(_table(report))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each kind")
    parser.add_argument("--count", type=int, default=1000, help="measured releases a round")
    parser.add_argument("--concurrency", type=int, default=8, help="clients at the same time")
    parser.add_argument("--machines", type=int, default=32, help="simulated machines")
    parser.add_argument("--apart", action="store_true", help="also without either of the two")
    parser.add_argument("--output", type=Path, default=OUT / "overhead.json")
    return parser.parse_args(arguments)


def _ratios(rounds: Sequence[Round], other: str) -> dict[str, Any]:
    """Return the server as it is divided by the other one, round by round, and the medians.

    Two that follow each other find the machine about equally busy, so their ratio says more than
    that of two medians.
    """
    by_name = {(entry.system, entry.number): entry for entry in rounds}
    pairs = [(entry, by_name[other, entry.number]) for entry in rounds if entry.system == WHOLE]
    found: dict[str, Any] = {}
    for figure in ("rate", "server_cpu_ms"):
        each = [round(getattr(a, figure) / getattr(b, figure), 3) for a, b in pairs]
        found[figure] = round(statistics.median(each), 3)
        found[f"{figure}_of_each_round"] = each
    return found


def _table(report: dict[str, Any]) -> str:
    lines = table(report["summary"])
    for name, ratio in report["ratio"].items():
        each = ratio["rate_of_each_round"]
        lines.append(
            f"{WHOLE} / {name}: rate {ratio['rate']:.2f} ({min(each):.2f} to {max(each):.2f}),"
            f" CPU {ratio['server_cpu_ms']:.2f}"
        )
    cost = 1 - report["ratio"][NEITHER]["rate"]
    verdict = "met" if cost <= MOST else "missed"
    lines.append(f"they cost {cost:.0%} of the rate; the goal of {MOST:.0%} at most is {verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
