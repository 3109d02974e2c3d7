"""A draft of a policy replayed on the last evidence of a fleet.

``python -m benchmarks.replay`` prints a table and writes ``benchmarks/out/replay.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from securecloud_server import app, installation
from securecloud_server.domain.evidence import Fact, Provenance
from securecloud_server.domain.policy import compile_policy
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.recorded import circumstances, document
from securecloud_server.domain.records import Actor, Agent, Device, Key, KeyRequest, Sighting
from securecloud_server.settings import parse_settings
from securecloud_server.storage.migrations import upgrade

from benchmarks.here import OUT, machine_facts
from benchmarks.securecloud import FACTS, POLICY, rule

_ACTOR = Actor("cli", "benchmark")
_NAME = "benchmark"
DRAFT: dict[str, Any] = {
    **POLICY,
    "rules": [*POLICY["rules"], rule("host_name", "matches", "machine-.*[0-6]")],
}
"""Eleven rules: three machines in ten would lose their keys."""
HISTORY = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 when the answer was wrong, for ``make``."""
    options = _options(arguments)
    OUT.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="work-", dir=OUT) as work,
        _server(Path(work)) as server,
    ):
        _fill(server, options.machines)
        replay = server.admin.policy_replay
        web, token = app.web(server).test_client(), _token(server)

        def call() -> int:
            answer = web.post(
                f"/api/v1/policies/{_NAME}:evaluate",
                json={"draft": DRAFT},
                headers={"Authorization": f"Bearer {token}"},
            )
            return int(answer.json["totals"]["lose"])  # type: ignore[index]  # it is JSON

        figures = {
            "service": _timed(
                lambda: replay.evaluate(_ACTOR, _NAME, DRAFT).totals()["lose"], options.rounds
            ),
            "request to answer": _timed(call, options.rounds),
        }
    losers = sum(number % 10 > 6 for number in range(options.machines))
    right = all(timed.found == losers for timed in figures.values())
    report = {
        "benchmark": "policy replay",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "machines": options.machines,
        "rules": len(DRAFT["rules"]),
        "history": HISTORY,
        "rounds": options.rounds,
        "median_ms": {
            name: {"wall": timed.wall, "cpu": timed.cpu} for name, timed in figures.items()
        },
    }
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{options.machines} machines, {HISTORY} documents each, {len(DRAFT['rules'])} rules")
    print(f"{'':<20}{'ms':>9}{'CPU ms':>9}")
    for name, timed in figures.items():
        print(f"{name:<20}{timed.wall:>9.1f}{timed.cpu:>9.1f}")
    return 0 if right else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.add_argument("--machines", type=int, default=1000, help="machines with a device each")
    parser.add_argument("--rounds", type=int, default=5, help="replays, of which the median counts")
    parser.add_argument("--output", type=Path, default=OUT / "replay.json")
    return parser.parse_args(arguments)


class Timed(NamedTuple):
    """The median milliseconds that a replay took, by the clock and of a processor."""

    wall: float
    cpu: float
    found: int
    """What the last one found."""


def _timed(work: Callable[[], int], rounds: int) -> Timed:
    wall, cpu, found = [], [], 0
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        found = work()
        wall.append((time.perf_counter() - start) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    return Timed(round(statistics.median(wall), 1), round(statistics.median(cpu), 1), found)


@contextmanager
def _server(work: Path) -> Iterator[app.Application]:
    settings = parse_settings(
        {
            "storage": {"url": f"sqlite:///{work}/securecloud.db"},
            "keystore": {"master_key": f"file:{work}/master.key"},
        }
    )
    installation.prepare(settings)
    server = app.build(settings, [b"certificate"])
    try:
        upgrade(server.database.engine)
        yield server
    finally:
        server.close()


def _token(server: app.Application) -> str:
    return server.admin.api_tokens.create(_ACTOR, _NAME, "auditor", None)[1]


def _fill(server: app.Application, machines: int) -> None:
    """Give every machine a device, a key, and a history of evidence."""
    server.admin.policies.put(_ACTOR, _NAME, POLICY)
    for first in range(0, machines, 100):
        numbers = range(first, min(first + 100, machines))
        server.database.write(lambda tx, numbers=numbers: [_live(tx, n) for n in numbers])


def _live(tx: Transaction, number: int) -> None:
    name, now = f"machine-{number:05d}", int(time.time())
    agent_id, device_id = str(uuid.uuid4()), str(uuid.uuid4())
    volume = {"source": "/dev/data", "mount_point": "/srv"}
    tx.agents.add(Agent(name, agent_id, number.to_bytes(32, "big"), "active", now))
    tx.devices.add(Device(f"{name}-data", device_id, name, None, _NAME, True, volume, now, now))
    tx.keys.put(Key(device_id, 1, "active", "local", bytes(100), now))
    tx.requests.add(_delivered(name, device_id, now))
    for seq in range(HISTORY):
        claims = {fact: Fact(value) for fact, value in FACTS.items()}
        claims |= {"host_name": Fact(name), "users": Fact(["root", f"admin{seq}"])}
        asked: dict[str, tuple[str, ...]] = dict.fromkeys(claims, ())
        seen = {**claims, "request": Fact(_request(now), Provenance.OBSERVED)}
        body = json.dumps(document(claims, asked), sort_keys=True)
        sighting = Sighting(
            device_id=device_id,
            seq=seq,
            digest=hashlib.sha256(body.encode()).digest(),
            agent_id=agent_id,
            first_at=now,
            last_at=now,
            session_id=bytes(16),
            request_id=str(uuid.uuid4()),
            outcome="granted",
            code="approved",
            boot_id=str(uuid.uuid4()),
            circumstances=circumstances(seen, asked),
        )
        tx.evidence.keep(sighting, body, HISTORY)


def _delivered(name: str, device_id: str, now: int) -> KeyRequest:
    """Return the request with which the machine got its key, with its ten rules."""
    results = compile_policy(POLICY).evaluate({}).results
    return KeyRequest(
        request_id=str(uuid.uuid4()),
        device_id=device_id,
        device=f"{name}-data",
        agent=name,
        boot_id=str(uuid.uuid4()),
        key_version=1,
        state="delivered",
        policy=_NAME,
        policy_version=1,
        matched=True,
        failing=(),
        rules=tuple(result.to_document() for result in results),
        decided_by=f"policy:{_NAME}",
        reason="the policy approves",
        created_at=now,
        updated_at=now,
    )


def _request(now: int) -> dict[str, Any]:
    moment = datetime.fromtimestamp(now, UTC)
    return {
        "source_ip": "127.0.0.1",
        "time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "weekday": "friday",
        "first_seen_hours": 24,
        "clock_skew_seconds": 0,
    }


if __name__ == "__main__":
    sys.exit(main())
