"""The whole database as one SQLite file, as it is at one moment, and back."""

from pathlib import Path

from sqlalchemy import Connection, Engine, delete, insert, select

from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.storage import migrations
from securecloud_server.storage.database import make_engine
from securecloud_server.storage.dialects import dialect_of, explained
from securecloud_server.storage.schema import (
    DEVICE_STATES,
    HEADER_COPIES,
    METADATA,
    SERVER_IDENTITY,
)

_AT_ONCE = 500
_LARGE_AT_ONCE = 8


def write_snapshot(engine: Engine, path: Path) -> None:
    """Write a snapshot of the database to the new file `path`; others may read and write it."""
    _require_latest(engine)
    target = make_engine(f"sqlite:///{path}")
    try:
        migrations.upgrade(target)
        _copy(engine, target)
    finally:
        target.dispose()


def upgrade_snapshot(path: Path) -> None:
    """Bring a snapshot up to date; Unavailable when it is of a later version, or none."""
    source = make_engine(f"sqlite:///{path}")
    try:
        version = migrations.schema_version(source)
        if not 0 < version <= migrations.LATEST:
            raise Unavailable(
                f"the backup has schema version {version}, this server knows 1 to"
                f" {migrations.LATEST}; restore it with the version that made it, or a later one"
            )
        migrations.upgrade(source)
    finally:
        source.dispose()


def read_snapshot(path: Path, engine: Engine, *, keep_lineages: bool) -> None:
    """Put a snapshot that is up to date into a database that has no server in it yet.

    Without `keep_lineages` each device begins a new one with its next release: those of the
    snapshot may be behind those that the machines have by now. So may their LUKS2 headers be, of
    which only the volume key counts until then.
    """
    source = make_engine(f"sqlite:///{path}")
    try:
        migrations.upgrade(engine)
        _copy(source, engine, forget_lineages=not keep_lineages)
    finally:
        source.dispose()


def server_of(engine: Engine) -> str | None:
    """Return the id of the server in this database, if there is one."""
    if migrations.schema_version(engine) == 0:
        return None
    with explained(dialect_of(engine)), engine.connect() as connection:
        return _server_of(connection)


def require_empty(engine: Engine) -> None:
    """Raise Conflict when there is a server in this database."""
    _require_none(server_of(engine))


def _server_of(connection: Connection) -> str | None:
    return connection.execute(select(SERVER_IDENTITY.c.server_id)).scalar_one_or_none()


def _require_none(server_id: str | None) -> None:
    if server_id is not None:
        raise Conflict("there is a server in this database already; restore into an empty one")


def _require_latest(engine: Engine) -> None:
    version = migrations.schema_version(engine)
    if version != migrations.LATEST:
        raise Unavailable(
            f"the database has schema version {version}, this server needs {migrations.LATEST};"
            " run securecloud-server db upgrade"
        )


def _copy(source: Engine, target: Engine, *, forget_lineages: bool = False) -> None:
    """Copy all rows: one consistent view of the source, one transaction in the target."""
    reading, writing = dialect_of(source), dialect_of(target)
    with explained(reading), source.connect() as rows, explained(writing), target.connect() as into:
        rows.exec_driver_sql(reading.begin_read)
        into.exec_driver_sql(writing.begin_write)
        _require_none(_server_of(into))
        for table in METADATA.tables.values():
            into.execute(delete(table))
            at_once = _LARGE_AT_ONCE if table is HEADER_COPIES else _AT_ONCE
            found = rows.execute(select(table), execution_options={"yield_per": at_once})
            for some in found.mappings().partitions():
                into.execute(insert(table), [dict(row) for row in some])
        if forget_lineages:
            into.execute(
                DEVICE_STATES.update().values(lineage=None, lineage_next=None, header_changing=True)
            )
        into.exec_driver_sql("COMMIT")
        rows.exec_driver_sql("COMMIT")
