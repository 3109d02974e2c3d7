"""Checks on demand: an administrator asks the server, and the machine's agent makes one at once.

The schedule has one in five minutes, so that what happens here within seconds was asked for.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import APPROVING
from tests.support.live import AgentMachine, LiveServer, eventually, running_server

NewAgent = Callable[..., AgentMachine]
SOON = 20.0
AFTER_A_FAILURE = 30.0


def agent(server: LiveServer, name: str) -> Any:
    return server.ok("GET", f"/agents/{name}")


def ask(server: LiveServer, name: str) -> None:
    asked = server.ok("POST", f"/agents/{name}:check", {})
    assert asked["check_answered_at"] is None


def is_answered(server: LiveServer, name: str) -> bool:
    return agent(server, name)["check_answered_at"] is not None


@contextmanager
def running(machine: AgentMachine, server: LiveServer) -> Iterator[None]:
    """Run the machine's service, and wait for its first exchange."""
    with machine.service():
        eventually(lambda: agent(server, machine.name)["last_seen_at"], SOON)
        yield


def test_a_check_that_is_asked_for_is_made_within_seconds(
    new_agent: NewAgent, server: LiveServer
) -> None:
    machine = new_agent("asked")
    with running(machine, server):
        for _ in range(2):
            ask(server, "asked")
            assert eventually(lambda: is_answered(server, "asked"), SOON) < SOON
    (device,) = server.ok("GET", "/devices?agent=asked")["items"]
    assert device["volume_state"] is not None
    assert "somebody asked the server for it" in (machine.directory / "run.log").read_text()


def test_a_machine_that_does_not_comply_any_more_is_denied_by_it(
    new_agent: NewAgent, server: LiveServer
) -> None:
    server.ok("PUT", "/policies/turning", APPROVING)
    machine = new_agent("turned", "turning")
    with running(machine, server):
        server.ok("PUT", "/policies/turning", {**APPROVING, "rules": [
            {"fact": "kernel.machine", "operator": "equals", "value": "none"},
        ]})  # fmt: skip
        ask(server, "turned")
        eventually(lambda: is_answered(server, "turned"), SOON)
        (latest, *_) = server.ok("GET", "/devices/turned-data/evidence")["items"]
        assert (latest["outcome"], latest["code"]) == ("denied", "policy")


def test_a_machine_that_was_off_makes_it_when_it_comes_back(
    new_agent: NewAgent, server: LiveServer
) -> None:
    machine = new_agent("away")
    machine.unlock()
    ask(server, "away")
    assert not is_answered(server, "away")
    with machine.service():
        eventually(lambda: is_answered(server, "away"), SOON)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server at which nobody else waits."""
    with running_server(tmp_path / "server") as live:
        yield live


def waits(server: LiveServer) -> bool:
    return server.metric("securecloud_waiting_agents") == 1


def test_neither_reload_nor_stop_waits_for_who_waits_and_they_come_again(
    own_server: LiveServer, tmp_path: Path
) -> None:
    server = own_server
    machine = AgentMachine(tmp_path, server, "patient")
    machine.configure()
    machine.enrol()
    with running(machine, server):
        eventually(lambda: waits(server), SOON)
        server.send(signal.SIGHUP)
        ask(server, "patient")
        eventually(lambda: is_answered(server, "patient"), AFTER_A_FAILURE)
        eventually(lambda: waits(server), AFTER_A_FAILURE)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 8, "Granian ends a worker that hangs after ten"
        server.start()
        eventually(lambda: waits(server), AFTER_A_FAILURE)
        ask(server, "patient")
        eventually(lambda: is_answered(server, "patient"), SOON)
