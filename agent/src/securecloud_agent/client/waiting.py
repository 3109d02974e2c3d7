"""Waits at a server to be told of a check that somebody asks for there."""

from dataclasses import dataclass

from securecloud_protocol.agent import Waiting
from securecloud_protocol.errors import ProtocolError
from securecloud_protocol.http_binding import LONGEST_WAIT, WAIT_PATH

from securecloud_agent.client.connection import Connection
from securecloud_agent.client.failures import explain
from securecloud_agent.client.tls import Deadline

_MARGIN = 15.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an exchange leaves to wait with, and the servers that take it, the best one first."""

    waiting: Waiting
    servers: tuple[str, ...]


def patience() -> Deadline:
    """Return the deadline of one answer; the time to connect is in it."""
    return Deadline(LONGEST_WAIT + _MARGIN)


def wait_at(connection: Connection, waiting: Waiting) -> bool:
    """Return whether a check was asked for, after at most the time that a server may take.

    Raises UnreachableError, NotTrustedError or RefusedError.
    """
    connection.extend(patience())
    answer = connection.request("POST", WAIT_PATH, waiting.wait())
    try:
        return waiting.wake(answer)
    except ProtocolError as error:
        raise explain(error, connection.url, "wait") from None
