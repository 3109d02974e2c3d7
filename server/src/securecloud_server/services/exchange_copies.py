"""Copy in, Kept out: the LUKS headers themselves, for the day when one is damaged on its disk."""

import hashlib

from securecloud_protocol.errors import ErrorCode
from securecloud_protocol.server import OpenedCopy, Responder

from securecloud_server.domain.ports import Database, Transaction
from securecloud_server.domain.records import Actor, AuditEvent, HeaderCopy
from securecloud_server.services.admin import log
from securecloud_server.services.exchange_headers import expected, kept
from securecloud_server.services.exchange_identities import Refused, active_agent


class HeaderCopies:
    """Answers one Copy; see `answer`."""

    def __init__(self, database: Database, responder: Responder) -> None:
        self._database = database
        self._responder = responder

    def answer(self, data: bytes, source: str, now: int) -> bytes:
        """Authenticate, keep in the place of the one before, answer."""
        opened = self._responder.open_copy(data, now)
        self._database.write(lambda tx: _keep(tx, opened, source, now))
        return self._responder.kept(opened)


def _keep(tx: Transaction, opened: OpenedCopy, source: str, now: int) -> None:
    agent = active_agent(tx, opened.agent_id, source)
    actor = Actor("agent", agent.name, None, source)
    name, header = opened.copy.device, opened.copy.header
    details: dict[str, object] = {"session_id": opened.copy.session_id.hex()}

    def stale(reason: str) -> Refused:
        event = AuditEvent(actor, "exchange.refused", f"device:{name}", "refused", reason, details)
        return Refused(ErrorCode.STALE, event)

    device = tx.devices.get(name)
    if device is None or device.agent != agent.name:
        raise stale(f"not of agent {agent.name} any more")
    state = tx.devices.states([device.device_id])[device.device_id]
    digest, known = hashlib.sha256(header).digest(), expected(state)
    details |= {"header": digest.hex(), "octets": len(header)}
    if known is None or known.digest != digest:
        raise stale("a copy of another header than expected")
    if state.header_kept == digest:
        # Sent again, for the Kept was lost.
        return
    tx.header_copies.put(HeaderCopy(device.device_id, digest, header, now))
    tx.devices.put_state(kept(state, digest))
    log(tx, actor, "device.header_kept", f"device:{name}", details)
