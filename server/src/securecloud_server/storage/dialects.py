"""What differs between databases, and the one place where a URL chooses among them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy import Dialect as Compiler
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from securecloud_server.domain.errors import Conflict, Unavailable

LOCK_TIMEOUT_MS = 5000


class Taken(Conflict):
    """A key or another unique field is taken."""


class Broken(Unavailable):
    """The transaction is lost, and its connection is not to be used again."""


class Dialect(Protocol):
    """One kind of database.

    Its connections begin and end transactions by explicit statements only (driver autocommit):
    a driver that begins by itself leaves SQLite's schema changes outside of the transaction.
    """

    name: str
    compiler: Compiler
    ddl: dict[str, str]
    """What the placeholders in migrations stand for."""
    begin_read: str
    begin_write: str
    """Begins a transaction that no other one that writes can overlap, on any node."""
    failures: tuple[type[Exception], ...]
    """What the driver raises."""

    def engine(self, url: str) -> Engine:
        """Return an engine that connects lazily."""

    def explain(self, error: BaseException) -> Conflict | Broken:
        """Return the domain's error for a driver's; it names the cause."""


def dialect_for(url: str) -> Dialect:
    """Return the dialect of a `sqlite:////path` or `postgresql://` URL."""
    return _dialect(make_url(url).get_backend_name())


def dialect_of(engine: Engine) -> Dialect:
    """Return the dialect of an engine."""
    return _dialect(engine.dialect.name)


def _dialect(backend: str) -> Dialect:
    if backend == "sqlite":
        from securecloud_server.storage.sqlite import Sqlite

        return Sqlite()
    # Imported on demand: psycopg is an extra, installed only where PostgreSQL is used.
    from securecloud_server.storage.postgres import Postgres

    return Postgres()


@contextmanager
def explained(dialect: Dialect) -> Iterator[None]:
    """Raise Conflict or Broken, with the cause in words, in place of driver errors."""
    try:
        yield
    except dialect.failures as error:
        raise dialect.explain(error) from error
    except DBAPIError as error:
        raise dialect.explain(error.orig or error) from error


def in_use(constraint: str) -> Conflict:
    """Return the error for a reference that the database guards."""
    return Conflict(
        f"another object still refers to this one, or this one to an absent one ({constraint})"
    )
