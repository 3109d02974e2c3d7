"""A long audit log: verified by its server, exported as a bundle, and the bundle verified.

``python -m benchmarks.audit`` prints a table and writes ``benchmarks/out/audit.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.here import OUT, machine_facts

_BIN = Path(sys.executable).parent
_COPY = """CREATE TABLE events (
  seq INTEGER PRIMARY KEY, at INTEGER, actor TEXT, action TEXT, object TEXT, outcome TEXT, body BLOB
)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when anything failed, for ``make``."""
    options = _options(arguments)
    if options.copy:
        _copy(*options.copy)
        return 0
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=OUT) as name:
        figures = _measure(Path(name), options.events)
    report = {
        "benchmark": "audit log",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "events": options.events,
        "figures": {name: figure._asdict() for name, figure in figures.items()},
        "ratio_export_to_copy": round(figures["export"].cpu / figures["copy"].cpu, 2),
    }
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{options.events} events")
    print(f"{'':<16}{'s':>8}{'CPU s':>8}{'peak MiB':>10}{'file MiB':>10}")
    for name, it in figures.items():
        print(f"{name:<16}{it.wall:>8.1f}{it.cpu:>8.1f}{it.peak_mib:>10}{it.file_mib:>10}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=OUT / "audit.json")
    parser.add_argument("--copy", nargs=2, type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


class Figure(NamedTuple):
    """Seconds by the clock and of a processor, memory at its peak, and what was written."""

    wall: float
    cpu: float
    peak_mib: int
    file_mib: int


def _measure(work: Path, events: int) -> dict[str, Figure]:
    database, bundle, copy = work / "log.db", work / "bundle.db", work / "copy.db"
    # In a process of its own: a child's peak is never below that of its parent.
    fill = [sys.executable, "-m", "benchmarks.audit_log", str(events), str(work)]
    fingerprint = subprocess.run(fill, check=True, capture_output=True, text=True).stdout.strip()
    server = [_BIN / "securecloud-server", "--config", work / "server.toml", "audit"]
    pinned = [f"--fingerprint={fingerprint}"]
    return {
        "audit verify": _run([*server, "verify"], database),
        "export": _run([*server, "export", "--to", bundle], bundle),
        "bundle verify": _run([_BIN / "securecloud-audit", "verify", bundle, *pinned], bundle),
        "copy": _run([sys.executable, "-m", "benchmarks.audit", "--copy", database, copy], copy),
    }


def _run(command: Sequence[str | Path], file: Path) -> Figure:
    """Run a program that must succeed, and say what it took."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return Figure(
        round(wall, 2),
        round(used.ru_utime + used.ru_stime, 2),
        used.ru_maxrss // 1024,
        file.stat().st_size // 2**20,
    )


def _copy(source: Path, target: Path) -> None:
    """Copy the events as they are: no proofs, no readable columns, no search."""
    with closing(sqlite3.connect(source)) as log, closing(sqlite3.connect(target)) as copy:
        copy.execute(_COPY)
        copy.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
            log.execute("SELECT * FROM audit_events ORDER BY seq"),
        )
        copy.commit()


if __name__ == "__main__":
    sys.exit(main())
