"""Enrolment: pin the server that the token names, bind this machine's identity to a name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from securecloud_protocol.agent import Enrolment, read_server_identity
from securecloud_protocol.errors import ProtocolError
from securecloud_protocol.http_binding import ENROL_PATH
from securecloud_protocol.messages import Enrolled, ServerIdentity
from securecloud_protocol.token import EnrolmentToken

from securecloud_agent.client.connection import Connection, Peers
from securecloud_agent.client.failures import explain
from securecloud_agent.client.race import first
from securecloud_agent.client.tls import Deadline

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class _Introduction:
    """Asks one server who it is, and takes no other answer than what the token pins."""

    def __init__(self, connection: Connection, fingerprint: str) -> None:
        self.url = connection.url
        self._connection = connection
        self._fingerprint = fingerprint

    def run(self) -> tuple[Connection, ServerIdentity]:
        answer = self._connection.request("GET", ENROL_PATH)
        try:
            return self._connection, read_server_identity(answer, self._fingerprint)
        except ProtocolError as error:
            self._connection.close()
            raise explain(error, self.url, "server identity") from None

    def close(self) -> None:
        self._connection.close()


def enrol(
    urls: Sequence[str],
    peers: Peers,
    deadline: Deadline,
    agent_name: str,
    key: "Ed25519PrivateKey",
    token: EnrolmentToken,
) -> tuple[ServerIdentity, Enrolled]:
    """Enrol with the first server that answers; the token is sent to one server only, once."""
    contenders = [
        _Introduction(Connection(url, peers, deadline), token.fingerprint) for url in urls
    ]
    connection, identity = first(contenders, deadline)
    enrolment = Enrolment(identity, key)
    try:
        answer = connection.request("POST", ENROL_PATH, enrolment.request(agent_name, token))
        return identity, enrolment.confirm(answer)
    except ProtocolError as error:
        raise explain(error, connection.url, "enrolment") from None
    finally:
        connection.close()
