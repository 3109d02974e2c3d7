"""Renewing the server's certificate while agents come and go."""

import signal
import ssl
import time
from collections.abc import Callable

from demo.ca import ensure_certificates
from tests.support.live import AgentMachine, LiveServer

NewAgent = Callable[..., AgentMachine]
LIMIT = 30.0


def _shown(server: LiveServer) -> str:
    return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=10)


def test_a_renewed_certificate_is_served_after_sighup_and_no_connection_is_refused(
    new_agent: NewAgent, server: LiveServer
) -> None:
    machine = new_agent("renewal")
    old, authorities = _shown(server), server.ca_file.read_text()
    (server.tls / "server.pem").unlink()
    ensure_certificates(server.tls)
    # For a few seconds old and new workers answer side by side, and here each has an authority.
    both = machine.directory / "authorities.pem"
    both.write_text(authorities + server.ca_file.read_text())
    machine.configure(ca_file=str(both))
    server.send(signal.SIGHUP)
    deadline = time.monotonic() + LIMIT
    while _shown(server) == old:
        assert time.monotonic() < deadline, "the old certificate is still served"
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device
