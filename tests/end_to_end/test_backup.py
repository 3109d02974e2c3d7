"""The server is lost; another machine becomes it from a backup, and agents get their keys there."""

import json
from pathlib import Path
from typing import Any

import pyrage
import pytest

from tests.end_to_end.conftest import APPROVING
from tests.support.live import AgentMachine, LiveServer, running_server


class Vault:
    """Where the backup is, and whoever can read it."""

    def __init__(self, directory: Path) -> None:
        key = pyrage.x25519.Identity.generate()
        self.file, self.identity = directory / "backup.age", directory / "identity"
        self.recipient = str(key.to_public())
        self.identity.write_text(str(key))


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path)


@pytest.fixture
def machine(tmp_path: Path, vault: Vault) -> AgentMachine:
    """It got its key before the backup and after it; then the server was lost."""
    with running_server(tmp_path / "first") as server:
        server.ok("PUT", "/policies/approving", APPROVING)
        machine = AgentMachine(tmp_path, server, "web1")
        machine.configure()
        machine.enrol()
        machine.register("web1-data", "approving")
        assert granted(machine)
        done = server.cli("backup", "--to", str(vault.file), "--recipient", vault.recipient)
        assert done.returncode == 0, done.stderr
        assert granted(machine)
        assert granted(machine)
    return machine


def granted(machine: AgentMachine) -> bool:
    machine.cli("lock")
    code, device = machine.unlock()
    return (code, device["outcome"]) == (0, "granted")


def restored(directory: Path, vault: Vault, *flags: str) -> tuple[LiveServer, dict[str, Any]]:
    """Return a server on an empty machine, not started yet, and what `restore` said."""
    directory.mkdir()
    server = LiveServer(directory)
    configured = server.cli("configure", "--json", stdin=json.dumps(server.settings()))
    assert configured.returncode == 0, configured.stderr
    words = ("--from", str(vault.file), "--identity", str(vault.identity))
    done = server.cli("restore", *words, *flags, "--json")
    assert done.returncode == 0, done.stderr
    server.prepare()
    return server, json.loads(done.stdout)


def move(machine: AgentMachine, server: LiveServer) -> None:
    """As when its name leads to the other machine now."""
    machine.server = server
    machine.configure()


def test_an_agent_gets_its_key_from_it_once_somebody_vouches_for_the_log(
    machine: AgentMachine, vault: Vault, tmp_path: Path
) -> None:
    server, told = restored(tmp_path / "second", vault)
    assert told["verified"]
    server.start()
    try:
        move(machine, server)
        machine.cli("lock")
        refused = machine.cli("unlock")
        assert (refused.returncode, "unavailable" in refused.stderr) == (1, True)
        assert server.ok("GET", "/audit-events?action=audit.truncated")["items"]
        head = ("--size", str(told["audit_size"]), "--root", told["audit_root"])
        accepted = machine.cli("accept-log", *head, "--json")
        assert json.loads(accepted.stdout)["changed"], accepted.stderr
        # The same volume: a new one would have been refused, for it is not blank.
        assert granted(machine)
        assert granted(machine)
    finally:
        server.stop()


def test_a_head_that_the_server_does_not_have_is_not_passed_over(
    machine: AgentMachine, vault: Vault, tmp_path: Path
) -> None:
    server, told = restored(tmp_path / "second", vault)
    server.start()
    try:
        move(machine, server)
        machine.cli("lock")
        machine.cli("accept-log", "--size", str(told["audit_size"]), "--root", "00" * 32)
        refused = machine.cli("unlock")
        assert refused.returncode == 1
        assert "it was rewritten" in refused.stderr
    finally:
        server.stop()


def test_kept_lineages_take_a_machine_that_is_ahead_for_a_copy(
    machine: AgentMachine, vault: Vault, tmp_path: Path
) -> None:
    """Why they are forgotten unless somebody knows that no machine is."""
    server, told = restored(tmp_path / "second", vault, "--keep-lineages")
    server.start()
    try:
        move(machine, server)
        machine.cli("lock")
        head = ("--size", str(told["audit_size"]), "--root", told["audit_root"])
        machine.cli("accept-log", *head)
        code, device = machine.unlock()
        assert (code, device["code"]) == (4, "quarantined"), device
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--size", "-1", "--root", "00" * 32), "a number of records"),
        (("--size", "0", "--root", "00" * 32), "a number of records"),
        (("--size", "5", "--root", "00" * 31), "64 hexadecimal digits"),
        (("--size", "5"), "--root"),
    ],
)
def test_what_is_no_head_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    machine = AgentMachine(tmp_path, LiveServer(tmp_path / "absent"), "web1")
    refused = machine.cli("accept-log", *words)
    assert refused.returncode == 2
    assert said in refused.stderr
