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

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.records import Actor, AuditEvent
from securecloud_server.storage.database import SqlDatabase
from securecloud_server.storage.runner import Runner
from securecloud_server.storage.schema import AUDIT_EVENTS
from securecloud_server.storage.transaction import SqlTransaction

ACTION = "audit.archived"

Progress = Callable[[int, int], None]
"""Is told how many events were removed, of how many."""

_AT_ONCE = 10_000
_FIRST = select(func.min(AUDIT_EVENTS.c.seq))
_YOUNGER = select(func.min(AUDIT_EVENTS.c.seq)).where(AUDIT_EVENTS.c.at >= bindparam("before"))
_LAST_ARCHIVED = (
    select(AUDIT_EVENTS.c.body)
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


def archived_until(body: bytes) -> int:
    """Return up to which event (exclusive) the log was archived, as a leaf of ACTION says."""
    try:
        return int(leaf.decode(body)["details"]["end"])
    except (LeafError, KeyError, TypeError, ValueError):
        raise Unavailable("an event says that others were archived, and not which") from None


def first_kept(runner: Runner, size: int) -> int:
    """Return the number of the first event that is still here, of a log of `size`.

    Unavailable when one before it is in no archive.
    """
    found = runner.rows(_FIRST)[0][0]
    first = size if found is None else int(found)
    if first > _archived(runner):
        raise Unavailable(
            f"the audit log is damaged (events before {first} are missing, and were not archived);"
            " run securecloud-server audit verify"
        )
    return first


def _archived(runner: Runner) -> int:
    row = runner.row(_LAST_ARCHIVED, {"action": ACTION})
    return 0 if row is None else archived_until(row[0])


def older_than(database: SqlDatabase, before: int) -> Span:
    """Return the events up to the first one of `before` (milliseconds since 1970) or later.

    Not one behind it, for clocks may have been set back.
    """
    with database.read() as transaction:
        size = transaction.log.size()
        first = max(first_kept(transaction.runner, size), _archived(transaction.runner))
        younger = transaction.runner.rows(_YOUNGER, {"before": before})[0][0]
    return Span(first, max(first, size if younger is None else int(younger)))


def record(database: SqlDatabase, actor: Actor, archive: Archive) -> None:
    """Write into the log that these events are in an archive, which is on disk."""
    details: dict[str, Any] = {
        "start": archive.span.start,
        "end": archive.span.end,
        "leaves": archive.leaves.hex(),
        "file": archive.file,
    }
    event = AuditEvent(actor, ACTION, "audit_log", "success", "", details)
    database.write(lambda transaction: transaction.audit.append(event))


def remove_archived(database: SqlDatabase, progress: Progress) -> int:
    """Remove what the log says is archived, also what an earlier run left; return how many."""
    with database.read() as transaction:
        end = _archived(transaction.runner)
        first = first_kept(transaction.runner, transaction.log.size())
    for start in range(first, end, _AT_ONCE):
        upto = min(start + _AT_ONCE, end)
        _remove(database, upto)
        progress(upto - first, end - first)
    return max(0, end - first)


def _remove(database: SqlDatabase, end: int) -> None:
    def work(transaction: SqlTransaction) -> None:
        transaction.runner.change(_REMOVE, {"end": end})

    database.write(work)
