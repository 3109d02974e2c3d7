"""Reading the audit log."""

from collections.abc import Mapping, Sequence

from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, LoggedEvent, TreeHead
from securecloud_server.services.admin import Ports, read_page


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
