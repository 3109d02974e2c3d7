"""A volume that an agent made opens in a person's hands, as the documentation says."""

from pathlib import Path
from typing import Any

import pyrage
import pytest

from tests.support.live import AgentMachine, LiveServer
from tests.support.luks import documented, run

REASON = {"reason": "its machine burnt"}


@pytest.fixture(scope="module")
def machine(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> AgentMachine:
    """It made its volume, and is not needed any more."""
    machine = AgentMachine(tmp_path_factory.mktemp("web1"), server, "web1")
    machine.configure()
    machine.enrol()
    machine.register("web1-data", "approving")
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device
    machine.cli("lock")
    return machine


def identity(path: Path) -> str:
    """Write a secret key of age; return its public key."""
    key = pyrage.x25519.Identity.generate()
    path.write_text(f"{key}\n")
    return str(key.to_public())


def test_with_the_word_of_two(server: LiveServer, machine: AgentMachine, tmp_path: Path) -> None:
    recipient = identity(tmp_path / "me.identity")
    words = ("token", "create", "--name", "bob", "--role", "security_administrator")
    bob = server.cli(*words).stdout.strip()

    def post(path: str, body: Any, token: str = "") -> Any:
        return server.request("POST", f"/api/v1{path}", body, token=token)

    asked = post("/keys/web1-data:request-export", {**REASON, "recipient": recipient}).body
    path = f"/key-exports/{asked['id']}"
    assert post(f"{path}:grant", REASON).body["code"] == "wrong_person"
    assert post(f"{path}:grant", REASON, bob).status == 200
    assert post(f"{path}:collect", {}, bob).body["code"] == "wrong_person"
    sealed = post(f"{path}:collect", {}).body["sealed"]
    assert post(f"{path}:collect", {}).status == 409
    (tmp_path / "sealed.age").write_text(sealed)
    (command,) = documented("export")
    opened = run(command, tmp_path, machine.volume)
    assert opened.returncode == 0, opened.stderr


def test_without_any_server(server: LiveServer, machine: AgentMachine, tmp_path: Path) -> None:
    recipient = identity(tmp_path / "securecloud-escrow.identity")
    file = tmp_path / "securecloud-keys.age"
    made = server.cli("escrow", "--to", str(file), "--recipient", recipient)
    assert made.returncode == 0, made.stderr
    uuid, table, opening = documented("escrow")
    found = run(uuid, tmp_path, machine.volume).stdout.strip()
    (row,) = [line for line in run(table, tmp_path, machine.volume).stdout.splitlines()
              if found in line]  # fmt: skip
    assert row.endswith(",keys/web1-data/1.key")
    opened = run(opening, tmp_path, machine.volume)
    assert opened.returncode == 0, opened.stderr
