"""Reads a SQLite file that may be hostile: nothing that its author wrote is ever run.

The file is opened read-only and as immutable, so no journal beside it counts and nothing is
locked or recovered. An authorizer admits a few reads of two tables. The schema is compared with the
one that this format has before any table is read: what looks like a table is no view, has no
trigger, and computes no column.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from securecloud_audit.manifest import FORMAT
from securecloud_audit.schema import APPLICATION_ID, EVENT_COLUMNS, SCHEMA, Entry

_MAGIC = b"SQLite format 3\x00"
_MAX_ROW = 16 * 1024 * 1024
"""Octets; larger values are refused, so that a file cannot ask for all memory."""

_PRAGMAS = (
    "query_only = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",
    "cache_size = -16384",
)
_KINDS = {"table", "view", "index", "trigger"}
_MAY_READ = {"events", "manifest", "sqlite_master", "sqlite_schema"}
_MAY_ASK = {"application_id", "user_version", "integrity_check", "page_count", "page_size"}
_EVENTS = f"SELECT {', '.join(EVENT_COLUMNS)} FROM events NOT INDEXED ORDER BY seq"  # noqa: S608 - constants
_MANIFEST = "SELECT id, CAST(document AS BLOB), signature FROM manifest NOT INDEXED LIMIT 2"
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master"


class Unreadable(Exception):
    """This is no file of ours at all, or it cannot be read."""


class Unsound(Exception):
    """It is a bundle by its name, and damaged, or not built as bundles are."""


class Reader:
    """An open bundle. `check_schema` comes first."""

    def __init__(self, connection: sqlite3.Connection, octets: int) -> None:
        self._connection = connection
        self._octets = octets

    def check_schema(self) -> None:
        """Raise Unsound unless tables, views and indexes are those of a bundle, and no others."""
        missing = dict(SCHEMA)
        for kind, name, table, sql in self._rows(_SCHEMA):
            expected = missing.pop(name, None) if isinstance(name, str) else None
            if expected is None:
                what = kind if kind in _KINDS else "something"
                raise Unsound(f"the file holds {what} {name!r:.80}, which no bundle has")
            if Entry(kind, name, table, sql) != expected:
                raise Unsound(f"{expected.type} {name} is not defined as a bundle's is")
        for entry in missing.values():
            raise Unsound(f"the file lacks the {entry.type} {entry.name}")

    def check_pages(self) -> None:
        """Raise Unsound unless the file is whole, and the indexes agree with their tables."""
        if self._pragma("page_count") * self._pragma("page_size") != self._octets:
            raise Unsound("the file is longer or shorter than it says")
        for table in ("events", "manifest"):
            (verdict,) = next(self._rows(f"PRAGMA integrity_check({table})"))
            if verdict != "ok":
                raise Unsound(f"table {table} is damaged: {verdict!r:.200}")

    def manifest(self) -> tuple[bytes, bytes]:
        """Return the manifest's octets and their signature."""
        rows = list(self._rows(_MANIFEST))
        if len(rows) != 1 or rows[0][0] != 1:
            raise Unsound("table manifest does not have one row")
        _, document, signature = rows[0]
        if type(document) is not bytes or type(signature) is not bytes:
            raise Unsound("table manifest holds values of a wrong type")
        return document, signature

    def events(self) -> Iterator[tuple[Any, ...]]:
        """Return the rows of the table `events` by their number, as they are."""
        return self._rows(_EVENTS)

    def check_format(self) -> None:
        """Raise Unreadable unless it is a bundle of the format that this program knows."""
        if self._pragma("application_id") != APPLICATION_ID:
            raise Unreadable("it is a SQLite file, but no evidence bundle")
        version = self._pragma("user_version")
        if version != FORMAT:
            raise Unreadable(f"it has format {version}; this program reads format {FORMAT}")

    def _pragma(self, name: str) -> int:
        (value,) = next(self._rows(f"PRAGMA {name}"))
        return int(value)

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._connection.execute(query)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise Unsound(f"SQLite cannot read it: {str(error)!r:.200}") from None


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """Open a bundle; Unreadable when there is none, Unsound when it is damaged."""
    _check_is_sqlite(path)
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_ROW)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.set_authorizer(_authorize)
        yield Reader(connection, path.stat().st_size)
    except sqlite3.Error as error:
        raise Unsound(f"SQLite cannot open it: {str(error)!r:.200}") from None
    finally:
        connection.close()


def _check_is_sqlite(path: Path) -> None:
    try:
        if not path.is_file():
            raise Unreadable("there is no such file")
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from None
    if start != _MAGIC:
        raise Unreadable("it is no SQLite file")


def _authorize(
    action: int, first: str | None, _second: str | None, _database: str | None, _by: str | None
) -> int:
    """Admit reading the tables and asking for a few numbers; no function, no view, no writing."""
    allowed = (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and first in _MAY_READ)
        or (action == sqlite3.SQLITE_PRAGMA and first in _MAY_ASK)
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
