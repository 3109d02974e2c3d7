"""Numbered migrations: each is a module with SQL that is never changed once released."""

from types import ModuleType
from typing import Any

from sqlalchemy import Engine, inspect

from securecloud_server.storage.dialects import dialect_of, explained
from securecloud_server.storage.migrations import (
    m0001_initial,
    m0002_evidence,
    m0003_volume_states,
    m0004_checks,
    m0005_key_exports,
    m0006_headers,
    m0007_header_copies,
    m0008_deciders,
)

MIGRATIONS: dict[int, ModuleType] = {
    1: m0001_initial,
    2: m0002_evidence,
    3: m0003_volume_states,
    4: m0004_checks,
    5: m0005_key_exports,
    6: m0006_headers,
    7: m0007_header_copies,
    8: m0008_deciders,
}
LATEST = max(MIGRATIONS)

_CREATE_VERSION = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY)"
_RECORD_VERSION = "INSERT INTO schema_version (version) VALUES ({:d})"


def schema_version(engine: Engine) -> int:
    """Return the number of the last migration that this database has seen; 0 for none."""
    with explained(dialect_of(engine)), engine.connect() as connection:
        if not inspect(connection).has_table("schema_version"):
            return 0
        found = connection.exec_driver_sql("SELECT max(version) FROM schema_version").scalar()
        return int(found or 0)


def upgrade(engine: Engine) -> list[int]:
    """Run all migrations that are missing, in one transaction; return their numbers."""
    dialect = dialect_of(engine)
    with explained(dialect):
        raw = engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute(dialect.begin_write)
            try:
                done = _run_missing(cursor, dialect.ddl)
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")
        finally:
            raw.close()
    return done


def _run_missing(cursor: Any, ddl: dict[str, str]) -> list[int]:
    cursor.execute(_CREATE_VERSION)
    cursor.execute("SELECT version FROM schema_version")
    seen = {row[0] for row in cursor.fetchall()}
    missing = [number for number in sorted(MIGRATIONS) if number not in seen]
    for number in missing:
        for statement in MIGRATIONS[number].STATEMENTS.format(**ddl).split(";\n"):
            if statement.strip():
                cursor.execute(statement)
        cursor.execute(_RECORD_VERSION.format(number))
    return missing
