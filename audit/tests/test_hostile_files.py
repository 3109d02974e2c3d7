"""A bundle may come from an enemy: its schema is compared, never run; its sizes are bounded."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from securecloud_audit import reader, schema
from securecloud_audit.reader import Unsound, opened

from audit.tests.bundles import Bundle
from audit.tests.conftest import check

ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n FROM c)"
EVENTS = ", ".join(schema.EVENT_COLUMNS)


def only_finding(bundle: Bundle) -> str:
    (finding,) = check(bundle).findings
    return finding


@pytest.mark.parametrize(
    ("statements", "finding"),
    [
        (
            [
                "ALTER TABLE events RENAME TO real",
                f"CREATE VIEW events AS SELECT {EVENTS} FROM real",
            ],
            "the file holds table 'real', which no bundle has",
        ),
        (
            [
                "DROP TABLE events",
                f"CREATE VIEW events ({EVENTS}) AS {ENDLESS} "
                f"SELECT {', '.join('n' for _ in schema.EVENT_COLUMNS)} FROM c",
            ],
            "table events is not defined as a bundle's is",
        ),
        (
            ["DROP VIEW by_actor", f"CREATE VIEW by_actor AS {ENDLESS} SELECT n FROM c"],
            "view by_actor is not defined as a bundle's is",
        ),
        (
            [
                "DROP VIEW refused_or_failed",
                "CREATE VIEW refused_or_failed AS SELECT * FROM events WHERE 0",
            ],
            "view refused_or_failed is not defined as a bundle's is",
        ),
        (
            ["CREATE TRIGGER gone AFTER INSERT ON events BEGIN DELETE FROM events; END"],
            "the file holds trigger 'gone', which no bundle has",
        ),
        (
            ["ALTER TABLE events ADD COLUMN more TEXT AS (reason) VIRTUAL"],
            "table events is not defined as a bundle's is",
        ),
        (
            [
                "DROP TABLE manifest",
                schema.MANIFEST.replace(
                    "document TEXT NOT NULL", "document TEXT AS ('{}') STORED NOT NULL"
                ),
            ],
            "table manifest is not defined as a bundle's is",
        ),
        (
            [
                "DROP TABLE manifest",
                "CREATE VIRTUAL TABLE manifest USING fts5(id, document, signature)",
            ],
            "",
        ),
        (["DROP INDEX events_by_actor"], "the file lacks the index events_by_actor"),
        (["DROP VIEW by_day"], "the file lacks the view by_day"),
        (["CREATE TABLE extra (x)"], "the file holds table 'extra', which no bundle has"),
        (["ANALYZE"], "the file holds table 'sqlite_stat1', which no bundle has"),
        (
            ['CREATE TABLE "\x1b[2J" (x)'],
            r"the file holds table '\x1b[2J', which no bundle has",
        ),
        (
            [
                "DROP TABLE events_fts",
                schema.SEARCH.replace("content=[events]", "content=[manifest]"),
            ],
            "table events_fts is not defined as a bundle's is",
        ),
    ],
)
def test_another_schema_is_refused_by_name(
    bundle: Bundle, statements: list[str], finding: str
) -> None:
    bundle.sql(*statements)
    assert finding in only_finding(bundle)


@pytest.mark.parametrize(
    "change",
    [
        # A row of sqlite_master that says one thing in its text and another in its columns.
        "UPDATE sqlite_master SET type = 'view' WHERE name = 'events'",
        "UPDATE sqlite_master SET rootpage = 0 WHERE name = 'events'",
        "UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'events'",
        "UPDATE sqlite_master SET tbl_name = 'manifest' WHERE name = 'events'",
        "UPDATE sqlite_master SET sql = 'hello' WHERE name = 'events'",
        "UPDATE sqlite_master SET sql = NULL WHERE name = 'manifest'",
        "UPDATE sqlite_master SET name = x'00ff' WHERE name = 'by_day'",
    ],
)
def test_a_schema_that_was_written_by_hand(bundle: Bundle, change: str) -> None:
    bundle.sql("PRAGMA writable_schema = ON", change)
    assert only_finding(bundle)


def test_values_of_wrong_types(bundle: Bundle) -> None:
    """STRICT binds who writes through SQLite, not who writes the file."""
    plain = schema.EVENTS.removesuffix(" STRICT")
    with closing(sqlite3.connect(bundle.path, isolation_level=None)) as database:
        database.execute("PRAGMA writable_schema = ON")
        change = "UPDATE sqlite_master SET sql = ? WHERE name = 'events'"
        database.execute(change, (plain,))
        database.execute("PRAGMA writable_schema = RESET")
        database.execute("UPDATE events SET reason = 7, leaf = 'text' WHERE seq = 12")
        database.execute("UPDATE events SET role = x'ff' WHERE seq = 13")
        database.execute("PRAGMA writable_schema = ON")
        database.execute(change, (schema.EVENTS,))
    assert not check(bundle).verified


def test_text_that_is_not_utf_8(bundle: Bundle) -> None:
    bundle.sql("UPDATE events SET reason = CAST(x'ff' AS TEXT) WHERE seq = 12")
    assert not check(bundle).verified


def test_a_value_too_large_for_memory_is_not_loaded(bundle: Bundle) -> None:
    bundle.sql("UPDATE events SET leaf = zeroblob(64 * 1024 * 1024) WHERE seq = 12")
    assert "too big" in "".join(check(bundle).findings)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM manifest",
        "INSERT INTO manifest SELECT 2, document, signature FROM manifest",
        "UPDATE manifest SET id = 2",
    ],
)
def test_not_one_manifest(bundle: Bundle, statement: str) -> None:
    bundle.sql(statement)
    assert only_finding(bundle) == "table manifest does not have one row"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("", "not UTF-8 JSON"),
        ("[]", "Manifest: expected an object"),
        ('{"format":2}', "Manifest: missing or unknown member"),
        ('{"format":1,"format":1}', "a JSON object names a member twice"),
        ("[" * 100_000, "not UTF-8 JSON"),
    ],
)
def test_a_manifest_that_cannot_be_read(bundle: Bundle, document: str, problem: str) -> None:
    bundle.sql(f"UPDATE manifest SET document = '{document}'")
    assert problem in only_finding(bundle)


def test_a_range_of_all_numbers_costs_nothing(bundle: Bundle) -> None:
    def change(document: dict[str, dict[str, int]]) -> None:
        document["range"]["start"] = 1
        document["range"]["end"] = document["head"]["size"] = 2**53 - 1

    bundle.change(change, bundle.responder)
    assert "the proof has" in "".join(check(bundle).findings)


def test_a_journal_beside_the_file_does_not_count(bundle: Bundle) -> None:
    """The file alone is the evidence, and verifying writes nothing."""
    with closing(sqlite3.connect(bundle.path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE events SET reason = 'x' WHERE seq = 12")
        octets, beside = bundle.path.read_bytes(), sorted(bundle.path.parent.iterdir())
        assert [path.name for path in beside] == ["bundle.db", "bundle.db-shm", "bundle.db-wal"]
        assert check(bundle).verified
    assert check(bundle).findings  # closing the writer moved its journal into the file
    assert octets != bundle.path.read_bytes()


def test_a_file_that_nobody_may_write_is_enough(bundle: Bundle) -> None:
    before = bundle.path.read_bytes()
    bundle.path.chmod(0o400)
    assert check(bundle).verified
    assert bundle.path.read_bytes() == before
    assert list(bundle.path.parent.iterdir()) == [bundle.path]


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "what?.db", "hash#1.db", "ünï.db"])
def test_any_name_will_do(bundle: Bundle, tmp_path: Path, name: str) -> None:
    assert check(bundle.copy(tmp_path / name)).verified


@pytest.mark.parametrize(
    "query",
    [
        "SELECT load_extension('x')",
        "SELECT upper(name) FROM sqlite_master",
        "SELECT * FROM by_actor",
        "SELECT * FROM events_fts",
        "SELECT * FROM events_fts_data",
        "DELETE FROM events",
        "ATTACH 'x' AS y",
        "PRAGMA writable_schema = ON",
        "PRAGMA table_xinfo(events)",
        f"{ENDLESS} SELECT n FROM c",
    ],
)
def test_the_reader_s_connection_does_nothing_else(bundle: Bundle, query: str) -> None:
    with (
        opened(bundle.path) as it,
        pytest.raises(Unsound, match=r"not authorized|prohibited|constructor failed"),
    ):
        next(it._rows(query))


def test_every_query_of_the_reader_is_fixed() -> None:
    text = Path(reader.__file__).read_text()
    assert text.count("execute(") == 2
