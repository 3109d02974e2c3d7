"""Who speaks: looks an agent's identity key up while a message is being authenticated."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from securecloud_protocol.errors import ErrorCode, ProtocolError

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import Database, Transaction
from securecloud_server.domain.records import Actor, Agent, AuditEvent

T = TypeVar("T")
_STRANGE = "exchange.unauthenticated"
_OF_STRANGERS = frozenset({ErrorCode.NOT_AUTHENTICATED, ErrorCode.ENROLMENT_REFUSED})


class Identities:
    """An `IdentityLookup` of the protocol that remembers whom it found.

    To a retired agent nothing else is said than to one that never was, but the audit log knows it.
    """

    def __init__(self, tx: Transaction, source: str) -> None:
        self._tx = tx
        self._source = source
        self._found: Agent | None = None

    def __call__(self, agent_id: str) -> bytes | None:
        """Return the agent's public key (32 octets)."""
        agent = self._tx.agents.by_id(agent_id)
        if agent is None:
            return None
        self._found = agent
        return agent.identity_key

    @property
    def agent(self) -> Agent:
        """Return the agent whose message has been authenticated."""
        if self._found is None:
            raise ProtocolError(ErrorCode.NOT_AUTHENTICATED, "no agent was looked up")
        return _active(self._found, self._source)


def active_agent(tx: Transaction, agent_id: str, source: str) -> Agent:
    """Return the agent for which a token of ours was made; it may be gone or retired since."""
    agent = tx.agents.by_id(agent_id)
    if agent is None:
        raise ProtocolError(ErrorCode.NOT_AUTHENTICATED, "the agent is gone")
    return _active(agent, source)


def _active(agent: Agent, source: str) -> Agent:
    if agent.state != "active":
        raise Retired(Actor("agent", agent.name, None, source))
    return agent


class Refused(ProtocolError):
    """A refusal that belongs into the audit log, because the sender is known."""

    def __init__(self, code: ErrorCode, event: AuditEvent) -> None:
        super().__init__(code, event.reason)
        self.event = event


class Retired(ProtocolError):
    """A message of an agent that was sent away, and knocks as often as it likes."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(ErrorCode.NOT_AUTHENTICATED, "the agent is retired")
        self.actor = actor


class Refusals(Protocol):
    """Keeps that somebody knocked who is not let in."""

    def record(
        self, actor: Actor, action: str, target: str, reason: str, *, apart: str = ""
    ) -> None:
        """Append the refusal to the audit log unless one like it was appended just now."""


class Doorkeeper:
    """Runs the steps of an exchange; a refusal is in the audit log before it is raised.

    Without a database everything is UNAVAILABLE, a refusal too.
    """

    def __init__(self, database: Database, refusals: Refusals) -> None:
        self._database = database
        self._refusals = refusals

    def run(self, step: str, source: str, answer: Callable[[], T]) -> T:
        """Return the answer of the step to a message from the address `source`."""
        try:
            return self._audited(step, source, answer)
        except Unavailable as error:
            raise ProtocolError(ErrorCode.UNAVAILABLE, str(error)) from error

    def _audited(self, step: str, source: str, answer: Callable[[], T]) -> T:
        try:
            return answer()
        except Refused as refusal:
            event = refusal.event
            self._database.write(lambda tx: tx.audit.append(event))
            raise
        except Retired as refusal:
            actor, action = refusal.actor, "exchange.refused"
            self._refusals.record(actor, action, str(actor), refusal.detail, apart=step)
            raise
        except ProtocolError as error:
            if error.code in _OF_STRANGERS:
                actor, action = Actor("anonymous", "unknown", None, source), _STRANGE
                self._refusals.record(actor, action, step, error.detail, apart=step)
            raise
