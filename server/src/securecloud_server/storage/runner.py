"""Runs statements on one transaction's cursor.

Statements are SQLAlchemy Core clauses, compiled to text once for each database and then given to
the driver as they are: on the way of a key release this costs a fifth of `Connection.execute`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ClauseElement

from securecloud_server.storage.dialects import Dialect

Row = tuple[Any, ...]

_CHUNK = 2000


class Compiled(NamedTuple):
    """The text of a statement, and the parameters that the compiler added by itself."""

    text: str
    defaults: dict[str, Any]


class Statements:
    """The compiled statements of one database, by clause."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._compiled: dict[ClauseElement, Compiled] = {}

    def __getitem__(self, clause: ClauseElement) -> Compiled:
        found = self._compiled.get(clause)
        if found is None:
            compiled = clause.compile(dialect=self.dialect.compiler)
            parameters = compiled.params or {}
            defaults = {name: value for name, value in parameters.items() if value is not None}
            found = self._compiled[clause] = Compiled(str(compiled), defaults)
        return found


class Runner:
    """What stores use to reach the database; driver errors become the domain's."""

    def __init__(self, cursor: Any, statements: Statements, *, writable: bool) -> None:
        self._cursor = cursor
        self._statements = statements
        self._failures = statements.dialect.failures
        self.writable = writable

    @property
    def dialect(self) -> Dialect:
        """The kind of database behind the cursor."""
        return self._statements.dialect

    def rows(self, clause: ClauseElement, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Return all rows."""
        self._execute(clause, parameters or {})
        return self._fetch()

    def row(self, clause: ClauseElement, parameters: Mapping[str, Any] | None = None) -> Row | None:
        """Return the first row."""
        found = self.rows(clause, parameters)
        return found[0] if found else None

    def stream(
        self, clause: ClauseElement, parameters: Mapping[str, Any], *, key: int, start: int = 0
    ) -> Iterator[Row]:
        """Give all rows from `start`, a few thousand at a time.

        `clause` has the parameters `start` and `limit`, and gives rows in the order of the column
        `key`.
        """
        while True:
            rows = self.rows(clause, {**parameters, "start": start, "limit": _CHUNK})
            yield from rows
            if len(rows) < _CHUNK:
                return
            start = rows[-1][key] + 1

    def change(self, clause: ClauseElement, parameters: Mapping[str, Any]) -> int:
        """Return how many rows were inserted, updated or deleted."""
        self._must_be_writable()
        self._execute(clause, parameters)
        return int(self._cursor.rowcount)

    def insert_all(self, clause: ClauseElement, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert many rows."""
        self._must_be_writable()
        try:
            self._cursor.executemany(self._statements[clause].text, rows)
        except self._failures as error:
            raise self.dialect.explain(error) from error

    def _execute(self, clause: ClauseElement, parameters: Mapping[str, Any]) -> None:
        text, defaults = self._statements[clause]
        try:
            self._cursor.execute(text, {**defaults, **parameters} if defaults else parameters)
        except self._failures as error:
            raise self.dialect.explain(error) from error

    def _fetch(self) -> list[Row]:
        try:
            return self._cursor.fetchall()  # type: ignore[no-any-return]  # DBAPI is untyped
        except self._failures as error:
            raise self.dialect.explain(error) from error

    def _must_be_writable(self) -> None:
        if not self.writable:
            raise RuntimeError("this transaction is for reading")
