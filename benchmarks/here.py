"""This machine: where results are kept, and what explains figures."""

from __future__ import annotations

import os
import platform
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "out"


def machine_facts() -> dict[str, Any]:
    """Describe the machine by what explains figures, without naming it."""
    cpus = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": cpus[0] if cpus else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "filesystem": _filesystem(OUT),
        "fsync_ms": _fsync_ms(OUT),
    }


def _filesystem(directory: Path) -> str:
    """Return the type of the file system that holds ``directory``."""
    path = str(directory.resolve())
    mounts = (line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines())
    inside = [
        (len(point), kind)
        for point, kind in mounts
        if path == point or path.startswith(point.rstrip("/") + "/")
    ]
    return max(inside)[1] if inside else "unknown"


def _fsync_ms(directory: Path, times: int = 50) -> float:
    """Return the mean milliseconds of appending 4 KiB and calling fdatasync."""
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        start = datetime.now(UTC)
        for _ in range(times):
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
        return round((datetime.now(UTC) - start).total_seconds() / times * 1000, 3)
