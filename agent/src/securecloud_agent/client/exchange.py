"""The exchange: hello to several servers, then evidence, release and ack with the one that won."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from securecloud_protocol.agent import Exchange, Waiting
from securecloud_protocol.envelope import decode
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.http_binding import ACK_PATH, COPY_PATH, EVIDENCE_PATH, HELLO_PATH
from securecloud_protocol.messages import (
    MAX_HEADER_BYTES,
    AckResult,
    ChallengeCore,
    EvidenceBody,
    ReleaseBody,
    ServerIdentity,
)

from securecloud_agent.client.connection import Connection, Peers
from securecloud_agent.client.failures import UnreachableError, explain
from securecloud_agent.client.race import first
from securecloud_agent.client.tls import Deadline
from securecloud_agent.decide.schedule import backoff
from securecloud_agent.errors import warned

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_ACK_ATTEMPTS = 5
_ACK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and whom it trusts to answer."""

    agent_id: str
    key: "Ed25519PrivateKey"
    server: ServerIdentity


@dataclass(frozen=True, slots=True)
class Question:
    """What a Hello says; no devices means all of this agent's. `time` in seconds since 1970."""

    devices: tuple[str, ...]
    boot_id: str
    time: int
    seen_audit_size: int


class Session:
    """An exchange whose challenge has been verified."""

    def __init__(
        self,
        connection: Connection,
        exchange: Exchange,
        core: ChallengeCore,
        open_again: Callable[[Deadline], Sequence[Connection]],
    ) -> None:
        self.core = core
        self.url = connection.url
        self._connection = connection
        self._exchange = exchange
        self._open_again = open_again

    @property
    def waiting(self) -> Waiting:
        """What the exchange leaves to wait with; after the release."""
        return self._exchange.waiting

    def release(self, body: EvidenceBody) -> ReleaseBody:
        """Send the evidence and return the server's decisions."""
        try:
            message = self._exchange.evidence(body)
            answer = self._connection.request("POST", EVIDENCE_PATH, message)
            return self._exchange.release(answer)
        except ProtocolError as error:
            raise explain(error, self.url, "evidence") from None

    def acknowledge(
        self,
        results: tuple[AckResult, ...],
        deadline: Deadline,
        pause: Callable[[float], None],
        chance: Callable[[], float],
        copy_of: Callable[[str], bytes | None],
    ) -> None:
        """Tell what became of the devices; the same message again until the server has it.

        Any server may take it: it is bound to the exchange, not to the connection. Where it lacks
        the LUKS header of a device, it gets what `copy_of` returns.
        """
        message = self._exchange.ack(results)
        limit = deadline.within(_ACK_SECONDS)
        self._connection.extend(limit)
        connections = [self._connection, *self._open_again(limit)]
        try:
            for attempt in range(_ACK_ATTEMPTS):
                try:
                    connection = connections[attempt % len(connections)]
                    wanted = self._send_ack(connection, message, attempt)
                    return self._send_copies(connection, wanted, copy_of)
                except UnreachableError:
                    if attempt == _ACK_ATTEMPTS - 1:
                        raise
                    pause(backoff(attempt, chance(), first=0.25))
        finally:
            for connection in connections:
                connection.close()

    def _send_ack(self, connection: Connection, message: bytes, attempt: int) -> tuple[str, ...]:
        answer = connection.request("POST", ACK_PATH, message)
        try:
            decode(answer, "receipt")
            return self._exchange.receipt(answer)
        except ProtocolError as error:
            if error.code is ErrorCode.REPLAYED and (attempt or connection.resent):
                return ()
            raise explain(error, connection.url, "acknowledgement") from None

    def _send_copies(
        self, connection: Connection, devices: Sequence[str], copy_of: Callable[[str], bytes | None]
    ) -> None:
        """Send what the server asks for; what fails is asked for again with the next Receipt."""
        for device in devices:
            with warned(f"{device}: the server has no copy of its LUKS header"):
                header = copy_of(device)
                if header is None or len(header) > MAX_HEADER_BYTES:
                    continue
                message = self._exchange.copy(device, header)
                answer = connection.request("POST", COPY_PATH, message)
                try:
                    self._exchange.kept(answer)
                except ProtocolError as error:
                    raise explain(error, connection.url, "copy of a header") from None

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


class _Opening:
    """Says hello to one server."""

    def __init__(self, connection: Connection, caller: Caller, question: Question) -> None:
        self.url = connection.url
        self.connection = connection
        self._caller = caller
        self._question = question

    def run(self) -> tuple[Connection, Exchange, ChallengeCore]:
        caller, asked = self._caller, self._question
        exchange = Exchange(caller.server, caller.agent_id, caller.key)
        hello = exchange.hello(asked.devices, asked.boot_id, asked.time, asked.seen_audit_size)
        answer = self.connection.request("POST", HELLO_PATH, hello)
        try:
            core = exchange.challenge(answer, self.connection.certificate)
        except ProtocolError as error:
            self.connection.close()
            raise explain(error, self.url, "hello") from None
        return self.connection, exchange, core

    def close(self) -> None:
        self.connection.close()


def open_session(
    urls: Sequence[str], peers: Peers, deadline: Deadline, caller: Caller, question: Question
) -> Session:
    """Return a session with the first server that proves to be the pinned one."""

    def connections(limit: Deadline) -> list[Connection]:
        return [Connection(url, peers, limit) for url in urls]

    contenders = [_Opening(each, caller, question) for each in connections(deadline)]
    connection, exchange, core = first(contenders, deadline)
    return Session(connection, exchange, core, connections)
