"""Writes evidence bundles: a part of the audit log as one SQLite file that proves itself.

What is in the file, and what is signed, is defined in `securecloud_audit`, which verifies it.
Events go through one at a time; nothing here grows with the log.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlite_utils
from securecloud_audit import leaf, manifest, merkle, schema
from securecloud_audit.leaf import MAX_NUMBER, LeafError
from securecloud_audit.manifest import Head, LeafDigest, Manifest, ManifestError, Range
from securecloud_audit.merkle import ProofError, RangeVerifier, Span
from securecloud_protocol.messages import ServerIdentity
from securecloud_protocol.transcript import fingerprint
from sqlalchemy import bindparam, func, select

from securecloud_server.domain.errors import Unavailable
from securecloud_server.storage.archive import first_kept
from securecloud_server.storage.database import SqlDatabase
from securecloud_server.storage.runner import Runner
from securecloud_server.storage.schema import AUDIT_EVENTS
from securecloud_server.storage.transaction import SqlTransaction

Progress = Callable[[int, int], None]
"""Is told how many events were written, of how many."""

_BODIES = (
    select(AUDIT_EVENTS.c.seq, AUDIT_EVENTS.c.body)
    .where(AUDIT_EVENTS.c.seq >= bindparam("start"), AUDIT_EVENTS.c.seq < bindparam("end"))
    .order_by(AUDIT_EVENTS.c.seq)
    .limit(bindparam("limit"))
)
_SINCE = select(func.min(AUDIT_EVENTS.c.seq)).where(AUDIT_EVENTS.c.at >= bindparam("since"))
_WITHIN = select(func.min(AUDIT_EVENTS.c.seq), func.max(AUDIT_EVENTS.c.seq)).where(
    AUDIT_EVENTS.c.at >= bindparam("since"), AUDIT_EVENTS.c.at < bindparam("until")
)
_ONE = select(AUDIT_EVENTS.c.seq).where(AUDIT_EVENTS.c.seq == bindparam("seq"))

# The file is not seen by anybody before it is whole, so nothing in it has to survive a crash.
_PRAGMAS = (
    "journal_mode = OFF",
    "synchronous = OFF",
    "page_size = 8192",  # an event takes a kilobyte, and none is split
    "cache_size = -32768",
    f"application_id = {schema.APPLICATION_ID}",
    f"user_version = {manifest.FORMAT}",
)
_INSERT = f"INSERT INTO events VALUES ({', '.join('?' * len(schema.EVENT_COLUMNS))})"  # noqa: S608 - constants
_STEP = 100_000


@dataclass(frozen=True, slots=True)
class Selection:
    """Events from `since` and before `until`, in milliseconds since 1970; None does not bound."""

    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Author:
    """Who makes a bundle: the server, how it signs a manifest, and the time in seconds."""

    identity: ServerIdentity
    sign: Callable[[bytes], bytes]
    now: int


def write_bundle(
    database: SqlDatabase,
    path: Path,
    selection: Selection | Span,
    author: Author,
    progress: Progress,
) -> Manifest:
    """Write a bundle to `path`, an empty file; return what it says of itself.

    Events that were archived are in other bundles.

    Unavailable when the file cannot be written, or the log is damaged.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            bundle = sqlite_utils.Database(connection, execute_plugins=False)
            bundle.execute(schema.EVENTS)
            bundle.execute(schema.MANIFEST)
            stated = _copy(database, bundle, selection, author, progress)
            _make_searchable(bundle)
            document = manifest.encode(stated)
            bundle.table("manifest").insert(
                {"id": 1, "document": document.decode(), "signature": author.sign(document)}
            )
    except sqlite3.Error as error:
        raise Unavailable(f"the bundle cannot be written: {error}") from error
    return stated


def _copy(
    database: SqlDatabase,
    bundle: sqlite_utils.Database,
    selection: Selection | Span,
    author: Author,
    progress: Progress,
) -> Manifest:
    """Copy the events from one consistent view of the log."""
    with database.read() as transaction:
        head = transaction.log.head()
        span = selection
        if isinstance(span, Selection):
            span = _span(transaction, span, head.size)
        try:
            left, right = transaction.log.range_hashes(span)
        except KeyError as error:
            raise _damaged(f"its tree lacks {error.args[0]}") from None
        copy = _Copy(span, RangeVerifier(span, head.size, left, right), progress)
        with bundle.atomic():
            # `insert_all` looks at each value, which is a fifth of the time of a large log.
            bundle.conn.executemany(_INSERT, copy.rows(transaction.runner))
    stated = Manifest(
        format=manifest.FORMAT,
        server=author.identity,
        fingerprint=fingerprint(author.identity),
        made_at=author.now,
        since=selection.since if isinstance(selection, Selection) else None,
        until=selection.until if isinstance(selection, Selection) else None,
        head=Head(head.size, head.root, head.at, head.signature),
        range=Range(span.start, span.end, left, right),
        leaves=copy.digest.digest(),
    )
    try:
        copy.tree.finish(head.root)
        manifest.check_head(stated)
    except (ProofError, ManifestError) as error:
        raise _damaged(str(error)) from None
    return stated


class _Copy:
    """Turns leaves into rows, and keeps account of them."""

    def __init__(self, span: Span, tree: RangeVerifier, progress: Progress) -> None:
        self._span = span
        self._progress = progress
        self.tree = tree
        self.digest = LeafDigest()

    def rows(self, runner: Runner) -> Iterator[Sequence[Any]]:
        """Give the rows of all events."""
        total = self._span.end - self._span.start
        stored = runner.stream(_BODIES, {"end": self._span.end}, key=0, start=self._span.start)
        for number, (seq, octets) in enumerate(stored, start=1):
            row = self._row(seq, octets, self._span.start + number - 1)
            self.digest.add(octets)
            self.tree.add(merkle.leaf_hash(octets))
            yield row
            if number % _STEP == 0 or number == total:
                self._progress(number, total)

    def _row(self, seq: int, octets: bytes, expected: int) -> tuple[Any, ...]:
        if seq != expected:
            raise _damaged(f"event {expected} is missing")
        try:
            row = leaf.columns(octets)
        except LeafError as error:
            raise _damaged(f"event {seq}: {error}") from None
        if row[0] != seq:
            raise _damaged(f"event {seq} has the body of event {row[0]}")
        return row


def _span(transaction: SqlTransaction, selection: Selection, size: int) -> Span:
    """Return the shortest range with every event of the time: clocks may have been set back."""
    kept, runner = first_kept(transaction), transaction.runner
    if selection == Selection():
        return Span(kept, size)
    since = selection.since or 0
    until = MAX_NUMBER if selection.until is None else selection.until
    first, last = runner.rows(_WITHIN, {"since": since, "until": until})[0]
    if first is None:
        later = runner.rows(_SINCE, {"since": since})[0][0]
        return Span(size, size) if later is None else Span(later, later)
    for neighbour in (first - 1, last + 1):
        # Whoever removed the last events of the time would get a shorter range.
        if kept <= neighbour < size and runner.row(_ONE, {"seq": neighbour}) is None:
            raise _damaged(f"event {neighbour} is missing")
    return Span(first, last + 1)


def _make_searchable(bundle: sqlite_utils.Database) -> None:
    for statement in (*schema.INDEXES.values(), schema.SEARCH, *schema.VIEWS.values()):
        bundle.execute(statement)
    bundle.table("events").rebuild_fts()


def _damaged(problem: str) -> Unavailable:
    return Unavailable(f"the audit log is damaged ({problem}); run securecloud-server audit verify")
