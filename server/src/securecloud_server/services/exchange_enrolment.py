"""Enrolment: binds an agent's name to its identity key, once, against a one-use token."""

import hashlib
import hmac
from dataclasses import replace

from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.server import OpenedEnrol, Responder

from securecloud_server.domain.ids import uuid7
from securecloud_server.domain.ports import Clock, Database, RandomSource, Transaction
from securecloud_server.domain.records import Actor, Agent, AuditEvent, EnrolmentTokenRecord
from securecloud_server.services.exchange_identities import Doorkeeper, Refusals, Refused

_NO_HASH = bytes(32)


class EnrolmentService:
    """Answers GET and POST enrol. Raises ProtocolError; `detail` is for the log only."""

    def __init__(
        self,
        database: Database,
        responder: Responder,
        clock: Clock,
        random: RandomSource,
        refusals: Refusals,
    ) -> None:
        self._database = database
        self._door = Doorkeeper(database, refusals)
        self._responder = responder
        self._clock = clock
        self._random = random

    def identity(self) -> bytes:
        """Return who this server is."""
        return self._responder.identity_message()

    def enrol(self, data: bytes, source: str) -> bytes:
        """Bind the agent's key and return its id.

        The same agent with the same token gets the same answer again: a reply may get lost.
        """
        return self._door.run("enrol", source, lambda: self._enrol(data, source))

    def _enrol(self, data: bytes, source: str) -> bytes:
        opened = self._responder.open_enrol(data)
        actor = Actor("agent", opened.request.agent_name, None, source)
        agent_id = self._database.write(lambda tx: self._bind(tx, opened, actor))
        return self._responder.enrolled(opened, agent_id)

    def _bind(self, tx: Transaction, opened: OpenedEnrol, actor: Actor) -> str:
        now = int(self._clock())
        token = _authentic_token(tx, opened)
        agent = tx.agents.get(opened.request.agent_name)
        if token.used_at is not None and _is_repetition(token, agent, opened):
            return agent.agent_id if agent else ""
        _check_usable(token, opened, actor, now)
        _check_name_is_free(agent, opened, actor)
        agent_id = self._bound_agent(tx, agent, opened, now)
        identity_key = opened.request.identity_key
        tx.enrolment_tokens.replace(replace(token, used_at=now, used_by=identity_key))
        fingerprint = hashlib.sha256(identity_key).hexdigest()
        details = {"token": token.token_id, "agent_id": agent_id, "identity": fingerprint}
        target = f"agent:{opened.request.agent_name}"
        tx.audit.append(AuditEvent(actor, "agent.enrolled", target, "success", "", details))
        return agent_id

    def _bound_agent(
        self, tx: Transaction, known: Agent | None, opened: OpenedEnrol, now: int
    ) -> str:
        """Return the id of the agent: bound now, or before with the same key."""
        if known is not None and known.state == "active":
            return known.agent_id
        agent_id = uuid7(now * 1000, self._random)
        request = opened.request
        agent = Agent(request.agent_name, agent_id, request.identity_key, "active", now)
        if known is None:
            tx.agents.add(agent)
        else:
            tx.agents.replace(agent)
        return agent_id


def _authentic_token(tx: Transaction, opened: OpenedEnrol) -> EnrolmentTokenRecord:
    """Return the token whose secret was presented; who guesses is a stranger."""
    token = tx.enrolment_tokens.get(opened.request.token_id)
    expected = token.secret_hash if token else _NO_HASH
    presented = hashlib.sha256(opened.secret).digest()
    if not hmac.compare_digest(expected, presented) or token is None:
        cause = "its secret is wrong" if token else "there is none with this id"
        raise ProtocolError(
            ErrorCode.ENROLMENT_REFUSED, f"token {opened.request.token_id}: {cause}"
        )
    return token


def _is_repetition(token: EnrolmentTokenRecord, agent: Agent | None, opened: OpenedEnrol) -> bool:
    key = opened.request.identity_key
    return (
        token.used_by == key
        and token.agent_name == opened.request.agent_name
        and agent is not None
        and agent.state == "active"
        and agent.identity_key == key
    )


def _check_usable(token: EnrolmentTokenRecord, opened: OpenedEnrol, actor: Actor, now: int) -> None:
    name, problem = opened.request.agent_name, None
    if token.revoked_at is not None:
        problem = "it was revoked"
    elif token.used_at is not None:
        problem = "it was used before"
    elif token.expires_at <= now:
        problem = f"it expired {now - token.expires_at} s ago"
    elif token.agent_name != name:
        problem = f"it is for agent {token.agent_name}"
    if problem is not None:
        raise _refused(ErrorCode.ENROLMENT_REFUSED, token.token_id, actor, problem)


def _check_name_is_free(agent: Agent | None, opened: OpenedEnrol, actor: Actor) -> None:
    request = opened.request
    taken = agent is not None and agent.state == "active"
    if taken and agent is not None and agent.identity_key != request.identity_key:
        problem = "the name is bound to another identity key; retire that agent first"
        raise _refused(ErrorCode.IDENTITY_CONFLICT, request.token_id, actor, problem)


def _refused(code: ErrorCode, token_id: str, actor: Actor, problem: str) -> Refused:
    reason = f"token {token_id}: {problem}"
    target = f"agent:{actor.name}"
    return Refused(code, AuditEvent(actor, "agent.enrolment_refused", target, "refused", reason))
