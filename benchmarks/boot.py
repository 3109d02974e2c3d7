"""From network up to a mounted volume: our agent and clevis in turn, in one virtual machine.

Then, in the same machine, the throughput of a volume beside one with cryptsetup's defaults.

``python -m benchmarks.boot`` prints a table and writes ``benchmarks/out/boot.json``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import pki, volume_speed
from benchmarks.boot_agent import DISK as AGENT_DISK
from benchmarks.boot_agent import OurAgent
from benchmarks.boot_clevis import DISK as CLEVIS_DISK
from benchmarks.boot_clevis import PORT, Clevis, Tang
from benchmarks.boot_machine import Boot, BootError, Contender, install_marks, measure
from benchmarks.here import OUT, machine_facts
from benchmarks.securecloud import serving
from benchmarks.system import NotReadyError
from lab.lab import Lab
from lab.machine import Machine, Plan
from lab.place import LabError, say

_NAME = "bench"
_DISK_SIZE = "512M"
_TIMES = ("wait", "wait_usable", "mounted", "cpu")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when a boot did not open its volume."""
    options = _options(arguments)
    # However it is ended, no machine and no server is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        report = _run(OUT / "boot", options)
    except (BootError, LabError, NotReadyError) as error:
        print(f"boot benchmark: {error}", file=sys.stderr)
        return 1
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    if report["boots"]:
        print(table(report))
    if report["volumes"]:
        print(f"\n{volume_speed.table(report['volumes'])}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.boot", description=__doc__)
    parser.add_argument("--boots", type=int, default=5, help="boots of each contender")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of fio; 0 leaves it out")
    parser.add_argument(
        "--keep", action="store_true", help="keep the installed machine for the next run"
    )
    parser.add_argument("--output", type=Path, default=OUT / "boot.json")
    return parser.parse_args(arguments)


def _run(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    with prepared(work, keep=options.keep) as (machine, agent, clevis):
        boots = alternate(machine, [agent, clevis], options.boots)
        machine.start()
        machine.wait_for_ssh()
        versions = {each.name: each.version(machine) for each in (agent, clevis)}
        volumes = volume_speed.measure(machine, options.rounds) if options.rounds else None
        machine.shut_down()
    return _report(versions, boots) | {"volumes": volumes}


@contextmanager
def prepared(work: Path, *, keep: bool) -> Iterator[tuple[Machine, OurAgent, Clevis]]:
    """Give a machine, switched off, that has both contenders; they stay on `work` to be kept."""
    lab, tang, done = Lab(work / "lab"), Tang(work / "tang"), work / "complete"
    if not done.exists():
        _remove(lab, work)
        tang.make()
    try:
        disks = dict.fromkeys((AGENT_DISK, CLEVIS_DISK, *volume_speed.DISKS), _DISK_SIZE)
        plan = Plan(_NAME, disks=disks, services={PORT: str(tang.program)})
        lab.make([plan], with_peers=True)
        machine = lab.machine(_NAME)
        server_files = pki.ServerFiles(*(lab.tls / name for name in pki.NAMES))
        (work / "server").mkdir(exist_ok=True)
        with serving(work / "server", server_files, "https://keys.lab") as server:
            machine.reach(server.port)
            agent, clevis = OurAgent(server), Clevis(tang)
            if not done.exists():
                _install(lab, machine, agent, clevis, work)
                done.touch()
            yield machine, agent, clevis
    finally:
        for each in lab.machines():
            each.power_cut()
        if not (keep and done.exists()):
            _remove(lab, work)


def _install(lab: Lab, machine: Machine, agent: OurAgent, clevis: Clevis, work: Path) -> None:
    say("starting the machine, and installing both")
    machine.start()
    machine.wait_for_ssh()
    install_marks(machine, (agent.where, clevis.where))
    agent.prepare(lab, machine, work)
    clevis.prepare(machine)
    machine.shut_down()


def _remove(lab: Lab, work: Path) -> None:
    lab.down()
    shutil.rmtree(work, ignore_errors=True)


def alternate(machine: Machine, contenders: Sequence[Contender], boots: int) -> list[Boot]:
    """Measure A B A B ..., so that a machine that slows down slows both."""
    measured = []
    for number in range(1, boots + 1):
        for contender in contenders:
            others = [each for each in contenders if each is not contender]
            boot = measure(machine, contender, others, number)
            say(_line(boot))
            measured.append(boot)
    return measured


def _line(boot: Boot) -> str:
    return (
        f"boot {boot.number}  {boot.contender:<12} network up at {boot.network_up:5.2f} s, mounted"
        f" {boot.wait:+6.2f} s, usable {boot.wait_usable:+6.2f} s; CPU {boot.cpu:5.2f} s"
    )


def _report(versions: dict[str, str], boots: list[Boot]) -> dict[str, Any]:
    by_name = {name: [boot for boot in boots if boot.contender == name] for name in versions}
    return {
        "benchmark": "network up to mounted",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "versions": versions,
        "summary": {name: summarise(each) for name, each in by_name.items() if each},
        "ratio": _ratio(by_name[OurAgent.name], by_name[Clevis.name]),
        "boots": [asdict(boot) for boot in boots],
    }


def _ratio(ours: list[Boot], theirs: list[Boot]) -> dict[str, float]:
    """Return the median over the pairs: two boots in a row find the host equally busy."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        figure: round(
            statistics.median(getattr(a, figure) / getattr(b, figure) for a, b in pairs), 3
        )
        for figure in _TIMES
        if pairs
    }


def summarise(boots: Sequence[Boot]) -> dict[str, Any]:
    """Return the median of every figure; the mean of the server's, which is counted in ticks."""
    medians = {
        figure: round(statistics.median(getattr(boot, figure) for boot in boots), 3)
        for figure in _TIMES
    }
    return medians | {
        "server_cpu": round(statistics.mean(boot.server_cpu for boot in boots), 4),
        "boots": len(boots),
    }


def table(report: dict[str, Any]) -> str:
    """Return the medians as a table for a terminal."""
    head = (
        f"{'seconds (medians)':<26}{'to mounted':>12}{'to usable':>12}{'since kernel':>14}"
        f"{'CPU':>8}{'server CPU':>12}"
    )
    lines = [head, "-" * len(head)]
    for name, row in report["summary"].items():
        line = _row(f"{name} {report['versions'][name]}", row)
        lines.append(f"{line}{row['server_cpu']:>12.3f}")
    lines.append(_row("ratio, median of pairs", report["ratio"]))
    return "\n".join(lines)


def _row(name: str, row: dict[str, Any]) -> str:
    return (
        f"{name:<26}{row['wait']:>12.2f}{row['wait_usable']:>12.2f}{row['mounted']:>14.2f}"
        f"{row['cpu']:>8.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
