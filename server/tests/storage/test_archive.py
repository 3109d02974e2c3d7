"""Retention: events leave the database, and nothing that was signed or proved changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from securecloud_audit import merkle
from securecloud_audit.merkle import Span
from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.domain.records import Actor
from securecloud_server.storage import archive
from securecloud_server.storage.archive import Archive
from securecloud_server.storage.audit import event_body
from securecloud_server.storage.database import SqlDatabase
from securecloud_server.storage.schema import AUDIT_EVENTS
from securecloud_server.storage.verification import verify_audit
from sqlalchemy import text, update

from server.tests.storage.conftest import check_signature
from server.tests.storage.records import event
from server.tests.storage.test_bundle import START, Log, check

ACTOR = Actor("cli", "root")


@pytest.fixture
def log(url: str) -> Iterator[Log]:
    log = Log(url)
    yield log
    log.database.close()


@pytest.fixture
def long(database: SqlDatabase) -> SqlDatabase:
    """A log of ten events."""
    for number in range(10):
        database.write(lambda tx, n=number: tx.audit.append(event(n)))
    return database


def archive_until(database: SqlDatabase, end: int, *, remove: bool = True) -> None:
    start = archive.older_than(database, 0).start
    archive.record(database, ACTOR, Archive(Span(start, end), b"\x05" * 32, "/a.db"))
    if remove:
        archive.remove_archived(database, lambda *_: None)


def execute(database: SqlDatabase, statement: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(statement))


def numbers(database: SqlDatabase) -> list[int]:
    with database.read() as tx:
        return [entry.seq for entry in tx.audit.page(None, 100, {})]


def test_what_is_archived_leaves_its_hash(long: SqlDatabase) -> None:
    with long.read() as tx:
        before = tx.audit.head()
        proof = tx.audit.inclusion(2)
        body = tx.audit.page(1, 1, {})[0].body
    archive_until(long, 6)
    assert numbers(long) == [6, 7, 8, 9, 10]
    report = verify_audit(long, check_signature)
    assert (report.verified, report.events, report.archived) == (True, 11, 6)
    merkle.verify_inclusion(2, before.size, merkle.leaf_hash(body), before.root, proof)
    with long.read() as tx:
        now, consistency = tx.audit.head(), tx.audit.consistency(before.size)
        included = tx.audit.inclusion(2)
    merkle.verify_consistency(before.size, now.size, before.root, now.root, consistency)
    merkle.verify_inclusion(2, now.size, merkle.leaf_hash(body), now.root, included)


def test_again_and_again(long: SqlDatabase) -> None:
    for end in (3, 4, 11, 12):
        archive_until(long, end)
        assert numbers(long)[0] == end
        assert verify_audit(long, check_signature).verified
    assert len(numbers(long)) == 2


def test_an_interrupted_removal_goes_on(long: SqlDatabase) -> None:
    archive_until(long, 6, remove=False)
    execute(long, "DELETE FROM audit_events WHERE seq < 4")
    assert verify_audit(long, check_signature).verified
    assert archive.older_than(long, 2**60) == Span(6, 11)
    assert archive.remove_archived(long, lambda *_: None) == 2
    assert numbers(long)[0] == 6
    assert archive.remove_archived(long, lambda *_: None) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_events WHERE seq < 7",
        "DELETE FROM audit_events WHERE seq = 8",
        "DELETE FROM audit_events WHERE action = 'audit.archived'",
        "DELETE FROM audit_events",
        "DELETE FROM audit_nodes WHERE level = 0 AND idx = 2",
        "DELETE FROM audit_nodes WHERE level = 1 AND idx = 1",
        "UPDATE audit_nodes SET hash = (SELECT hash FROM audit_nodes WHERE level = 0 AND idx = 0)"
        " WHERE level = 0 AND idx = 2",
    ],
)
def test_tampering_with_an_archived_log_is_found(long: SqlDatabase, statement: str) -> None:
    archive_until(long, 6)
    execute(long, statement)
    assert not verify_audit(long, check_signature).verified


def test_who_removes_events_cannot_say_that_they_were_archived(log: Log, tmp_path: Path) -> None:
    log.append(*range(10))
    execute(log.database, "DELETE FROM audit_events WHERE seq < 4")
    report = verify_audit(log.database, lambda *_: None)
    assert not report.verified
    assert "events before 4 are missing, and were not archived" in str(report.problem)
    for step in (
        lambda: archive.older_than(log.database, 2**60),
        lambda: archive.remove_archived(log.database, lambda *_: None),
        lambda: log.export(tmp_path / "bundle.db"),
    ):
        with pytest.raises(Unavailable, match="are missing, and were not archived"):
            step()


def test_a_row_that_only_says_so_archives_nothing(long: SqlDatabase) -> None:
    body = event_body(3, 1, event(3, action=archive.ACTION, details={"start": 0, "end": 3}))
    with long.engine.begin() as connection:
        changed = update(AUDIT_EVENTS).where(AUDIT_EVENTS.c.seq == 3)
        connection.execute(changed.values(action=archive.ACTION, body=body))
    for step in (
        lambda: archive.older_than(long, 2**60),
        lambda: archive.remove_archived(long, lambda *_: None),
    ):
        with pytest.raises(Unavailable, match="event 3 is not in its tree"):
            step()
    assert len(numbers(long)) == 10


def test_of_two_that_archive_at_the_same_time_one_is_told(long: SqlDatabase) -> None:
    archive_until(long, 6, remove=False)
    late = Archive(Span(0, 4), b"\x05" * 32, "/late.db")
    with pytest.raises(Conflict, match=r"/late\.db is not needed"):
        archive.record(long, ACTOR, late)
    assert archive.remove_archived(long, lambda *_: None) == 6
    assert archive.older_than(long, 2**60).start == 6


@pytest.mark.parametrize("since", [None, 0])
def test_a_bundle_begins_behind_what_is_archived(
    log: Log, tmp_path: Path, since: int | None
) -> None:
    log.append(*range(10))
    archive_until(log.database, 6)
    stated = log.export(tmp_path / "bundle.db", since=since)
    assert (stated.range.start, stated.range.end) == (6, 11)
    assert check(tmp_path / "bundle.db").verified


def test_nothing_behind_the_first_younger_event_is_archived(log: Log) -> None:
    for number, at in enumerate([10, 20, 90, 30]):
        log.append(number, at=at)
    assert archive.older_than(log.database, (START + 50) * 1000) == Span(0, 2)
