"""Bundles made by the words of docs/audit.md alone: slowly, without the server, and forgeable."""

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from securecloud_audit import schema
from securecloud_protocol.encoding import b64u_decode, b64u_encode
from securecloud_protocol.server import Responder, ServerKeys

Change = Callable[[dict[str, Any]], None]
NOW = 1_800_000_000


def server(number: int = 1) -> Responder:
    seed = bytes([number])
    name = str(uuid.UUID(int=number, version=4))
    return Responder(ServerKeys(name, seed * 96, seed * 32, seed * 32), ())


def event(seq: int, **changes: Any) -> dict[str, Any]:
    device = f"web{seq % 3}-data"
    document = {
        "seq": seq,
        "at": NOW * 1000 + seq * 3_600_250,
        "actor": {"kind": "agent", "name": f"web{seq % 3}", "role": None, "source": "192.0.2.7"},
        "action": "key.released",
        "object": f"device:{device}",
        "outcome": "refused" if seq % 5 == 0 else "success",
        "reason": f"the policy says so, for the {seq}th time",
        "details": {"request_id": f"01{seq:06}", "session_id": f"{seq:032x}", "failing": []},
    }
    return {**document, **changes}


def leaf(document: dict[str, Any]) -> bytes:
    return json.dumps(
        document, ensure_ascii=False, sort_keys=True, separators=(",", ":")
    ).encode()  # fmt: skip


LOG = [leaf(event(seq)) for seq in range(40)]


def root(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162, section 2.1.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = _split(len(leaves))
    return hashlib.sha256(b"\1" + root(leaves[:k]) + root(leaves[k:])).digest()


def _split(size: int) -> int:
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def outside(leaves: Sequence[bytes], start: int, end: int) -> tuple[list[bytes], list[bytes]]:
    """Go down the RFC's tree; note each complete subtree that has nothing of the range in it."""
    before: list[bytes] = []
    behind: list[bytes] = []

    def descend(low: int, high: int) -> None:
        size = high - low
        if size and (high <= start or low >= end) and size & (size - 1) == 0:
            (before if high <= start else behind).append(root(leaves[low:high]))
        elif size > 1:
            k = _split(size)
            descend(low, low + k)
            descend(low + k, high)

    descend(0, len(leaves))
    return before, behind


def row(body: bytes) -> tuple[Any, ...]:
    """Return the readable columns of a leaf."""
    document = json.loads(body)
    seconds, rest = divmod(document["at"], 1000)
    moment = sqlite3.connect(":memory:").execute(
        "SELECT strftime('%Y-%m-%dT%H:%M:%S', ?, 'unixepoch')", (seconds,)
    )
    actor, details = document["actor"], document["details"]
    device = document["object"].partition("device:")[2] or None
    return (
        document["seq"],
        f"{moment.fetchone()[0]}.{rest:03}Z",
        f"{actor['kind']}:{actor['name']}",
        actor["role"],
        actor["source"],
        document["action"],
        document["object"],
        document["outcome"],
        document["reason"],
        device,
        details.get("request_id"),
        details.get("session_id"),
        leaf(details).decode(),
        body,
    )


def manifest(
    responder: Responder, log: Sequence[bytes], start: int, end: int
) -> dict[str, Any]:  # fmt: skip
    left, right = outside(log, start, end)
    tree = root(log)
    identity = responder.identity
    digest = hashlib.sha256()
    for body in log[start:end]:
        digest.update(len(body).to_bytes(4, "big") + body)
    return {
        "format": 1,
        "server": {
            "server_id": identity.server_id,
            "kem_key": b64u_encode(identity.kem_key),
            "signing_key": b64u_encode(identity.signing_key),
        },
        "fingerprint": responder.fingerprint,
        "made_at": NOW + 900,
        "since": None,
        "until": None,
        "head": {
            "size": len(log),
            "root": b64u_encode(tree),
            "time": NOW,
            "signature": b64u_encode(responder.sign_audit_head(len(log), tree, NOW)),
        },
        "range": {
            "start": start,
            "end": end,
            "left": [b64u_encode(value) for value in left],
            "right": [b64u_encode(value) for value in right],
        },
        "leaves": b64u_encode(digest.digest()),
    }


@dataclass(frozen=True)
class Bundle:
    """A bundle on the disk, and the server that made it."""

    path: Path
    responder: Responder

    def sql(self, *statements: str) -> None:
        """Tamper with the file."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            for statement in statements:
                database.execute(statement)

    def change(self, change: Change, signer: Responder | None = None) -> None:
        """Tamper with the manifest; `signer` signs what comes out, or nobody does."""
        with closing(sqlite3.connect(self.path)) as database:
            (text,) = database.execute("SELECT document FROM manifest").fetchone()
            document = json.loads(text)
            change(document)
            text = json.dumps(document, separators=(",", ":"))
            database.execute("UPDATE manifest SET document = ?", (text,))
            if signer:
                signature = signer.sign_audit_bundle(text.encode())
                database.execute("UPDATE manifest SET signature = ?", (signature,))
            database.commit()

    @property
    def fingerprint(self) -> bytes:
        return b64u_decode(self.responder.fingerprint)

    def copy(self, path: Path) -> "Bundle":
        path.write_bytes(self.path.read_bytes())
        return replace(self, path=path)


def make(
    path: Path,
    responder: Responder,
    log: Sequence[bytes] = LOG,
    start: int = 9,
    end: int = 21,
) -> Bundle:
    document = json.dumps(manifest(responder, log, start, end), separators=(",", ":"))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        database.execute("PRAGMA user_version = 1")
        for statement in (schema.EVENTS, schema.MANIFEST, *schema.INDEXES.values(), schema.SEARCH):
            database.execute(statement)
        for statement in schema.VIEWS.values():
            database.execute(statement)
        places = ", ".join("?" * len(schema.EVENT_COLUMNS))
        rows = [row(body) for body in log[start:end]]
        database.executemany(f"INSERT INTO events VALUES ({places})", rows)
        database.execute("INSERT INTO events_fts (events_fts) VALUES ('rebuild')")
        signature = responder.sign_audit_bundle(document.encode())
        database.execute("INSERT INTO manifest VALUES (1, ?, ?)", (document, signature))
    return Bundle(path, responder)
