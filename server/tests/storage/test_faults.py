"""Real faults: each becomes Unavailable with its cause, and nothing that was answered is lost."""

import os
import pwd
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from securecloud_server.domain.errors import Unavailable
from securecloud_server.storage.database import SqlDatabase, open_database
from securecloud_server.storage.verification import verify_audit

from server.tests.storage.conftest import check_signature, fresh_postgres, fresh_sqlite, sign
from server.tests.storage.records import event
from tests.support.postgres import Cluster

HERE = Path(__file__).parents[3]


def clock() -> float:
    return 1_800_000_000.0


def append(database: SqlDatabase) -> int:
    return database.write(lambda tx: tx.audit.append(event()))


def size(database: SqlDatabase) -> int:
    with database.read() as tx:
        return tx.audit.size()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    fresh_sqlite(tmp_path)
    return tmp_path / "securecloud.db"


def open_file(file: Path) -> SqlDatabase:
    return open_database(f"sqlite:///{file}", sign, clock)


def test_a_full_disk_is_named_and_afterwards_all_is_well(file: Path) -> None:
    database = open_file(file)
    append(database)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = file.with_name(f"{file.name}-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, hard))
    try:
        with pytest.raises(Unavailable, match="disk"):
            append(database)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert append(database) == 1
    assert verify_audit(database, check_signature).verified
    database.close()


def test_a_read_only_database_is_named() -> None:
    """In a child without root's privileges, for root may write what is read-only."""
    directory = Path(tempfile.mkdtemp(prefix="sc-ro-"))
    try:
        fresh_sqlite(directory)
        for path in directory.iterdir():
            path.chmod(0o444)
        directory.chmod(0o555)
        assert "read-only" in _as_nobody(lambda: _complaint(directory / "securecloud.db"))
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


def _complaint(file: Path) -> str:
    try:
        append(open_file(file))
    except Unavailable as error:
        return str(error)
    return "it was written"


def _as_nobody(call: Callable[[], str]) -> str:
    """Return what `call` returns in a forked process without privileges."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setuid(pwd.getpwnam("nobody").pw_uid)
        try:
            os.write(writer, call().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    return answer


def test_a_locked_database_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securecloud_server.storage.sqlite.LOCK_TIMEOUT_MS", 50)
    database = open_file(file)
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked by another process"):
            append(database)
        other.execute("ROLLBACK")
    assert append(database) == 0
    database.close()


def test_garbage_is_named(file: Path) -> None:
    file.write_bytes(b"garbage" * 1000)
    database = open_file(file)
    with pytest.raises(Unavailable, match="not a SQLite database"):
        append(database)
    with pytest.raises(Unavailable, match="not a SQLite database"):
        size(database)
    database.close()


WRITER = """
import sys
from server.tests.storage.test_faults import append, open_file
from pathlib import Path
database = open_file(Path(sys.argv[1]))
while True:
    print(append(database), flush=True)
"""


def test_what_was_answered_survives_kill_9(file: Path) -> None:
    """The writer says a number only after its write returned; then it is killed at once."""
    answered = -1
    for round_number in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, file],
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            for _ in range(1 + 7 * round_number):
                answered = int(process.stdout.readline())
            process.kill()
        database = open_file(file)
        assert size(database) > answered
        assert verify_audit(database, check_signature).verified
        database.close()


def test_postgresql_may_go_and_come_back(cluster: Cluster) -> None:
    database = open_database(fresh_postgres(cluster), sign, clock)
    assert append(database) == 0
    cluster.stop("immediate")
    attempts: list[Callable[[SqlDatabase], int]] = [append, size]
    try:
        for attempt in attempts:
            with pytest.raises(Unavailable):
                attempt(database)
    finally:
        cluster.start()
    assert _again(database) == 1
    assert verify_audit(database, check_signature).verified
    database.close()


def _again(database: SqlDatabase) -> int:
    """Connections of the pool that died are found out one by one, each by one Unavailable."""
    for _ in range(10):
        try:
            return append(database)
        except Unavailable:
            continue
    raise AssertionError("the database did not come back")
