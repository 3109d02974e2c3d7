"""SQLite in WAL mode; what was committed is on disk (`synchronous=FULL`)."""

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Dialect as Compiler
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import make_url

from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.storage.dialects import LOCK_TIMEOUT_MS, Broken, Taken, in_use

_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",  # a destroyed key's reference is overwritten, not just unlinked
    "trusted_schema=OFF",
)
_CAUSES = {
    sqlite3.SQLITE_FULL: "the disk that holds the database is full",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_BUSY: "the database is locked by another process",
    sqlite3.SQLITE_LOCKED: "the database is locked by another process",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_IOERR: "the disk that holds the database fails",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the database file is not a SQLite database",
    sqlite3.SQLITE_PERM: "access to the database file is denied",
    sqlite3.SQLITE_AUTH: "access to the database file is denied",
}
_TAKEN = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}
_PRIMARY_CODE = 0xFF


class Sqlite:
    """The dialect of the default database."""

    name = "sqlite"
    compiler: Compiler = SQLiteDialect_pysqlite(paramstyle="named")
    ddl = {  # noqa: RUF012 - never changed
        "text": "TEXT",
        "integer": "INTEGER",
        "octets": "BLOB",
        "clustered": " WITHOUT ROWID",
    }
    begin_read = "BEGIN"
    begin_write = "BEGIN IMMEDIATE"
    failures: tuple[type[Exception], ...] = (sqlite3.Error,)

    def engine(self, url: str) -> Engine:
        """Return an engine whose database file only its owner can read."""
        target = make_url(url)
        path = Path(target.database or "")
        engine = create_engine(
            target,
            pool_size=8,
            max_overflow=64,
            pool_reset_on_return=None,
            connect_args={
                "isolation_level": None,
                "timeout": LOCK_TIMEOUT_MS / 1000,
                "check_same_thread": False,
                "cached_statements": 256,
            },
        )
        event.listen(engine, "do_connect", lambda *_: _create_owner_only(path))
        event.listen(engine, "connect", _prepare)
        return engine

    def explain(self, error: BaseException) -> Conflict | Broken:
        """Return the domain's error for one of sqlite3's."""
        code = getattr(error, "sqlite_errorcode", 0)
        if code in _TAKEN:
            return Taken(str(error))
        if isinstance(error, sqlite3.IntegrityError):
            return in_use(str(error))
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        return Broken(_CAUSES.get(code & _PRIMARY_CODE, f"the database fails: {name}"))


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _create_owner_only(path: Path) -> None:
    """Create the database file with mode 0600; its -wal and -shm files inherit that."""
    if path.exists():
        return
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise Unavailable(f"the database file cannot be created: {error.strerror}") from None
