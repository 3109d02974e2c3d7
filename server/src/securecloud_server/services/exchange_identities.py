"""Who speaks: looks an agent's identity key up while a message is being authenticated."""

from securecloud_protocol.errors import ErrorCode, ProtocolError

from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.records import Agent, AuditEvent


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
