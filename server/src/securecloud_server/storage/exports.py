"""The exports of keys: what was asked for, by whom, and what became of it. No key is among it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select

from securecloud_server.domain import exports
from securecloud_server.domain.records import KeyExport
from securecloud_server.storage.runner import Runner
from securecloud_server.storage.schema import KEY_EXPORTS
from securecloud_server.storage.tables import RecordTable, TableStore

_EXPORTS = RecordTable("key export", KeyExport, KEY_EXPORTS, "export_id", newest_first=True)
_ASKED_AT = (
    select(KEY_EXPORTS.c.created_at)
    .where(KEY_EXPORTS.c.created_at > bindparam("since"))
    .order_by(KEY_EXPORTS.c.created_at.desc())
    .limit(bindparam("limit"))
)
_ASKED_AT_BY = _ASKED_AT.where(KEY_EXPORTS.c.requester_origin == bindparam("origin"))
_OVERDUE = select(KEY_EXPORTS).where(
    KEY_EXPORTS.c.state.in_([bindparam("pending"), bindparam("granted")]),
    KEY_EXPORTS.c.expires_at <= bindparam("now"),
)


class SqlKeyExports(TableStore[KeyExport]):
    """Exports of keys by id; ids sort by time."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner, _EXPORTS)

    def asked_at(self, since: int, limit: int, origin: str | None) -> Sequence[int]:
        """Return when the last `limit` exports after `since` were asked for, newest first."""
        parameters: dict[str, Any] = {"since": since, "limit": limit}
        if origin is None:
            rows = self._runner.rows(_ASKED_AT, parameters)
        else:
            rows = self._runner.rows(_ASKED_AT_BY, {**parameters, "origin": origin})
        return [row[0] for row in rows]

    def overdue(self, now: int) -> Sequence[KeyExport]:
        """Return those that wait for somebody who did not come in time."""
        parameters = {"pending": exports.PENDING, "granted": exports.GRANTED, "now": now}
        return [_EXPORTS.record(row) for row in self._runner.rows(_OVERDUE, parameters)]
