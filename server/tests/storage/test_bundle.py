"""Evidence bundles as the server writes them, verified as an auditor does."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
from securecloud_audit import schema
from securecloud_audit.manifest import Manifest
from securecloud_audit.verify import Pin, Report, verify
from securecloud_protocol.encoding import b64u_decode
from securecloud_protocol.server import Responder, generate_keys
from securecloud_server.domain.errors import Unavailable
from securecloud_server.storage.bundle import Author, Selection, write_bundle
from securecloud_server.storage.database import SqlDatabase, open_database
from sqlalchemy import text

from audit.tests.bundles import outside
from server.tests.storage.conftest import fresh_sqlite
from server.tests.storage.records import HOSTILE, event

START = 1_800_000_000
RESPONDER = Responder(generate_keys("6f1c3a52-0d2b-4b53-9d77-0a4be0ce4f11"), ())


class Log:
    """A log whose clock a test sets, in seconds."""

    def __init__(self, url: str) -> None:
        self.now = START
        self.database = open_database(url, RESPONDER.sign_audit_head, lambda: self.now)

    def append(self, *numbers: int, at: int | None = None, **changes: Any) -> None:
        self.now = self.now if at is None else START + at
        self.database.write(
            lambda tx: [tx.audit.append(event(number, **changes)) for number in numbers]
        )

    def export(self, path: Path, since: int | None = None, until: int | None = None) -> Manifest:
        bounds = [None if at is None else (START + at) * 1000 for at in (since, until)]
        author = Author(RESPONDER.identity, RESPONDER.sign_audit_bundle, self.now)
        return write_bundle(self.database, path, Selection(*bounds), author, lambda *_: None)


def check(path: Path) -> Report:
    pin = Pin(fingerprint=b64u_decode(RESPONDER.fingerprint))
    return verify(path, pin, lambda *_: None)


def objects(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as bundle:
        return [row[0] for row in bundle.execute("SELECT object FROM events ORDER BY seq")]


@pytest.fixture
def log(url: str) -> Iterator[Log]:
    log = Log(url)
    yield log
    log.database.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bundle.db"


def test_the_whole_log(log: Log, path: Path) -> None:
    log.append(*range(13))
    stated = log.export(path)
    report = check(path)
    assert report.findings == ()
    assert (report.events, stated.range.start, stated.range.end) == (13, 0, 13)
    assert (stated.range.left, stated.range.right) == ((), ())
    assert objects(path) == [f"thing:{number}" for number in range(13)]


def test_every_range_of_small_logs(log: Log, path: Path) -> None:
    bodies: list[bytes] = []
    for number in range(9):
        log.append(number, at=number)
        with log.database.read() as tx:
            bodies.append(tx.audit.page(number - 1, 1, {})[0].body)
        for start in range(number + 1):
            for end in range(start, number + 2):
                path.unlink(missing_ok=True)
                stated = log.export(path, since=start, until=end)
                assert (stated.range.start, stated.range.end) == (start, end)
                assert [*map(list, (stated.range.left, stated.range.right))] == [
                    *outside(bodies, start, end)
                ]
                assert check(path).findings == ()


def test_an_empty_log_and_an_empty_range(log: Log, path: Path, tmp_path: Path) -> None:
    log.export(path)
    assert check(path).findings == ()
    log.append(1, 2, 3)
    other = tmp_path / "other.db"
    stated = log.export(other, since=100)
    assert (stated.range.start, stated.range.end, stated.head.size) == (3, 3, 3)
    report = check(other)
    assert (report.findings, report.events) == ((), 0)


def test_a_clock_that_was_set_back_hides_nothing(log: Log, path: Path) -> None:
    """Events of the time wanted come with all between them."""
    for number, at in enumerate([0, 50, 10, 60, 20]):
        log.append(number, at=at)
    stated = log.export(path, since=50, until=61)
    assert (stated.range.start, stated.range.end) == (1, 4)
    assert check(path).verified


def test_who_where_what_why(log: Log, path: Path) -> None:
    details = {"request_id": "01abc", "session_id": "5e55", "failing": ["rules[0]"]}
    refusal = {"object": "device:web1-data", "outcome": "refused", "reason": "patch level too old"}
    log.append(0)
    log.append(1, details=details, **refusal)
    log.append(2, outcome="failed", object="audit")
    log.export(path)
    bundle = sqlite_utils.Database(path)
    row = bundle.table("events").get(1)
    assert row["leaf"].startswith(b'{"action":"test.done"')
    del row["leaf"]
    assert row == {
        "seq": 1,
        "time": "2027-01-15T08:00:00.000Z",
        "actor": "cli:tester",
        "role": None,
        "source": None,
        "action": "test.done",
        "object": "device:web1-data",
        "outcome": "refused",
        "reason": "patch level too old",
        "device": "web1-data",
        "request_id": "01abc",
        "session_id": "5e55",
        "details": '{"failing":["rules[0]"],"request_id":"01abc","session_id":"5e55"}',
    }
    found = bundle.table("events").search('"patch level"')
    assert [each["seq"] for each in found] == [1]
    (by_device,) = bundle["by_device"].rows
    assert by_device == {
        "device": "web1-data",
        "events": 1,
        "refused": 1,
        "failed": 0,
        "first": "2027-01-15T08:00:00.000Z",
        "last": "2027-01-15T08:00:00.000Z",
    }
    (by_actor,) = bundle["by_actor"].rows
    assert (by_actor["actor"], by_actor["events"], by_actor["failed"]) == ("cli:tester", 3, 1)
    assert [each["day"] for each in bundle["by_day"].rows] == ["2027-01-15"]
    assert [each["seq"] for each in bundle["refused_or_failed"].rows] == [1, 2]
    (head,) = bundle["tree_head"].rows
    assert (head["size"], head["signed_at"]) == (3, "2027-01-15 08:00:00")
    bundle.close()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_any_text(log: Log, path: Path, hostile: str) -> None:
    log.append(1, reason=hostile, details={hostile: [hostile], "request_id": hostile})
    log.export(path)
    assert check(path).findings == ()


def test_only_one_file_which_is_like_the_schema(log: Log, path: Path) -> None:
    log.append(1)
    log.export(path)
    assert [each.name for each in path.parent.glob("bundle*")] == ["bundle.db"]
    with closing(sqlite3.connect(path)) as bundle:
        rows = bundle.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        assert {row[1]: row for row in rows} == schema.SCHEMA
        assert bundle.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_others_append_meanwhile(log: Log, path: Path) -> None:
    """The bundle is of one moment: it has the head of its own last event."""
    log.append(*range(3000))
    done, appended = threading.Event(), 0

    def append() -> None:
        nonlocal appended
        while not done.is_set():
            log.append(9)
            appended += 1

    author = Author(RESPONDER.identity, RESPONDER.sign_audit_bundle, START)
    writer = threading.Thread(target=append)
    writer.start()
    try:
        for _ in range(5):
            path.unlink(missing_ok=True)
            told: list[tuple[int, int]] = []
            stated = write_bundle(
                log.database, path, Selection(), author, lambda *it, told=told: told.append(it)
            )
            assert stated.range.end == stated.head.size >= 3000
            assert told == [(stated.head.size, stated.head.size)]
            assert check(path).findings == ()
    finally:
        done.set()
        writer.join()
    assert appended > 1
    with log.database.read() as tx:
        assert tx.audit.size() == 3000 + appended


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM audit_events WHERE seq = 3", "event 3 is missing"),
        ("DELETE FROM audit_events WHERE seq = 5", "event 5 is missing"),
        ("DELETE FROM audit_events WHERE seq = 8", "event 8 is missing"),
        ("DELETE FROM audit_events WHERE seq IN (7, 8)", "event 7 is missing"),
        ("UPDATE audit_events SET body = 'hello' WHERE seq = 5", "event 5: it is not UTF-8 JSON"),
        (
            "UPDATE audit_events SET body = (SELECT body FROM audit_events WHERE seq = 6) "
            "WHERE seq = 5",
            "event 5 has the body of event 6",
        ),
        (
            "UPDATE audit_events SET body = CAST(replace(body, 'tester', 'nobody') AS BLOB) "
            "WHERE seq = 5",
            "do not give the root",
        ),
        ("UPDATE audit_head SET signature = zeroblob(64)", "audit head signature: wrong signature"),
        ("UPDATE audit_nodes SET hash = zeroblob(32) WHERE level = 2", "do not give the root"),
        ("DELETE FROM audit_nodes WHERE level = 2", r"its tree lacks Node\(level=2, offset=0\)"),
    ],
)
def test_a_damaged_log_is_not_signed(tmp_path: Path, statement: str, problem: str) -> None:
    log = Log(fresh_sqlite(tmp_path))
    for number in range(12):
        log.append(number, at=number)
    with log.database.engine.begin() as connection:
        connection.execute(text(statement))
    with pytest.raises(Unavailable, match=problem) as raised:
        log.export(tmp_path / "bundle.db", since=4, until=9)
    assert "run securecloud-server audit verify" in str(raised.value)
    log.database.close()


def test_a_full_disk_is_told(log: Log) -> None:
    log.append(1)
    with pytest.raises(Unavailable, match=r"cannot be written: .*disk"):
        log.export(Path("/dev/full"))


def test_the_database_s_own_troubles_are_told_as_such(database: SqlDatabase, path: Path) -> None:
    author = Author(RESPONDER.identity, RESPONDER.sign_audit_bundle, START)
    with database.engine.begin() as connection:
        connection.execute(text("DROP TABLE audit_events"))
    with pytest.raises(Unavailable, match="database"):
        write_bundle(database, path, Selection(), author, lambda *_: None)
