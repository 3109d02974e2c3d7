"""The machines of the lab as the tests see them; molecule has started and installed them."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.lab import SERVER, Lab
from lab.machine import Machine
from tests.boot.guests import Api, Guest
from tests.boot.keys import Keys

ROOT = Path(__file__).parents[2]
DATABASE = "/var/lib/securecloud/server/securecloud.db"
MASTER_KEY = "systemd-creds decrypt /etc/credstore.encrypted/securecloud-master-key -"
SNAPSHOT = f"""
import sqlite3
sqlite3.connect("{DATABASE}").backup(sqlite3.connect("/run/snapshot.db"))
"""


_AGENTS = {"agent1", "agent2"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the machine that it needs: those of one run beside those of the other.

    What needs both, or the server, is marked `together`.
    """
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        needed = _AGENTS & set(getattr(item, "fixturenames", ()))
        alone = len(needed) == 1 and not item.get_closest_marker("together")
        item.add_marker(needed.pop() if alone else "together")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write what failed where `tools/molecule.sh` says it last of all."""
    path = os.environ.get("SECURECLOUD_FAILURES")
    if report.failed and path:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = f"{crash.path}:{crash.lineno}: {crash.message}" if crash else report.longreprtext
        with Path(path).open("a") as failures:
            failures.write(f"{report.nodeid} ({report.when})\n    {why[:600]}\n")


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()


@pytest.fixture(scope="session")
def server(lab: Lab) -> Machine:
    return lab.machine(SERVER)


@pytest.fixture(scope="session")
def api(lab: Lab, server: Machine) -> Api:
    token = server.ssh("cat /var/lib/securecloud/server/admin.token").strip()
    return Api(server.port(8443), lab.tls / "ca.pem", token)


@pytest.fixture(scope="session")
def agent1(lab: Lab) -> Guest:
    return Guest(lab.machine("agent1"))


@pytest.fixture(scope="session")
def agent2(lab: Lab) -> Guest:
    return Guest(lab.machine("agent2"))


@pytest.fixture
def keys(server: Machine, tmp_path: Path) -> Keys:
    """Every device key, from a copy of the server's database and its master key."""
    server.ssh("python3 -", stdin=SNAPSHOT)
    for command, name in (("cat /run/snapshot.db", "db"), (MASTER_KEY, "master.key")):
        (tmp_path / name).write_bytes(base64.b64decode(server.ssh(f"{command} | base64")))
        (tmp_path / name).chmod(0o600)
    server.ssh("rm /run/snapshot.db")
    return Keys(tmp_path / "db", tmp_path / "master.key")


@pytest.fixture
def volume_key(agent1: Guest, keys: Keys) -> bytes:
    return keys.of_volume(agent1.machine.disk("data"), "agent1-data")


@pytest.fixture(scope="session")
def module(lab: Lab, tmp_path_factory: pytest.TempPathFactory):
    """Run a module of the collection on a machine of the inventory; return its result."""
    home = tmp_path_factory.mktemp("ansible")

    def run(host: str, name: str, /, **options: Any) -> dict[str, Any]:
        playbook, saved = home / "playbook.json", home / "result.json"
        playbook.write_text(json.dumps([_play(host, name, options, saved)]))
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), *_INVENTORY, playbook],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_HOME": str(home),
                "ANSIBLE_STRATEGY": "linear",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(saved.read_text())
        return result

    return run


_INVENTORY = ("-i", ROOT / "inventories/lab")


def _play(host: str, name: str, options: dict[str, Any], saved: Path) -> dict[str, Any]:
    content = {"content": "{{ result | to_json }}", "dest": str(saved), "mode": "0600"}
    return {
        "hosts": host,
        "gather_facts": False,
        "tasks": [
            {f"trend.securecloud.{name}": options, "register": "result"},
            {"ansible.builtin.copy": content, "delegate_to": "localhost"},
        ],
    }


@pytest.fixture(scope="session")
def api_options() -> dict[str, str]:
    """The connection options of the modules that run on the server's machine."""
    return {
        "server_url": "https://localhost:8443",
        "ca_file": "/etc/securecloud/ca.pem",
        "token_file": "/var/lib/securecloud/server/admin.token",
    }


@pytest.fixture(scope="session")
def server_port(server: Machine) -> int:
    """Where the server's HTTPS is on this host's loopback."""
    return server.port(8443)
