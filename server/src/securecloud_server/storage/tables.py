"""The one implementation of `ports.Store`: a frozen record for a row, and back."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    Delete,
    Insert,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from securecloud_server.domain.errors import Conflict, NotFound
from securecloud_server.storage.dialects import Taken
from securecloud_server.storage.runner import Row, Runner

R = TypeVar("R")


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """How a field is kept in its column."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def to_json(value: Any) -> str:
    """Return compact JSON text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


JSON = Codec(to_json, json.loads)
TEXT = Codec(to_json, functools.lru_cache(256)(json.loads))
"""JSON that is read in every exchange and written by administrators alone: parsed once."""
WORDS = Codec(to_json, functools.lru_cache(256)(lambda text: tuple(json.loads(text))))
"""A list, kept as a tuple; each exchange reads the newest request's twice."""
FLAG = Codec(bool, bool)


class RecordTable(Generic[R]):
    """Maps the records of one class to the rows of one table.

    The table's columns are the record's fields, in the same order. `key` is the text column that
    identifies a record; `kind` names it in messages.
    """

    def __init__(
        self,
        kind: str,
        record: type[R],
        table: Table,
        key: str,
        codecs: Mapping[str, Codec] | None = None,
        *,
        newest_first: bool = False,
    ) -> None:
        names = tuple(f.name for f in dataclasses.fields(record))  # type: ignore[arg-type]  # R is a dataclass
        if names != tuple(table.c.keys()):
            raise TypeError(f"{table.name}: columns {table.c.keys()} are not fields {names}")
        codecs = codecs or {}
        self.kind = kind
        self.key = key
        self.table = table
        self._record = record
        self._plain = tuple(name for name in names if name not in codecs)
        self._encoders = tuple((name, codecs[name].encode) for name in codecs)
        self._decoders = tuple((names.index(name), codecs[name].decode) for name in codecs)
        self._newest_first = newest_first
        key_column = table.c[key]
        self.select_one: Select[Any] = select(table).where(key_column == bindparam("key"))
        self.insert: Insert = insert(table)
        self.update: Update = update(table).where(key_column == bindparam("where_key"))
        self.delete: Delete = delete(table).where(key_column == bindparam("key"))
        self.select_page = functools.cache(self._build_page)
        self.select_in = functools.cache(self._build_in)

    def row(self, record: R) -> dict[str, Any]:
        """Return the column values of a record."""
        values = {name: getattr(record, name) for name in self._plain}
        for name, encode in self._encoders:
            values[name] = encode(getattr(record, name))
        return values

    def record(self, row: Row) -> R:
        """Return the record of a row."""
        values = list(row)
        for index, decode in self._decoders:
            values[index] = decode(values[index])
        return self._record(*values)

    def _build_page(self, filters: tuple[str, ...], *, later: bool) -> ClauseElement:
        key = self.table.c[self.key]
        clause = select(self.table)
        for name in filters:
            clause = clause.where(self.table.c[name] == bindparam(f"filter_{name}"))
        if later:
            after: BindParameter[str] = bindparam("after")
            clause = clause.where(key < after if self._newest_first else key > after)
        order = key.desc() if self._newest_first else key.asc()
        return clause.order_by(order).limit(bindparam("limit"))

    def _build_in(self, column: str, count: int) -> ClauseElement:
        """Select the rows whose `column` is one of the parameters in_0 to in_<count - 1>."""
        values: list[BindParameter[str]] = [bindparam(f"in_{index}") for index in range(count)]
        return select(self.table).where(self.table.c[column].in_(values))


class TableStore(Generic[R]):
    """`ports.Store` over a RecordTable."""

    def __init__(self, runner: Runner, records: RecordTable[R]) -> None:
        self._runner = runner
        self._records = records

    def get(self, key: str) -> R | None:
        """Return the record, or None."""
        row = self._runner.row(self._records.select_one, {"key": key})
        return None if row is None else self._records.record(row)

    def add(self, record: R) -> None:
        """Insert; Conflict when the key or another unique field is taken."""
        records = self._records
        try:
            self._runner.change(records.insert, records.row(record))
        except Taken:
            name = getattr(record, records.key)
            raise Conflict(f"there is already a {records.kind} {name!r}") from None

    def replace(self, record: R) -> None:
        """Overwrite the record with the same key; NotFound when there is none."""
        records = self._records
        row = records.row(record)
        key = row[records.key]
        if not self._runner.change(records.update, {**row, "where_key": key}):
            raise NotFound(records.kind, key)

    def delete(self, key: str) -> None:
        """Remove; NotFound when there is none."""
        if not self._runner.change(self._records.delete, {"key": key}):
            raise NotFound(self._records.kind, key)

    def page(self, after: str | None, limit: int, filters: Mapping[str, str | None]) -> Sequence[R]:
        """Return up to `limit` records behind the key `after` whose fields equal the filters."""
        given = {name: value for name, value in filters.items() if value is not None}
        clause = self._records.select_page(tuple(given), later=after is not None)
        parameters: dict[str, Any] = {f"filter_{name}": value for name, value in given.items()}
        parameters |= {"limit": limit, "after": after} if after is not None else {"limit": limit}
        return [self._records.record(row) for row in self._runner.rows(clause, parameters)]

    def _in(self, column: str, values: Sequence[str]) -> list[R]:
        """Return the records whose `column` is one of `values`."""
        if not values:
            return []
        clause = self._records.select_in(column, len(values))
        parameters = {f"in_{index}": value for index, value in enumerate(values)}
        return [self._records.record(row) for row in self._runner.rows(clause, parameters)]
