"""What machines showed, and in one query everything that a replay of a policy needs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from securecloud_server.domain.records import Governed, Sighting
from securecloud_server.storage import schema
from securecloud_server.storage.runner import Row, Runner
from securecloud_server.storage.stores import DEVICES, KEYS, REQUESTS, STATES
from securecloud_server.storage.tables import JSON, RecordTable

R = TypeVar("R")

_SIGHTINGS = RecordTable(
    "evidence", Sighting, schema.EVIDENCE, "device_id", {"circumstances": JSON}
)
_E, _D = schema.EVIDENCE.c, schema.EVIDENCE_DOCUMENTS.c


def _last(device_id: ColumnElement[str]) -> ColumnElement[int]:
    """Return the number of a device's last sighting."""
    other = schema.EVIDENCE.alias()
    newest = select(func.max(other.c.seq)).where(other.c.device_id == device_id)
    return newest.scalar_subquery()


_SEE_AGAIN = (
    update(schema.EVIDENCE)
    .where(
        _E.device_id == bindparam("device"),
        _E.seq == _last(bindparam("device")),
        _E.digest == bindparam("same_digest"),
        _E.agent_id == bindparam("same_agent"),
    )
    .values(
        {
            name: bindparam(name)
            for name in (
                "last_at",
                "session_id",
                "request_id",
                "outcome",
                "code",
                "boot_id",
                "circumstances",
            )
        }
    )
)
_HAS_DOCUMENT = select(literal(1)).where(_D.digest == bindparam("digest"))
_ADD_DOCUMENT = insert(schema.EVIDENCE_DOCUMENTS)
_SEEN = select(_E.seq, _E.digest).where(_E.device_id == bindparam("device")).order_by(_E.seq.desc())
_HISTORY = (
    select(schema.EVIDENCE, _D.body)
    .join_from(schema.EVIDENCE, schema.EVIDENCE_DOCUMENTS, _D.digest == _E.digest)
    .where(_E.device_id == bindparam("device"))
    .order_by(_E.seq.desc())
)
_DROP = delete(schema.EVIDENCE).where(
    _E.device_id == bindparam("device"), _E.seq == bindparam("number")
)
_NOT_SHOWN = ~exists().where(_E.digest == _D.digest)
_DROP_DOCUMENT = delete(schema.EVIDENCE_DOCUMENTS).where(
    _D.digest == bindparam("document"), _NOT_SHOWN
)
_OLD = and_(_E.last_at < bindparam("before"), _E.seq < _last(_E.device_id))
_OVERDUE = select(
    or_(
        exists(select(literal(1)).select_from(schema.EVIDENCE).where(_OLD)),
        exists(select(literal(1)).select_from(schema.EVIDENCE_DOCUMENTS).where(_NOT_SHOWN)),
    )
)
_FORGET = delete(schema.EVIDENCE).where(_OLD)
_DROP_DOCUMENTS = delete(schema.EVIDENCE_DOCUMENTS).where(_NOT_SHOWN)


class SqlEvidence:
    """`ports.EvidenceStore`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def keep(self, sighting: Sighting, body: str, history: int) -> None:
        """Keep what was seen now; the document is written only when it is another."""
        row = _SIGHTINGS.row(sighting)
        where = {
            "device": sighting.device_id,
            "same_digest": sighting.digest,
            "same_agent": sighting.agent_id,
        }
        if self._runner.change(_SEE_AGAIN, {**row, **where}):
            return
        if self._runner.row(_HAS_DOCUMENT, {"digest": sighting.digest}) is None:
            self._runner.change(_ADD_DOCUMENT, {"digest": sighting.digest, "body": body})
        self._runner.change(_SIGHTINGS.insert, row)
        for seq, digest in self._runner.rows(_SEEN, {"device": sighting.device_id})[history:]:
            self._runner.change(_DROP, {"device": sighting.device_id, "number": seq})
            self._runner.change(_DROP_DOCUMENT, {"document": digest})

    def history(self, device_id: str) -> Sequence[tuple[Sighting, Mapping[str, Any]]]:
        """Return the device's sightings with their documents, newest first."""
        rows = self._runner.rows(_HISTORY, {"device": device_id})
        return [(_SIGHTINGS.record(row[:-1]), json.loads(row[-1])) for row in rows]

    def governed(self, policy: str, default: str) -> Sequence[Governed]:
        """Return the devices that `policy` governs, by name."""
        rows = self._runner.rows(_GOVERNED, {"policy": policy, "default": default})
        documents: dict[str, Mapping[str, Any]] = {}
        return [_governed(row, documents) for row in rows]

    def is_overdue(self, before: int) -> bool:
        """Return whether there is anything to forget."""
        row = self._runner.row(_OVERDUE, {"before": before})
        return row is not None and bool(row[0])

    def forget(self, before: int) -> int:
        """Forget what was last seen before that time, but no device's last sighting."""
        gone = self._runner.change(_FORGET, {"before": before})
        self._runner.change(_DROP_DOCUMENTS, {})
        return gone


def _select_governed() -> Any:
    device, group, agent = schema.DEVICES, schema.DEVICE_GROUPS, schema.AGENTS
    state, key, request = schema.DEVICE_STATES, schema.KEYS, schema.KEY_REQUESTS
    older_key, older_request = key.alias(), request.alias()
    current_key = select(func.max(older_key.c.version)).where(
        older_key.c.device_id == device.c.device_id
    )
    newest_request = select(func.max(older_request.c.request_id)).where(
        older_request.c.device_id == device.c.device_id
    )
    joined = (
        device.join(state, state.c.device_id == device.c.device_id)
        .outerjoin(group, group.c.name == device.c.group)
        .outerjoin(agent, and_(agent.c.name == device.c.agent, agent.c.state == "active"))
        .outerjoin(
            key,
            and_(
                key.c.device_id == device.c.device_id,
                key.c.version == current_key.scalar_subquery(),
            ),
        )
        .outerjoin(request, request.c.request_id == newest_request.scalar_subquery())
        .outerjoin(
            schema.EVIDENCE,
            and_(
                _E.device_id == device.c.device_id,
                _E.seq == _last(device.c.device_id),
                _E.agent_id == agent.c.agent_id,
            ),
        )
        .outerjoin(schema.EVIDENCE_DOCUMENTS, _D.digest == _E.digest)
    )
    in_effect = func.coalesce(device.c.policy, group.c.policy, bindparam("default"))
    return (
        select(device, state, key, request, schema.EVIDENCE, _D.body)
        .select_from(joined)
        .where(in_effect == bindparam("policy"))
        .order_by(device.c.name)
    )


_GOVERNED = _select_governed()


def _cut(table: Table, after: slice) -> slice:
    """Return which columns of a row are this table's, behind those of another."""
    return slice(after.stop, after.stop + len(table.c))


_DEVICE = slice(0, len(schema.DEVICES.c))
_STATE = _cut(schema.DEVICE_STATES, _DEVICE)
_KEY = _cut(schema.KEYS, _STATE)
_REQUEST = _cut(schema.KEY_REQUESTS, _KEY)
_SIGHTING = _cut(schema.EVIDENCE, _REQUEST)


def _governed(row: Row, documents: dict[str, Mapping[str, Any]]) -> Governed:
    body = row[-1]
    if body is not None and body not in documents:
        documents[body] = json.loads(body)
    return Governed(
        device=DEVICES.record(row[_DEVICE]),
        state=STATES.record(row[_STATE]),
        key=_optional(KEYS, row[_KEY]),
        request=_optional(REQUESTS, row[_REQUEST]),
        sighting=_optional(_SIGHTINGS, row[_SIGHTING]),
        document=None if body is None else documents[body],
    )


def _optional(records: RecordTable[R], row: Row) -> R | None:
    """Return the record of the row of an outer join."""
    return None if row[0] is None else records.record(row)
