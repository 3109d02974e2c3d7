"""Enrolment tokens: one-use rights to bind one agent name, shown once and stored hashed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from securecloud_protocol.token import EnrolmentToken, format_token

from securecloud_server.domain.errors import Conflict
from securecloud_server.domain.names import name_errors, require
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.preconditions import ALWAYS, Precondition
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, EnrolmentTokenRecord
from securecloud_server.services.admin import (
    SECRET_BYTES,
    Ports,
    Slice,
    found,
    log,
    read_page,
    secret_hash,
)

_ID_BYTES = 6


def state(token: EnrolmentTokenRecord, now: int) -> str:
    """Return unused, used, expired or revoked."""
    if token.used_at is not None:
        return "used"
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at <= now else "unused"


def tag(token: EnrolmentTokenRecord, now: int) -> str:
    """Return the entity tag of a token."""
    return f"{token.token_id}-{state(token, now)}"


class EnrollmentTokenService:
    """Mints, lists and revokes enrolment tokens for the server whose `fingerprint` is given."""

    def __init__(self, ports: Ports, fingerprint: str) -> None:
        self._ports = ports
        self._fingerprint = fingerprint

    def create(
        self, actor: Actor, agent_name: str, expires_in: int
    ) -> tuple[EnrolmentTokenRecord, str]:
        """Return the token's record and its text, which is not kept."""
        authorize(actor, Privilege.EDIT_CONFIGURATION)
        require(name_errors("agent_name", agent_name))
        secret, now = self._ports.random(SECRET_BYTES), self._ports.now()
        record = EnrolmentTokenRecord(
            token_id=self._ports.random(_ID_BYTES).hex(),
            agent_name=agent_name,
            secret_hash=secret_hash(secret),
            created_at=now,
            expires_at=now + expires_in,
        )

        def work(tx: Transaction) -> None:
            agent = tx.agents.get(agent_name)
            if agent is not None and agent.state == "active":
                raise Conflict(f"agent {agent_name!r} is enrolled; retire it first")
            tx.enrolment_tokens.add(record)
            details = {"token": record.token_id, "expires_at": record.expires_at}
            log(tx, actor, "enrollment_token.created", f"agent:{agent_name}", details)

        self._ports.database.write(work)
        token = EnrolmentToken(record.token_id, secret, self._fingerprint)
        return record, format_token(token)

    def get(self, actor: Actor, token_id: str) -> EnrolmentTokenRecord:
        """Return the token's record."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            return found(tx.enrolment_tokens.get(token_id), "enrolment token", token_id)

    def page(
        self, actor: Actor, part: Slice, filters: Mapping[str, str | None]
    ) -> Sequence[EnrolmentTokenRecord]:
        """Return tokens by id; filter `agent_name`."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        return read_page(
            self._ports, lambda tx: tx.enrolment_tokens.page(part.after, part.limit, filters)
        )

    def revoke(self, actor: Actor, token_id: str, precondition: Precondition = ALWAYS) -> None:
        """Make an unused token useless; a used one stays what it is."""
        authorize(actor, Privilege.EDIT_CONFIGURATION)

        def work(tx: Transaction) -> None:
            token = found(tx.enrolment_tokens.get(token_id), "enrolment token", token_id)
            precondition.check(tag(token, self._ports.now()))
            if state(token, self._ports.now()) == "unused":
                tx.enrolment_tokens.replace(replace(token, revoked_at=self._ports.now()))
                target = f"agent:{token.agent_name}"
                log(tx, actor, "enrollment_token.revoked", target, {"token": token_id})

        self._ports.database.write(work)

    def now(self) -> int:
        """Return the time by which `state` is judged."""
        return self._ports.now()
