"""Keys in a real KMIP server: released from there, and from nowhere while it is away."""

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from securecloud_server.keystores.kmip import KmipKeystore
from securecloud_server.keystores.kmip_link import Absent, connector

from tests.end_to_end.conftest import APPROVING
from tests.support.kmip import KmipServer, running_kmip_server
from tests.support.live import AgentMachine, LiveServer, running_server

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def kmip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmipServer]:
    with running_kmip_server(tmp_path_factory.mktemp("kmip")) as kmip:
        yield kmip


@pytest.fixture(scope="module")
def server(kmip: KmipServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    certificate, key = kmip.pki.issue("management")
    settings = {
        "server": f"localhost:{kmip.port}",
        "ca_file": str(kmip.pki.ca_file),
        "certificate": str(certificate),
        "key": str(key),
        "timeout": 4,
    }
    with running_server(tmp_path_factory.mktemp("server"), kmip=settings) as live:
        live.ok("PUT", "/policies/approving", APPROVING)
        yield live


@pytest.fixture
def machine(server: LiveServer, tmp_path: Path) -> AgentMachine:
    machine = AgentMachine(tmp_path, server, f"kmip{next(_NUMBERS)}")
    machine.configure()
    machine.enrol()
    machine.register(f"{machine.name}-data", "approving")
    return machine


def test_a_key_comes_from_the_kmip_server_and_is_not_in_the_database(
    server: LiveServer, kmip: KmipServer, machine: AgentMachine
) -> None:
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device
    rows = sqlite3.connect(server.database).execute(
        "SELECT device_id, version, keystore, reference FROM keys"
    )
    context = kmip.pki.client_context("management")
    keystore = KmipKeystore(connector("localhost", kmip.port, context, 5))
    stored = b"".join(each.read_bytes() for each in server.directory.rglob("*.db*"))
    for device_id, version, name, reference in rows.fetchall():
        assert name == "kmip"
        key = keystore.fetch(reference, device_id, version)
        assert key not in stored
        assert key.hex() not in server.log.read_text()
    keystore.close()


def test_while_it_is_away_nothing_is_released_and_it_goes_on_by_itself(
    server: LiveServer, kmip: KmipServer, machine: AgentMachine
) -> None:
    machine.unlock()
    kmip.stop()
    machine.cli("lock")
    code, device = machine.unlock()
    assert (code, device["outcome"], device["code"]) == (3, "pending", "unavailable"), device
    ready = server.request("GET", "/readyz", token=None)
    assert ready.status == 503
    assert "KMIP server cannot be reached" in str(ready.body)
    refused = server.request(
        "PUT", "/api/v1/devices/other", {"agent": machine.name, "volume": {"source": "/dev/none"}}
    )
    assert refused.status == 503
    assert server.request("GET", "/healthz", token=None).status == 200
    kmip.start()
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device
    assert server.becomes_ready()


def test_a_key_that_was_deactivated_in_the_kmip_server_is_not_released(
    server: LiveServer, kmip: KmipServer, machine: AgentMachine
) -> None:
    machine.unlock()
    query = """
        SELECT reference FROM keys JOIN devices ON devices.device_id = keys.device_id
        WHERE devices.name = ?
    """
    (reference,) = (
        sqlite3.connect(server.database).execute(query, [f"{machine.name}-data"]).fetchone()
    )
    link = connector("localhost", kmip.port, kmip.pki.client_context("management"), 5)()
    link.revoke(reference[17:].decode())
    link.close()
    machine.cli("lock")
    code, device = machine.unlock()
    assert (code, device["code"]) == (3, "unavailable"), device
    events = server.ok("GET", f"/audit-events?object=device:{machine.name}-data")["items"]
    assert any("its state in the KMIP server is DEACTIVATED" in str(each) for each in events)


def test_a_deleted_device_takes_its_key_with_it(
    server: LiveServer, kmip: KmipServer, machine: AgentMachine
) -> None:
    name = f"{machine.name}-data"
    (reference,) = (
        sqlite3.connect(server.database)
        .execute("SELECT reference FROM keys JOIN devices USING (device_id) WHERE name = ?", [name])
        .fetchone()
    )
    server.ok("DELETE", f"/devices/{name}")
    link = connector("localhost", kmip.port, kmip.pki.client_context("management"), 5)()
    with pytest.raises(Absent):
        link.state(reference[17:].decode())
    link.close()
