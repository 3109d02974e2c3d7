"""A snapshot holds everything as it was at one moment, and goes back into either database."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.domain.records import HeaderCopy
from securecloud_server.storage import migrations
from securecloud_server.storage.database import SqlDatabase, make_engine, open_database
from securecloud_server.storage.schema import DEVICE_STATES, METADATA, SERVER_IDENTITY
from securecloud_server.storage.snapshots import (
    read_snapshot,
    require_empty,
    upgrade_snapshot,
    write_snapshot,
)
from securecloud_server.storage.verification import verify_audit
from sqlalchemy import Engine, func, insert, select, update

from server.tests.storage.conftest import check_signature, fresh_postgres, sign
from server.tests.storage.records import KEY, SIGHTING, STORES, event

IDENTITY = {"id": 1, "server_id": "s-1", "wrapped": b"\x00sealed\xff", "created_at": 1}


@pytest.fixture
def filled(database: SqlDatabase) -> SqlDatabase:
    def fill(tx: Any) -> None:
        for store, _, record in STORES:
            getattr(tx, store).add(record)
        tx.keys.put(KEY)
        tx.header_copies.put(HeaderCopy(KEY.device_id, b"d" * 32, b"LUKS\xba\xbe\x00", 1))
        tx.evidence.keep(SIGHTING, '{"facts": "ü"}', 5)
        for number in range(700):
            tx.audit.append(event(number))

    database.write(fill)
    with database.engine.begin() as connection:
        connection.execute(insert(SERVER_IDENTITY), IDENTITY)
        connection.execute(update(DEVICE_STATES).values(lineage=b"l" * 32, lineage_next=b"n" * 32))
    return database


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database of either kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/restored.db"
    else:
        url = fresh_postgres(request.getfixturevalue("cluster"))
    engine = make_engine(url)
    yield engine
    engine.dispose()


def content(engine: Engine) -> dict[str, list[Any]]:
    with engine.connect() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(select(table)).fetchall()))
            for table in METADATA.sorted_tables
        }


@pytest.mark.parametrize("keep_lineages", [True, False])
def test_everything_is_in_it_and_comes_back(
    filled: SqlDatabase, target: Engine, tmp_path: Path, keep_lineages: bool
) -> None:
    write_snapshot(filled.engine, tmp_path / "snapshot.db")
    read_snapshot(tmp_path / "snapshot.db", target, keep_lineages=keep_lineages)
    before, after = content(filled.engine), content(target)
    states = (before.pop("device_states"), after.pop("device_states"))
    assert after == before
    assert all(len(rows) > 0 for name, rows in after.items() if name not in {"sessions", "checks"})
    assert (states[0] == states[1]) is keep_lineages
    with target.connect() as connection:
        changing = connection.execute(select(DEVICE_STATES.c.header_changing)).scalars().all()
    assert set(changing) == {not keep_lineages}, "the machines' headers may be ahead of these"
    assert ("None" in states[1][0] and "llll" not in states[1][0]) is not keep_lineages
    url = str(target.url.render_as_string(hide_password=False))
    restored = open_database(url, sign, lambda: 1_800_000_001.0)
    assert verify_audit(restored, check_signature).verified
    restored.write(lambda tx: tx.audit.append(event(700)))
    assert verify_audit(restored, check_signature).size == 701
    restored.close()


def test_it_is_of_one_moment_while_others_write(filled: SqlDatabase, tmp_path: Path) -> None:
    ended = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not ended.is_set():
            filled.write(lambda tx: tx.audit.append(event()))
            written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            path = tmp_path / f"{number}.db"
            write_snapshot(filled.engine, path)
            copy = open_database(f"sqlite:///{path}", sign, lambda: 1.0)
            report = verify_audit(copy, check_signature)
            copy.close()
            assert report.verified, report.problem
    finally:
        ended.set()
        writer.join()
    assert written > 5


def test_it_goes_into_an_empty_database_only(
    filled: SqlDatabase, target: Engine, tmp_path: Path
) -> None:
    write_snapshot(filled.engine, tmp_path / "snapshot.db")
    require_empty(target)
    read_snapshot(tmp_path / "snapshot.db", target, keep_lineages=True)
    before = content(target)
    with pytest.raises(Conflict, match="there is a server in this database already"):
        require_empty(target)
    with pytest.raises(Conflict, match="there is a server in this database already"):
        read_snapshot(tmp_path / "snapshot.db", target, keep_lineages=True)
    assert content(target) == before


def test_one_of_a_later_schema_is_refused(filled: SqlDatabase, tmp_path: Path) -> None:
    write_snapshot(filled.engine, tmp_path / "snapshot.db")
    later = make_engine(f"sqlite:///{tmp_path}/snapshot.db")
    with later.connect() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO schema_version (version) VALUES ({migrations.LATEST + 1})"
        )
    later.dispose()
    with pytest.raises(Unavailable, match="restore it with the version that made it"):
        upgrade_snapshot(tmp_path / "snapshot.db")


def test_what_is_no_database_is_refused(target: Engine, tmp_path: Path) -> None:
    (tmp_path / "snapshot.db").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(Unavailable):
        upgrade_snapshot(tmp_path / "snapshot.db")
    with pytest.raises(Unavailable):
        read_snapshot(tmp_path / "snapshot.db", target, keep_lineages=True)
    migrations.upgrade(target)
    with target.connect() as connection:
        assert connection.execute(select(func.count()).select_from(SERVER_IDENTITY)).scalar() == 0
