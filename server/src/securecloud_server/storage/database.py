"""The database: consistent reads, and writes that are on disk when they return."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, bindparam, update

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import Clock
from securecloud_server.storage import migrations
from securecloud_server.storage.audit import OwnHeads, Signer
from securecloud_server.storage.dialects import Broken, Dialect, dialect_for, explained
from securecloud_server.storage.runner import Runner, Statements
from securecloud_server.storage.schema import PROBE
from securecloud_server.storage.transaction import SqlTransaction
from securecloud_server.storage.writer import GroupCommit

T = TypeVar("T")

_PROBE = update(PROBE).where(PROBE.c.id == 1).values(at=bindparam("now"))


def make_engine(url: str) -> Engine:
    """Return an engine for a `sqlite:////path` or `postgresql://` URL; it connects lazily."""
    return dialect_for(url).engine(url)


def is_absent(url: str) -> bool:
    """Return whether `url` names a SQLite file that does not exist: opening it would make it."""
    return url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:///")).exists()


def open_database(url: str, sign: Signer, clock: Clock) -> "SqlDatabase":
    """Return the database at `url`, whose audit heads are signed by `sign`; connects lazily.

    Its schema must be up to date: see `migrations.upgrade`.
    """
    dialect = dialect_for(url)
    return SqlDatabase(dialect.engine(url), dialect, sign, clock)


class SqlDatabase:
    """`ports.Database` on SQLite or PostgreSQL."""

    def __init__(self, engine: Engine, dialect: Dialect, sign: Signer, clock: Clock) -> None:
        self.engine = engine
        self.kind = dialect.name
        self._dialect = dialect
        self._sign = sign
        self._heads = OwnHeads(sign)
        self._clock = clock
        self._statements = Statements(dialect)
        self._writer = GroupCommit(engine, dialect, self._open_for_writing)

    @contextmanager
    def read(self) -> Iterator[SqlTransaction]:
        """Open a consistent view; writing to it is an error (RuntimeError)."""
        with explained(self._dialect):
            connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            self._execute(cursor, self._dialect.begin_read)
            runner = Runner(cursor, self._statements, writable=False)
            yield SqlTransaction(runner, self._clock, self._sign, self._heads)
            self._execute(cursor, "COMMIT")
        except Broken:
            connection.invalidate()
            raise
        except BaseException:
            self._execute(cursor, "ROLLBACK")
            raise
        finally:
            connection.close()

    def write(self, work: Callable[[SqlTransaction], T]) -> T:
        """Run `work` in one transaction; when this returns, it is on disk."""
        return self._writer.write(work)

    def check(self) -> None:
        """Raise Unavailable unless the schema is there and a transaction can be written."""
        version = self.schema_version()
        if version != migrations.LATEST:
            raise Unavailable(
                f"the database has schema version {version}, this server needs {migrations.LATEST}"
            )
        self.write(self._probe)

    def _probe(self, transaction: SqlTransaction) -> None:
        # Reads the head, unless other work of the same commit did.
        transaction.log.size()
        transaction.runner.change(_PROBE, {"now": int(self._clock())})

    def schema_version(self) -> int:
        """Return the number of the last migration."""
        return migrations.schema_version(self.engine)

    def close(self) -> None:
        """Close all connections."""
        self._writer.close()
        self.engine.dispose()

    def _open_for_writing(self, cursor: Any) -> SqlTransaction:
        runner = Runner(cursor, self._statements, writable=True)
        return SqlTransaction(runner, self._clock, self._sign, self._heads)

    def _execute(self, cursor: Any, statement: str) -> None:
        try:
            cursor.execute(statement)
        except self._dialect.failures as error:
            raise Broken(str(self._dialect.explain(error))) from error
