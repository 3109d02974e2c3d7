"""Reading the audit log, and the refusals that are added to it at the doors."""

import threading
from collections.abc import Mapping, Sequence

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, AuditEvent, LoggedEvent, TreeHead
from securecloud_server.services.admin import Ports, read_page

_QUIET_SECONDS = 60
_MAX_SOURCES = 1024


class AuditService:
    """Shows events and the signed head."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def page(
        self, actor: Actor, after: int | None, limit: int, filters: Mapping[str, str | None]
    ) -> Sequence[LoggedEvent]:
        """Return events behind `after`, oldest first; for filters see `SqlAuditLog.page`."""
        authorize(actor, Privilege.READ_AUDIT)
        return read_page(self._ports, lambda tx: tx.audit.page(after, limit, filters))

    def head(self, actor: Actor) -> TreeHead:
        """Return the signed tree head."""
        authorize(actor, Privilege.READ_AUDIT)
        with self._ports.database.read() as tx:
            return tx.audit.head()


class RefusalLog:
    """Audits refused access: one event a minute for each source and action, with a count.

    So nobody fills the log by knocking, and no knocking goes unnoticed.
    """

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._lock = threading.Lock()
        self._since: dict[tuple[str | None, str], tuple[int, int]] = {}

    def record(self, actor: Actor, action: str, target: str, reason: str) -> None:
        """Append the refusal unless one like it was appended within the minute."""
        suppressed = self._due(actor.source, action)
        if suppressed is None:
            return
        details = {"similar_not_logged": suppressed} if suppressed else {}
        event = AuditEvent(actor, action, target, "refused", reason, details)
        try:
            self._ports.database.write(lambda tx: tx.audit.append(event))
        except Unavailable:
            with self._lock:
                # The next one is not like one that was appended.
                self._since.pop((actor.source, action), None)
            raise

    def _due(self, source: str | None, action: str) -> int | None:
        """Return how many like it went unlogged, or None while the minute lasts."""
        now, key = self._ports.now(), (source, action)
        with self._lock:
            if len(self._since) >= _MAX_SOURCES and key not in self._since:
                self._since.clear()
            began, count = self._since.get(key, (now - _QUIET_SECONDS, 0))
            if now - began < _QUIET_SECONDS:
                self._since[key] = began, count + 1
                return None
            self._since[key] = now, 0
            return count
