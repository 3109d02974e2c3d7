"""Keys of a real KMIP server in the memory of two nodes on one PostgreSQL: one revokes."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.end_to_end.conftest import APPROVING
from tests.support.kmip import KmipServer, running_kmip_server
from tests.support.live import AgentMachine, LiveServer, eventually, running_server
from tests.support.postgres import Cluster

CACHED = "securecloud_cached_keys"
DEVICE = "thief-data"


@pytest.fixture(scope="module")
def kmip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmipServer]:
    with running_kmip_server(tmp_path_factory.mktemp("kmip")) as kmip:
        yield kmip


@pytest.fixture
def nodes(
    kmip: KmipServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LiveServer, LiveServer]]:
    certificate, key = kmip.pki.issue("management")
    settings = {
        "server": f"localhost:{kmip.port}",
        "ca_file": str(kmip.pki.ca_file),
        "certificate": str(certificate),
        "key": str(key),
        "timeout": 4,
        "cache": 300,
    }
    directory = tmp_path_factory.mktemp("nodes")
    with ExitStack() as stack:
        cluster = Cluster()
        stack.callback(cluster.remove)
        cluster.start()
        with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE keys")
        one = stack.enter_context(
            running_server(directory / "one", cluster.url("keys"), kmip=settings)
        )
        two = stack.enter_context(running_server(directory / "two", beside=one))
        one.ok("PUT", "/policies/approving", APPROVING)
        yield one, two


def test_a_revocation_at_one_node_ends_what_the_other_remembers(
    nodes: tuple[LiveServer, LiveServer], kmip: KmipServer, tmp_path: Path
) -> None:
    one, two = nodes
    machine = AgentMachine(tmp_path, one, "thief")
    machine.configure()
    machine.enrol()
    machine.register(DEVICE, "approving")
    machine.unlock()
    assert (one.metric(CACHED), two.metric(CACHED)) == (1, 0)

    kmip.stop()
    machine.cli("lock")
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device
    assert one.metric(CACHED) == 1, "the look of each second leaves what may be released"

    two.ok("POST", f"/keys/{DEVICE}:revoke", {"reason": "the machine was stolen"})
    machine.cli("lock")
    code, device = machine.unlock()
    assert (code, device["code"]) == (4, "revoked"), device
    eventually(lambda: one.metric(CACHED) == 0, 3)

    two.ok("POST", f"/keys/{DEVICE}:restore", {"reason": "it was found"})
    code, device = machine.unlock()
    assert (code, device["code"]) == (3, "unavailable"), device
    kmip.start()
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device
