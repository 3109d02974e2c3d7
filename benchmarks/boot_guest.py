"""Runs on the virtual machine, after a boot: prints the moments and the CPU of the units named."""

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

_PROPERTIES = {
    "ActiveEnterTimestampMonotonic": ("active_enter", 1e6),
    "ExecMainStartTimestampMonotonic": ("exec_start", 1e6),
    "CPUUsageNSec": ("cpu", 1e9),
}


def _units(names: list[str]) -> dict[str, dict[str, float]]:
    asked = f"--property=Id,{','.join(_PROPERTIES)}"
    shown = subprocess.run(
        ["systemctl", "show", asked, "--", *names], check=True, capture_output=True, text=True
    ).stdout
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines())
        for block in shown.strip().split("\n\n")
    ]
    return {block["Id"]: _figures(block) for block in blocks}


def _figures(block: dict[str, str]) -> dict[str, float]:
    """Return seconds; what a unit does not have, or never used, is 0."""
    return {
        name: int(block[key]) / scale if block.get(key, "").isdecimal() else 0.0
        for key, (name, scale) in _PROPERTIES.items()
    }


def _network_up() -> float:
    """Return when the default route came, in seconds of the monotonic clock."""
    lines = Path("/run/network-mark").read_text().splitlines()
    first = next(line for line in lines if "] default " in line)
    moment = datetime.fromisoformat(first[1 : first.index("]")]).astimezone()
    return moment.timestamp() - (time.time() - time.monotonic())


if __name__ == "__main__":
    print(json.dumps({"network_up": _network_up(), "units": _units(sys.argv[1:])}))
