"""Real playbooks against a real server: each playbook hands its results to the test as JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import BIN, AgentMachine, LiveServer, running_server
from tests.support.site import Site

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a short name, for below it there will be sockets."""
    return tmp_path_factory.mktemp("s")


Play = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A management server as its own commands configure, initialise and serve it."""
    with running_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def machine(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> AgentMachine:
    """An enrolled agent whose device waits for a person to decide."""
    agent = AgentMachine(tmp_path_factory.mktemp("agent"), live_server, "quartet")
    agent.configure()
    agent.enrol()
    agent.register("quartet-data")
    return agent


@pytest.fixture(scope="session")
def play(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Run a playbook of this folder; return what it saved in `results_file`."""
    home = tmp_path_factory.mktemp("ansible")

    def run(playbook: str, **variables: Any) -> dict[str, Any]:
        results = tmp_path_factory.mktemp("results") / "results.json"
        variables = {
            "ansible_python_interpreter": sys.executable,
            "server_url": live_server.url,
            "ca_file": str(live_server.ca_file),
            "token_file": str(live_server.token_file),
            "results_file": str(results),
            **variables,
        }
        done = subprocess.run(
            [
                *(BIN / "ansible-playbook", "-i", "localhost,", "-c", "local"),
                *("-e", json.dumps(variables), HERE / playbook),
            ],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_HOME": str(home),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert results.exists(), done.stdout + done.stderr
        loaded: dict[str, Any] = json.loads(results.read_text())
        return loaded

    return run


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server and an agent that the playbook `site` installs here."""
    here = Site(tmp_path_factory.mktemp("site"))
    yield here
    here.stop()


@pytest.fixture(scope="session")
def first(site: Site) -> tuple[dict[str, int], str]:
    """What its first run said."""
    return site.run()
