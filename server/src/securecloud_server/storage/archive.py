"""Retention of the audit log: old events go into a bundle, and then out of the database.

Their hashes stay, and so does the tree: no head, no proof and no later event changes. That events
were archived is an event itself, under the signed head, so nobody can say it of what they removed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from securecloud_audit import leaf
from securecloud_audit.leaf import LeafError
from securecloud_audit.merkle import Span
from sqlalchemy import bindparam, delete, func, select

from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.domain.records import Actor, AuditEvent
from securecloud_server.storage.database import SqlDatabase
from securecloud_server.storage.schema import AUDIT_EVENTS
from securecloud_server.storage.transaction import SqlTransaction

ACTION = "audit.archived"

Progress = Callable[[int, int], None]
"""Is told how many events were removed, of how many."""

_AT_ONCE = 10_000
_FIRST = select(func.min(AUDIT_EVENTS.c.seq))
_YOUNGER = select(func.min(AUDIT_EVENTS.c.seq)).where(AUDIT_EVENTS.c.at >= bindparam("before"))
_LAST_ARCHIVED = (
    select(AUDIT_EVENTS.c.seq, AUDIT_EVENTS.c.body)
    .where(AUDIT_EVENTS.c.action == bindparam("action"))
    .order_by(AUDIT_EVENTS.c.seq.desc())
    .limit(1)
)
_REMOVE = delete(AUDIT_EVENTS).where(AUDIT_EVENTS.c.seq < bindparam("end"))


@dataclass(frozen=True, slots=True)
class Archive:
    """A bundle that holds events: which ones, the digest of their leaves, and its file."""

    span: Span
    leaves: bytes
    file: str


def archived_until(seq: int, body: bytes) -> int:
    """Return up to which event (exclusive) the log was archived, as leaf `seq` of ACTION says."""
    try:
        event = leaf.decode(body)
        end = int(event["details"]["end"])
        if event["action"] == ACTION and 0 <= end <= seq:
            return end
    except (LeafError, KeyError, TypeError, ValueError):
        pass
    raise Unavailable(f"event {seq} says that others were archived, and not which")


def first_kept(transaction: SqlTransaction) -> int:
    """Return the number of the first event that is still here.

    Unavailable when one before it is in no archive.
    """
    found = transaction.runner.rows(_FIRST)[0][0]
    first = transaction.log.size() if found is None else int(found)
    if first > _archived(transaction):
        raise Unavailable(
            f"the audit log is damaged (events before {first} are missing, and were not archived);"
            " run securecloud-server audit verify"
        )
    return first


def _archived(transaction: SqlTransaction) -> int:
    """Return what the log proves: nothing is removed because of what only a row says."""
    row = transaction.runner.row(_LAST_ARCHIVED, {"action": ACTION})
    if row is None:
        return 0
    transaction.log.require_leaf(*row)
    return archived_until(*row)


def _begin(transaction: SqlTransaction) -> int:
    """Return the first event that is in no archive."""
    return max(first_kept(transaction), _archived(transaction))


def older_than(database: SqlDatabase, before: int) -> Span:
    """Return the events up to the first one of `before` (milliseconds since 1970) or later.

    Not one behind it, for clocks may have been set back.
    """
    with database.read() as transaction:
        size, first = transaction.log.size(), _begin(transaction)
        younger = transaction.runner.rows(_YOUNGER, {"before": before})[0][0]
    return Span(first, max(first, size if younger is None else int(younger)))


def record(database: SqlDatabase, actor: Actor, archive: Archive) -> None:
    """Write into the log that these events are in an archive, which is on disk.

    Conflict when others archived some of them meanwhile.
    """
    details: dict[str, Any] = {
        "start": archive.span.start,
        "end": archive.span.end,
        "leaves": archive.leaves.hex(),
        "file": archive.file,
    }
    event = AuditEvent(actor, ACTION, "audit_log", "success", "", details)

    def work(transaction: SqlTransaction) -> None:
        if _begin(transaction) != archive.span.start:
            raise Conflict(f"others archived meanwhile: {archive.file} is not needed")
        transaction.audit.append(event)

    database.write(work)


def remove_archived(database: SqlDatabase, progress: Progress) -> int:
    """Remove what the log says is archived, also what an earlier run left; return how many."""
    with database.read() as transaction:
        end, first = _archived(transaction), first_kept(transaction)
    for start in range(first, end, _AT_ONCE):
        upto = min(start + _AT_ONCE, end)
        _remove(database, upto)
        progress(upto - first, end - first)
    return max(0, end - first)


def _remove(database: SqlDatabase, end: int) -> None:
    def work(transaction: SqlTransaction) -> None:
        transaction.runner.change(_REMOVE, {"end": end})

    database.write(work)
