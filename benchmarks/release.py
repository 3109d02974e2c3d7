"""Cold key releases: OpenBao and SecureCloud in turn, on one machine and in one run.

``python -m benchmarks.release`` prints a table and writes ``benchmarks/out/release.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.here import OUT, machine_facts
from benchmarks.loadgen import Load, LoadError
from benchmarks.openbao import OpenBao
from benchmarks.rounds import Round, alternate, load_of, medians, table
from benchmarks.securecloud import SecureCloud
from benchmarks.system import NotReadyError, System


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when anything failed, for ``make``."""
    options = _options(arguments)
    everything: list[System] = [OpenBao(options.token_type), SecureCloud()]
    systems = [s for s in everything if options.only in (None, s.name.lower())]
    load = load_of(options.concurrency, options.count)
    try:
        versions = {system.name: system.version() for system in systems}
        rounds = alternate(systems, options.rounds, load, options.machines)
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


def _report(
    versions: dict[str, str], rounds: list[Round], load: Load, machines: int
) -> dict[str, Any]:
    summary = {
        name: medians([entry for entry in rounds if entry.system == name]) | {"version": version}
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


def _ratio(summary: dict[str, dict[str, Any]]) -> dict[str, float] | None:
    """Return ours divided by OpenBao's, or None when one of them was left out."""
    if not {OpenBao.name, SecureCloud.name} <= summary.keys():
        return None
    ours, theirs = summary[SecureCloud.name], summary[OpenBao.name]
    return {
        figure: round(ours[figure] / theirs[figure], 3)
        for figure in ("rate", "p50_ms", "p99_ms", "server_cpu_ms")
    }


def _table(report: dict[str, Any]) -> str:
    """Return the medians as a table for a terminal."""
    lines = table(report["summary"])
    if ratio := report["ratio"]:
        lines.append(
            f"{'ratio, SecureCloud / OpenBao':<38}{ratio['rate']:>11.2f}{ratio['p50_ms']:>9.2f}"
            f"{ratio['p99_ms']:>9.2f}{ratio['server_cpu_ms']:>9.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
