from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.live import AgentMachine, LiveServer, running_server

APPROVING = {
    "description": "approves any Linux machine",
    "rules": [{"fact": "kernel.machine", "operator": "not_equals", "value": "none"}],
    "on_match": {"action": "approve"},
    "on_fail": {"action": "deny"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running_server(tmp_path_factory.mktemp("server")) as live:
        live.ok("PUT", "/policies/approving", APPROVING)
        yield live


@pytest.fixture
def new_agent(server: LiveServer, tmp_path: Path) -> Callable[[str], AgentMachine]:
    """Make an enrolled agent whose device of the same name has the policy `approving`."""

    def make(name: str, policy: str | None = "approving") -> AgentMachine:
        directory = tmp_path / name
        directory.mkdir()
        machine = AgentMachine(directory, server, name)
        machine.configure()
        machine.enrol()
        machine.register(f"{name}-data", policy)
        return machine

    return make
