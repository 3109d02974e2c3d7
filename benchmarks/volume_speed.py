"""Throughput and opening of a volume as the agent formats it, beside cryptsetup's defaults."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from lab.machine import Machine

DISKS = ("ours", "manual")
_GUEST = Path(__file__).with_name("volume_guest.py")
_PYTHON = "/opt/securecloud/agent/bin/python"
_LIMIT = 1800.0


def measure(machine: Machine, rounds: int) -> dict[str, Any]:
    """Return medians and ratios; the machine is on and has the agent."""
    disks = " ".join(f"/dev/disk/by-id/virtio-{name}" for name in DISKS)
    command = f"{_PYTHON} - {rounds} {disks}"
    said: dict[str, Any] = json.loads(
        machine.ssh(command, stdin=_GUEST.read_text(), timeout=_LIMIT)
    )
    medians = {
        name: {figure: statistics.median(values) for figure, values in each["figures"].items()}
        for name, each in said.items()
    }
    ours, manual = (said[name]["figures"] for name in DISKS)
    return {
        "medians": medians,
        "ratio": {figure: _ratio(ours[figure], manual[figure]) for figure in ours},
        "parameters": {name: each["parameters"] for name, each in said.items()},
        "rounds": {name: each["figures"] for name, each in said.items()},
    }


def _ratio(ours: list[float], manual: list[float]) -> float:
    """Return the median over the pairs: both of a pair find the host equally busy."""
    return round(statistics.median(a / b for a, b in zip(ours, manual, strict=True)), 3)


def table(measured: dict[str, Any]) -> str:
    """Return the medians as a table for a terminal."""
    names = [*DISKS, "ratio"]
    head = f"{'medians':<26}" + "".join(f"{name:>12}" for name in names)
    lines = [head, "-" * len(head)]
    for figure, ratio in measured["ratio"].items():
        seconds = figure == "open"
        unit, scale = ("s", 1.0) if seconds else ("MiB/s", 2.0**20)
        values = [measured["medians"][name][figure] / scale for name in DISKS]
        cells = "".join(f"{value:>12.2f}" for value in (*values, ratio))
        lines.append(f"{figure.replace('_', ' ') + ', ' + unit:<26}{cells}")
    return "\n".join(lines)
