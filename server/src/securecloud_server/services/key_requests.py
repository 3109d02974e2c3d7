"""Key requests: what waits for a person, and the person's decision."""

from collections.abc import Mapping, Sequence

from securecloud_server.domain import requests as life
from securecloud_server.domain.errors import Conflict
from securecloud_server.domain.names import reason_errors, require
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, KeyRequest
from securecloud_server.services.admin import Ports, Slice, found, log, read_page


class KeyRequestService:
    """Reads and decides key requests; an approval waits `approval_lifetime` seconds."""

    def __init__(self, ports: Ports, approval_lifetime: int) -> None:
        self._ports = ports
        self._approval_lifetime = approval_lifetime

    def get(self, actor: Actor, request_id: str) -> KeyRequest:
        """Return the request."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            return found(tx.requests.get(request_id), "key request", request_id)

    def page(
        self, actor: Actor, part: Slice, filters: Mapping[str, str | None]
    ) -> Sequence[KeyRequest]:
        """Return requests, newest first; filters `state`, `device`, `agent`."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        return read_page(self._ports, lambda tx: tx.requests.page(part.after, part.limit, filters))

    def approve(self, actor: Actor, request_id: str, reason: str) -> KeyRequest:
        """Approve a pending request; the agent gets its key with its next proof."""
        expires_at = self._ports.now() + self._approval_lifetime
        return self._decide(actor, request_id, life.APPROVED, reason, expires_at)

    def deny(self, actor: Actor, request_id: str, reason: str) -> KeyRequest:
        """Deny a pending request; it stands until the machine boots again or changes."""
        return self._decide(actor, request_id, life.DENIED, reason, None)

    def _decide(
        self, actor: Actor, request_id: str, state: str, reason: str, expires_at: int | None
    ) -> KeyRequest:
        authorize(actor, Privilege.DECIDE_REQUESTS)
        require(reason_errors(reason))

        def work(tx: Transaction) -> KeyRequest:
            known = found(tx.requests.get(request_id), "key request", request_id)
            if known.state != life.PENDING:
                raise Conflict(f"key request {request_id} is {known.state}, not pending")
            decided = life.move(
                known, state, str(actor), reason, self._ports.now(), expires_at=expires_at
            )
            tx.requests.replace(decided)
            details = {"request": request_id, "failing": list(known.failing)}
            log(tx, actor, f"key_request.{state}", f"device:{known.device}", details, reason)
            return decided

        return self._ports.database.write(work)
