"""Fills an audit log with events like those of releases, for the benchmark of it.

``python -m benchmarks.audit_log EVENTS DIRECTORY`` makes a server in a directory: ``server.toml``,
``log.db`` and its master key; and prints its fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from securecloud_server import app, installation
from securecloud_server.domain.records import Actor, AuditEvent
from securecloud_server.settings import parse_settings

_BATCH = 5000
_MACHINES = 1000


def main(arguments: Sequence[str]) -> int:
    """Make the server and its log."""
    events, directory = int(arguments[0]), Path(arguments[1])
    sections = {
        "storage": {"url": f"sqlite:///{directory}/log.db"},
        "keystore": {"master_key": f"file:{directory}/master.key"},
    }
    lines = [
        f"[{section}]\n{key} = {json.dumps(value)}\n"
        for section, values in sections.items()
        for key, value in values.items()
    ]
    (directory / "server.toml").write_text("".join(lines))
    settings = parse_settings(sections)
    installation.prepare(settings)
    server = app.build(settings)
    try:
        for batch in _batches(events - 1):  # there is one already
            server.database.write(lambda tx, batch=batch: [tx.audit.append(one) for one in batch])
        print(server.responder.fingerprint)
    finally:
        server.close()
    return 0


def _batches(events: int) -> Iterator[list[AuditEvent]]:
    for first in range(0, events, _BATCH):
        yield [_event(number) for number in range(first, min(first + _BATCH, events))]


def _event(number: int) -> AuditEvent:
    machine = number % _MACHINES
    denied = number % 20 == 0
    octets = hashlib.sha256(number.to_bytes(8, "big")).hexdigest()
    details = {
        "session_id": octets[:32],
        "transcript": octets,
        "want": "key",
        "code": "rules" if denied else "approved",
        "boot_id": str(uuid.UUID(hex=octets[:32])),
        "policy": "web",
        "policy_version": 3,
        "key_version": 1,
        "request_id": octets[32:],
        "failing": ["rules[3]"] if denied else [],
    }
    return AuditEvent(
        Actor("agent", f"machine-{machine:05d}", None, f"10.0.{machine >> 8}.{machine & 255}"),
        "key_request.denied" if denied else "key.released",
        f"device:machine-{machine:05d}-data",
        "refused" if denied else "success",
        "rules[3] fails: the patch level is too old" if denied else "the policy approves",
        details,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
