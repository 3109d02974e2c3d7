"""Who speaks: looks an agent's identity key up while a message is being authenticated."""

from collections.abc import Callable
from typing import TypeVar

from securecloud_protocol.errors import ErrorCode, ProtocolError

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import Database, Transaction
from securecloud_server.domain.records import Agent, AuditEvent

T = TypeVar("T")


class Identities:
    """An `IdentityLookup` of the protocol that remembers whom it found.

    A retired agent is like one that never was.
    """

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._found: Agent | None = None

    def __call__(self, agent_id: str) -> bytes | None:
        """Return the agent's public key (32 octets)."""
        agent = self._tx.agents.by_id(agent_id)
        if agent is None or agent.state != "active":
            return None
        self._found = agent
        return agent.identity_key

    @property
    def agent(self) -> Agent:
        """Return the agent whose message has been authenticated."""
        if self._found is None:
            raise ProtocolError(ErrorCode.NOT_AUTHENTICATED, "no agent was looked up")
        return self._found


class Refused(ProtocolError):
    """A refusal that belongs into the audit log, because the sender is known."""

    def __init__(self, code: ErrorCode, event: AuditEvent) -> None:
        super().__init__(code, event.reason)
        self.event = event


def refusing(database: Database, answer: Callable[[], T]) -> T:
    """Run one step; a refusal is audited before it is raised.

    Without a database everything is UNAVAILABLE, a refusal too.
    """
    try:
        return _audited(database, answer)
    except Unavailable as error:
        raise ProtocolError(ErrorCode.UNAVAILABLE, str(error)) from error


def _audited(database: Database, answer: Callable[[], T]) -> T:
    try:
        return answer()
    except Refused as refusal:
        event = refusal.event
        database.write(lambda tx: tx.audit.append(event))
        raise
