"""PostgreSQL; transactions that write take turns, as the audit log grows by one end only."""

import psycopg
from psycopg import errors
from sqlalchemy import Dialect as Compiler
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url

from securecloud_server.domain.errors import Conflict
from securecloud_server.storage.dialects import LOCK_TIMEOUT_MS, Broken, Taken, in_use

_WRITERS_LOCK = 0x53434442
"""Any number of our own, for pg_advisory_xact_lock."""

_CAUSES: tuple[tuple[type[psycopg.Error], str], ...] = (
    (errors.DiskFull, "the disk that holds the database is full"),
    (errors.ReadOnlySqlTransaction, "the database is read-only"),
    (errors.LockNotAvailable, "the database is locked by another process"),
    (errors.QueryCanceled, "the database did not answer in time"),
    (errors.InsufficientPrivilege, "access to the database is denied"),
    (errors.InvalidAuthorizationSpecification, "the database refuses our credentials"),
    (psycopg.OperationalError, "the database server cannot be reached"),
    (psycopg.InterfaceError, "the connection to the database is lost"),
)


class Postgres:
    """The dialect for any number of server nodes on one database."""

    name = "postgresql"
    compiler: Compiler = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy's
    ddl = {  # noqa: RUF012 - never changed
        "text": 'TEXT COLLATE "C"',
        "integer": "BIGINT",
        "octets": "BYTEA",
        "clustered": "",
    }
    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    begin_write = (
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
        f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})"
    )
    failures: tuple[type[Exception], ...] = (psycopg.Error,)

    def engine(self, url: str) -> Engine:
        """Return an engine on psycopg, whatever driver the URL names."""
        return create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
            pool_size=8,
            max_overflow=64,
            pool_reset_on_return=None,
            connect_args={"connect_timeout": 5, "options": f"-c lock_timeout={LOCK_TIMEOUT_MS}"},
        )

    def explain(self, error: BaseException) -> Conflict | Broken:
        """Return the domain's error for one of psycopg's."""
        if isinstance(error, errors.UniqueViolation):
            return Taken(str(error.diag.constraint_name))
        if isinstance(error, psycopg.IntegrityError):
            return in_use(str(error.diag.constraint_name))
        for kind, cause in _CAUSES:
            if isinstance(error, kind):
                return Broken(cause)
        return Broken(f"the database fails: {type(error).__name__}")
