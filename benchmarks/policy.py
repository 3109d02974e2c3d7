"""One policy of ten rules: SecureCloud and Cedar in turn, in one process.

``python -m benchmarks.policy`` prints a table and writes ``benchmarks/out/policy.json``. Both get
what a machine sent as it comes out of the exchange, so Cedar's context is read anew each time, as
it has to be; both have their policies compiled before. Nothing is measured before both give the
same answer for a good machine and for ten machines that each break one rule.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import cedarpy
from securecloud_server import __version__
from securecloud_server.domain.evidence import Fact, Provenance
from securecloud_server.domain.policy import Policy, compile_policy

from benchmarks.here import OUT, machine_facts

POLICY: dict[str, Any] = {
    "rules": [
        {"fact": "host_name", "operator": "starts_with", "value": "web"},
        {"fact": "location.region", "operator": "equals", "value": "eu-central"},
        {"fact": "os.id", "operator": "one_of", "value": ["debian", "ubuntu"]},
        {"fact": "patch_level.days_since_update", "operator": "at_most", "value": 7},
        {"fact": "anti_malware.running", "operator": "is", "value": True},
        {"fact": "anti_malware.pattern_age_hours", "operator": "at_most", "value": 24},
        {"fact": "users", "operator": "excludes", "value": ["intruder"]},
        {"fact": "enabled_units", "operator": "includes_all", "value": ["ssh.service"]},
        {"fact": "request.source_ip", "operator": "in_networks", "value": ["10.0.0.0/8"]},
        {"fact": "network_services", "operator": "ports_only", "value": ["tcp/22", "tcp/443"]},
    ],
    "on_match": {"action": "approve"},
    "on_fail": {"action": "deny"},
}
CEDAR = """
permit (principal, action, resource) when {
    context.host_name like "web*" &&
    context.location.region == "eu-central" &&
    ["debian", "ubuntu"].contains(context.os.id) &&
    context.patch_level.days_since_update <= 7 &&
    context.anti_malware.running &&
    context.anti_malware.pattern_age_hours <= 24 &&
    !context.users.contains("intruder") &&
    context.enabled_units.containsAll(["ssh.service"]) &&
    context.source_ip.isInRange(ip("10.0.0.0/8")) &&
    ["tcp/22", "tcp/443"].containsAll(context.ports)
};
"""
GOOD: dict[str, Any] = {
    "host_name": "web17",
    "location": {"region": "eu-central"},
    "os": {"id": "debian"},
    "patch_level": {"days_since_update": 3},
    "anti_malware": {"running": True, "pattern_age_hours": 5},
    "users": ["root", "ops"],
    "enabled_units": ["cron.service", "nginx.service", "ssh.service"],
    "source_ip": "10.1.2.3",
    "ports": [22, 443],
}
BROKEN: tuple[dict[str, Any], ...] = (
    {"host_name": "db17"},
    {"location": {"region": "us-east"}},
    {"os": {"id": "fedora"}},
    {"patch_level": {"days_since_update": 8}},
    {"anti_malware": {"running": False, "pattern_age_hours": 5}},
    {"anti_malware": {"running": True, "pattern_age_hours": 25}},
    {"users": ["root", "intruder"]},
    {"enabled_units": ["cron.service"]},
    {"source_ip": "192.168.1.1"},
    {"ports": [22, 443, 8080]},
)


class Ours:
    """SecureCloud's policy."""

    name = f"securecloud {__version__}"

    def __init__(self, *, with_results: bool = False) -> None:
        self.policy: Policy = compile_policy(POLICY)
        self._with_results = with_results
        if with_results:
            self.name = "  and each rule beside its value"

    def prepare(self, machine: dict[str, Any]) -> dict[str, Fact]:
        """Return what a machine's evidence is when the exchange has read it."""
        facts = {key: Fact(value) for key, value in machine.items()}
        ports, source = facts.pop("ports").value, facts.pop("source_ip").value
        services = [
            {"protocol": "tcp", "address": "::", "port": port, "process": "x"} for port in ports
        ]
        facts["network_services"] = Fact(services)
        facts["request"] = Fact({"source_ip": source}, Provenance.OBSERVED)
        return facts

    def permits(self, evidence: dict[str, Fact]) -> bool:
        """Decide."""
        evaluation = self.policy.evaluate(evidence)
        if self._with_results:
            return all(result.passed for result in evaluation.results)
        return evaluation.matched


class Cedar:
    """Cedar's policy, by way of its bindings for Python."""

    name = f"cedarpy {version('cedarpy')}"

    def __init__(self) -> None:
        self._policies = cedarpy.PolicySet.from_str(CEDAR)
        self._entities = cedarpy.Entities.from_json_str("[]")

    def prepare(self, machine: dict[str, Any]) -> dict[str, Any]:
        """Return the request for a machine."""
        address = {"__extn": {"fn": "ip", "arg": machine["source_ip"]}}
        ports = [f"tcp/{port}" for port in machine["ports"]]
        return {
            "principal": 'Machine::"web17"',
            "action": 'Action::"release"',
            "resource": 'Device::"data"',
            "context": {**machine, "source_ip": address, "ports": ports},
        }

    def permits(self, request: dict[str, Any]) -> bool:
        """Decide."""
        answer = cedarpy.is_authorized(request, self._policies, self._entities)
        return answer.decision == cedarpy.Decision.Allow


System = Ours | Cedar


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when the systems do not agree, for ``make``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="of each system (default: 9)")
    parser.add_argument("--count", type=int, default=20_000, help="a round (default: 20000)")
    options = parser.parse_args(arguments)
    systems: list[System] = [Ours(), Ours(with_results=True), Cedar()]
    for system in systems:
        if answers(system) != [True] + [False] * len(BROKEN):
            print(f"{system.name} does not answer as the policy is meant", file=sys.stderr)
            return 1
    rounds: dict[str, list[float]] = {system.name: [] for system in systems}
    for _ in range(options.rounds):
        for system in systems:
            evidence = system.prepare(GOOD)
            rounds[system.name].append(microseconds(system.permits, evidence, options.count))
    report(rounds, systems)
    return 0


def answers(system: System) -> list[bool]:
    """Return the decision on the good machine, then on each broken one."""
    machines = [GOOD, *({**GOOD, **broken} for broken in BROKEN)]
    return [system.permits(system.prepare(machine)) for machine in machines]


def microseconds(decide: Callable[[Any], bool], evidence: Any, count: int) -> float:
    """Return the processor time of one decision."""
    for _ in range(count // 20):
        decide(evidence)
    start = time.process_time_ns()
    for _ in range(count):
        decide(evidence)
    return (time.process_time_ns() - start) / count / 1000


def report(rounds: dict[str, list[float]], systems: Sequence[System]) -> None:
    """Print the table and write the file."""
    peer = statistics.median(rounds[systems[-1].name])
    print(f"{'ten rules, one machine':<36} {'µs CPU':>8} {'ratio':>6}   (median of rounds)")
    for name, figures in rounds.items():
        median = statistics.median(figures)
        print(f"{name:<36} {median:>8.1f} {median / peer:>6.2f}")
    OUT.mkdir(exist_ok=True)
    path = OUT / "policy.json"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    found = {"at": at, "machine": machine_facts(), "microseconds": rounds}
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"every round is in {path.relative_to(OUT.parents[1])}")


if __name__ == "__main__":
    sys.exit(main())
