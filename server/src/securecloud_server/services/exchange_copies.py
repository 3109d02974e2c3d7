"""Copy in, Kept out: the LUKS headers themselves, for the day when one is damaged on its disk."""

import hashlib

from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.server import OpenedCopy, Responder

from securecloud_server.domain.ports import Database, Transaction
from securecloud_server.domain.records import Actor, HeaderCopy
from securecloud_server.services.admin import log
from securecloud_server.services.exchange_headers import expected, kept


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
    agent = tx.agents.by_id(opened.agent_id)
    if agent is None or agent.state != "active":
        raise ProtocolError(ErrorCode.NOT_AUTHENTICATED, "the agent is gone or retired")
    name, header = opened.copy.device, opened.copy.header
    device = tx.devices.get(name)
    if device is None or device.agent != agent.name:
        raise ProtocolError(ErrorCode.STALE, f"{name}: not of agent {agent.name} any more")
    state = tx.devices.states([device.device_id])[device.device_id]
    digest, known = hashlib.sha256(header).digest(), expected(state)
    if known is None or known.digest != digest:
        raise ProtocolError(ErrorCode.STALE, f"{name}: a copy of another header than expected")
    if state.header_kept == digest:
        # Sent again, for the Kept was lost.
        return
    tx.header_copies.put(HeaderCopy(device.device_id, digest, header, now))
    tx.devices.put_state(kept(state, digest))
    actor = Actor("agent", agent.name, None, source)
    details = {
        "session_id": opened.copy.session_id.hex(),
        "header": digest.hex(),
        "octets": len(header),
    }
    log(tx, actor, "device.header_kept", f"device:{name}", details)
