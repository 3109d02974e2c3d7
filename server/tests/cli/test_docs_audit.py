"""docs/audit.md is true: its example and its queries are run, its tables are the code's."""

import os
import re
import sqlite3
import subprocess
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from securecloud_audit import schema
from securecloud_audit.manifest import FORMAT
from securecloud_protocol.server import Responder, generate_keys
from securecloud_server.domain.records import Actor, AuditEvent
from securecloud_server.storage import migrations
from securecloud_server.storage.bundle import Author, Selection, write_bundle
from securecloud_server.storage.database import SqlDatabase, make_engine, open_database

from server.tests.cli.conftest import PROGRAM

TEXT = (Path(__file__).parents[3] / "docs/audit.md").read_text(encoding="utf-8")
RESPONDER = Responder(generate_keys("6f1c3a52-0d2b-4b53-9d77-0a4be0ce4f11"), ())
AGENT = Actor("agent", "web1", None, "192.0.2.7")
DENIED = {"session_id": "5e55", "request_id": "01jf"}


def marked(name: str) -> str:
    match = re.search(f"<!-- {name} -->(.*?)(<!-- end of {name} -->)", TEXT, re.DOTALL)
    assert match, name
    return match[1]


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def export(database: SqlDatabase, path: Path, since: str | None, until: str | None) -> None:
    bounds = [None if one is None else int(seconds(one) * 1000) for one in (since, until)]
    made = int(seconds("2026-02-03T09:00:00Z"))
    author = Author(RESPONDER.identity, RESPONDER.sign_audit_bundle, made)
    write_bundle(database, path, Selection(*bounds), author, lambda *_: None)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The bundle of the page, and beside it one of the whole log."""
    url, clock = f"sqlite:///{tmp_path}/securecloud.db", Clock()
    engine = make_engine(url)
    migrations.upgrade(engine)
    engine.dispose()
    database = open_database(url, RESPONDER.sign_audit_head, clock)
    released = AuditEvent(AGENT, "key.released", "device:web1-data", "success", "approved")
    denied = AuditEvent(
        AGENT, "key_request.denied", "device:web1-data", "refused", "patch level too old", DENIED
    )
    for moment, event in (
        ("2025-12-01T08:00:00Z", released),
        ("2025-12-31T23:59:59Z", released),
        ("2026-01-05T08:00:00Z", released),
        ("2026-01-20T08:00:00Z", denied),
        ("2026-01-31T17:30:00Z", released),
        ("2026-02-02T12:00:00Z", released),
    ):
        clock.now = seconds(moment)
        database.write(lambda tx, event=event: tx.audit.append(event))
    export(database, tmp_path / "bundle.db", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
    export(database, tmp_path / "whole.db", None, None)
    database.close()
    return tmp_path / "bundle.db"


def test_the_example_goes_as_it_is_told(example: Path) -> None:
    steps = re.findall(r"^\$ (.*)\n((?:[^$`].*\n)*)", marked("example"), re.MULTILINE)
    assert len(steps) == 5
    environment = {
        **os.environ,
        "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
        "FINGERPRINT": RESPONDER.fingerprint,
    }
    for command, told in steps:
        done = subprocess.run(
            ["bash", "-c", command], cwd=example.parent, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        pattern = re.escape(told).replace("…", ".*")
        assert re.fullmatch(pattern, done.stdout), command + done.stdout + done.stderr


def test_every_query_finds_something(example: Path) -> None:
    block = marked("queries").partition("```sql\n")[2].partition("```")[0]
    queries = [query for query in block.split(";") if query.strip()]
    assert len(queries) == 3
    with closing(sqlite3.connect(example)) as bundle:
        for query in queries:
            assert len(bundle.execute(query).fetchall()) == 1, query


def test_two_bundles_are_compared(example: Path) -> None:
    block = marked("compare").partition("```sql\n")[2].partition("```")[0]
    attach, query = block.replace("older.db", str(example)).split(";")[:2]
    with closing(sqlite3.connect(example.with_name("whole.db"))) as newer:
        newer.execute(attach)
        assert newer.execute(query).fetchone() == (0,)
        newer.execute("UPDATE events SET leaf = x'00' WHERE seq = 3")
        assert newer.execute(query).fetchone() == (1,)


def test_a_search_by_sqlite_utils(example: Path) -> None:
    command = re.findall(r"`(sqlite-utils (?:search|rebuild-fts) .*?)`", TEXT)
    assert len(command) == 2
    for line in command:
        done = subprocess.run(
            [PROGRAM.with_name("sqlite-utils"), *line.split()[1:]],
            cwd=example.parent, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "search" not in line or "patch level too old" in done.stdout


def test_the_table_of_tables_is_the_schema() -> None:
    table = TEXT.partition("## Look into it")[2].partition("```sql")[0]
    told = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", row)}  # fmt: skip
    public = {
        name
        for name, entry in schema.SCHEMA.items()
        if entry.type != "index" and not name.startswith("events_fts_")
    }
    assert told == public
    assert f"0x{schema.APPLICATION_ID:08X}".replace("0X", "0x") in TEXT
    assert f"# The format, version {FORMAT}" in TEXT
