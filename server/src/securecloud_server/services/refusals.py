"""Those who are not let in, in the audit log, however often and from wherever they knock."""

import threading
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.records import Actor, AuditEvent
from securecloud_server.services.admin import Ports

QUIET_SECONDS = 60
MOST_STRANGERS = 120
"""Events of people whom nobody knows, in QUIET_SECONDS, whatever their addresses."""
_MOST_REMEMBERED = 1024


class _Like(NamedTuple):
    """Refusals that are alike."""

    network: str | int | None
    action: str
    actor: str
    apart: str


class _Owed(NamedTuple):
    """How many refusals are not in the log yet: alike, and others that were forgotten."""

    similar: int
    others: int


class RefusalLog:
    """Audits refused access: one event a minute for each address, person and action.

    So nobody fills the log by knocking, and no knocking goes unnoticed: the next event says how
    many like it were left out, and how many others, from more addresses than are remembered.
    """

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._lock = threading.Lock()
        # When the last one like it was appended, and how many were not since; oldest first.
        self._known: dict[_Like, tuple[int | None, int]] = {}
        self._others = 0
        self._minute: int | None = None
        self._strangers = 0

    def record(
        self, actor: Actor, action: str, target: str, reason: str, *, apart: str = ""
    ) -> None:
        """Append the refusal unless one like it was appended within the minute.

        Those that differ in `apart` are not alike. Unavailable when it cannot be appended; the
        next one counts it.
        """
        like = _Like(_network(actor.source), action, str(actor), apart)
        owed = self._due(like, stranger=actor.kind == "anonymous")
        if owed is None:
            return
        details = {f"{name}_not_logged": count for name, count in owed._asdict().items() if count}
        event = AuditEvent(actor, action, target, "refused", reason, details)
        try:
            self._ports.database.write(lambda tx: tx.audit.append(event))
        except Unavailable:
            self._owe(like, owed)
            raise

    def _due(self, like: _Like, *, stranger: bool) -> _Owed | None:
        """Return what is to be said of those before, or None where this one is only counted."""
        now = self._ports.now()
        with self._lock:
            appended_at, similar = self._known.pop(like, (None, 0))
            if _is_recent(appended_at, now) or (stranger and self._are_too_many(now)):
                self._remember(like, appended_at, similar + 1)
                return None
            self._remember(like, now, 0)
            others, self._others = self._others, 0
            return _Owed(similar, others)

    def _owe(self, like: _Like, owed: _Owed) -> None:
        with self._lock:
            similar = self._known.pop(like, (None, 0))[1]
            self._remember(like, None, similar + owed.similar + 1)
            self._others += owed.others

    def _remember(self, like: _Like, appended_at: int | None, similar: int) -> None:
        self._known[like] = appended_at, similar
        if len(self._known) > _MOST_REMEMBERED:
            oldest = next(iter(self._known))
            self._others += self._known.pop(oldest)[1]

    def _are_too_many(self, now: int) -> bool:
        if not _is_recent(self._minute, now):
            self._minute, self._strangers = now, 0
        self._strangers += 1
        return self._strangers > MOST_STRANGERS


def _is_recent(moment: int | None, now: int) -> bool:
    """Whether it is less than a minute ago; what is yet to come was before the clock was set."""
    return moment is not None and 0 <= now - moment < QUIET_SECONDS


def _network(source: str | None) -> str | int | None:
    """Return what one machine has for itself: an IPv4 address, or 64 bits of an IPv6 one."""
    try:
        address = ip_address(source or "")
    except ValueError:
        return source
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped) if address.ipv4_mapped else int(address) >> 64
