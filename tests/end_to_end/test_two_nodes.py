"""Two servers on one PostgreSQL: either answers, and one may go."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.end_to_end.conftest import APPROVING
from tests.support.live import AgentMachine, LiveServer, eventually, running_server
from tests.support.postgres import Cluster


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, LiveServer]]:
    cluster = Cluster()
    cluster.start()
    try:
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE keys")
        directory = tmp_path_factory.mktemp("nodes")
        with (
            running_server(directory / "one", cluster.url("keys")) as one,
            running_server(directory / "two", beside=one) as two,
        ):
            yield one, two
    finally:
        cluster.remove()


def test_either_node_serves_and_one_may_go(
    nodes: tuple[LiveServer, LiveServer], tmp_path: Path
) -> None:
    one, two = nodes
    one.ok("PUT", "/policies/approving", APPROVING)
    assert two.ok("GET", "/policies/approving")["version"] == 1
    machine = AgentMachine(tmp_path, one, "roaming")
    machine.configure(servers=[one.url, two.url])
    machine.enrol()
    machine.register("roaming-data", "approving")
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device
    one.kill()
    assert one.falls_silent()
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device
    two.ok("POST", "/keys/roaming-data:revoke", {"reason": "a node is gone"})
    one.start()
    code, device = machine.unlock()
    assert (code, device["code"]) == (4, "revoked"), device
    for node in nodes:
        verdict = node.cli("audit", "verify", "--json")
        assert verdict.returncode == 0, verdict.stdout + verdict.stderr


def test_a_check_that_one_node_is_asked_for_wakes_who_waits_at_the_other(
    nodes: tuple[LiveServer, LiveServer], tmp_path: Path
) -> None:
    one, two = nodes
    machine = AgentMachine(tmp_path, one, "distant")
    machine.configure()
    machine.enrol()

    def is_answered() -> bool:
        return two.ok("GET", "/agents/distant")["check_answered_at"] is not None

    with machine.service():
        eventually(lambda: one.metric("securecloud_waiting_agents") == 1, 20)
        two.ok("POST", "/agents/distant:check", {})
        eventually(is_answered, 20)
