"""What has to end by itself: used sessions, what people waited for in vain, old evidence."""

from dataclasses import replace

from securecloud_server.domain import exports
from securecloud_server.domain import requests as life
from securecloud_server.domain.ports import Clock, Database, Transaction
from securecloud_server.domain.records import Actor, AuditEvent, KeyRequest
from securecloud_server.services.key_exports import log_step

_ACTOR = Actor("system", "housekeeping")
_PAGE = 100
_DAY = 86400


class Housekeeping:
    """To be run every minute or so, on any number of nodes.

    Evidence is forgotten after `evidence_days`, except for each device's last.
    """

    def __init__(self, database: Database, clock: Clock, evidence_days: int) -> None:
        self._database = database
        self._clock = clock
        self._evidence_days = evidence_days

    def run(self) -> int:
        """Forget old sessions and evidence, expire approvals and exports that nobody came for.

        Return how many ended.
        """
        now = int(self._clock())
        before = now - self._evidence_days * _DAY
        with self._database.read() as tx:
            overdue = _overdue(tx, now)
            has_old_exports = bool(tx.exports.overdue(now))
            has_old_evidence = tx.evidence.is_overdue(before)
        ended = len(overdue)
        if overdue:
            self._database.write(lambda tx: _expire(tx, overdue, now))
        if has_old_exports:
            ended += self._database.write(lambda tx: _expire_exports(tx, now))
        if has_old_evidence:
            ended += self._database.write(lambda tx: tx.evidence.forget(before))
        return ended + self._database.write(lambda tx: tx.sessions.purge(now))


def _overdue(tx: Transaction, now: int) -> list[str]:
    """Return the ids of approvals whose time is over."""
    found: list[str] = []
    after: str | None = None
    while True:
        page = tx.requests.page(after, _PAGE, {"state": life.APPROVED})
        found += [request.request_id for request in page if _is_overdue(request, now)]
        if len(page) < _PAGE:
            return found
        after = page[-1].request_id


def _is_overdue(request: KeyRequest, now: int) -> bool:
    return request.expires_at is not None and request.expires_at <= now


def _expire(tx: Transaction, request_ids: list[str], now: int) -> None:
    reason = "the approval was not used in time"
    for request_id in request_ids:
        request = tx.requests.get(request_id)
        if request is None or request.state != life.APPROVED or not _is_overdue(request, now):
            continue
        tx.requests.replace(life.move(request, life.EXPIRED, str(_ACTOR), reason, now))
        details = {"request_id": request_id}
        target = f"device:{request.device}"
        tx.audit.append(
            AuditEvent(_ACTOR, "key_request.expired", target, "success", reason, details)
        )


def _expire_exports(tx: Transaction, now: int) -> int:
    overdue = tx.exports.overdue(now)
    for export in overdue:
        waited = "other person" if export.state == exports.PENDING else "requester"
        expired = replace(export, state=exports.EXPIRED)
        tx.exports.replace(expired)
        log_step(tx, _ACTOR, expired, f"the {waited} did not come in time")
    return len(overdue)
