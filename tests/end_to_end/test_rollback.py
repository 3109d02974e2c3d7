"""The server's database is set back to a copy of before, which fits together in every way."""

import shutil
from pathlib import Path

from tests.end_to_end.conftest import APPROVING
from tests.support.live import AgentMachine, running_server


def granted(machine: AgentMachine) -> bool:
    machine.cli("lock")
    code, device = machine.unlock()
    return (code, device["outcome"]) == (0, "granted")


def test_an_agent_that_saw_more_of_the_log_refuses_it(tmp_path: Path) -> None:
    with running_server(tmp_path / "server") as server:
        server.ok("PUT", "/policies/approving", APPROVING)
        machine = AgentMachine(tmp_path, server, "web1")
        machine.configure()
        machine.enrol()
        machine.register("web1-data", "approving")
        assert granted(machine)
        server.stop()
        shutil.copytree(server.database.parent, tmp_path / "copy")
        server.start()
        assert granted(machine)
        server.stop()
        shutil.rmtree(server.database.parent)
        shutil.copytree(tmp_path / "copy", server.database.parent)
        assert server.cli("audit", "verify").returncode == 0, "nobody but an agent can tell"
        server.start()
        machine.cli("lock")
        refused = machine.cli("unlock")
        assert (refused.returncode, "unavailable" in refused.stderr) == (1, True)
        assert server.ok("GET", "/audit-events?action=audit.truncated")["items"]
