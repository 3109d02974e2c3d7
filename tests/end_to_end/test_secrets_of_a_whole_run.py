"""Whatever is done with keys and tokens, none is found afterwards where it does not belong."""

import json
import os
import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyrage
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securecloud_agent.state.identity import identity_key
from securecloud_server.app import build
from securecloud_server.settings import load_settings

from tests.end_to_end.conftest import APPROVING
from tests.end_to_end.test_secrets_stay_secret import files_below, spellings
from tests.support.live import AgentMachine, LiveServer, eventually, running_server
from tests.support.watch import ProcessWatch, descendants

DEVICE = "whole-data"
REASON = {"reason": "a whole run"}


class Run:
    """A server and a machine, what they said, and every secret that there was."""

    def __init__(self, server: LiveServer, machine: AgentMachine) -> None:
        self.server = server
        self.machine = machine
        self.secrets: dict[str, bytes] = {"admin's token": _secret_of(server.token)}
        self.said: list[str] = []

    def asked(self, path: str, body: Any, token: str = "") -> Any:
        reply = self.server.request("POST", f"/api/v1{path}", body, token=token)
        self.said.append(json.dumps(reply.body))
        return reply.body

    def on_server(self, *words: str) -> str:
        done = self.server.cli(*words)
        self.said += [done.stderr] if words[0] == "token" else [done.stdout, done.stderr]
        assert done.returncode == 0, done.stderr
        return done.stdout

    def on_machine(self, *words: str, stdin: str = "") -> None:
        done = self.machine.cli(*words, stdin=stdin)
        self.said += [done.stdout, done.stderr]

    def key(self) -> Any:
        return self.server.ok("GET", f"/keys/{DEVICE}")


def _secret_of(token: str) -> bytes:
    """Return what is secret of sct.ID.SECRET, or of sce.ID.SECRET.FINGERPRINT."""
    return token.split(".")[2].encode()


@pytest.fixture(scope="module")
def cores() -> Iterator[None]:
    """Whoever wants to leave a core here may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.fixture(scope="module")
def watch() -> Iterator[ProcessWatch]:
    with ProcessWatch() as watch:
        yield watch


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, cores: None, watch: ProcessWatch
) -> Iterator[Run]:
    directory = tmp_path_factory.mktemp("whole")
    home = Path.cwd()
    os.chdir(directory)
    try:
        with running_server(directory / "server") as server:
            yield _everything(Run(server, AgentMachine(directory, server, "whole")), directory)
    finally:
        os.chdir(home)


def _everything(run: Run, directory: Path) -> Run:
    server, machine = run.server, run.machine
    server.ok("PUT", "/policies/approving", APPROVING)
    token = server.ok("POST", "/enrollment-tokens", {"agent_name": "whole"})["token"]
    run.secrets["enrolment token"] = _secret_of(token)
    machine.configure()
    run.on_machine("enrol", "--token-file", "-", "--json", stdin=token)
    machine.register(DEVICE, "approving")
    with machine.service():
        eventually(lambda: run.key()["state"] == "active", 60)
        run.asked(f"/keys/{DEVICE}:rotate", REASON)
        eventually(lambda: run.key()["version"] == 2 and run.key()["successor"] is None, 60)
    for words in (("lock",), ("unlock", "--json"), ("status", "--json"), ("facts",)):
        run.on_machine(*words)
    identity = pyrage.x25519.Identity.generate()
    run.secrets["age identity"] = str(identity).encode()
    bob = run.on_server("token", "create", "--name", "bob", "--role", "security_administrator")
    run.secrets["bob's token"] = _secret_of(bob.strip())
    recipient = str(identity.to_public())
    asked = run.asked(f"/keys/{DEVICE}:request-export", {**REASON, "recipient": recipient})
    run.asked(f"/key-exports/{asked['id']}:grant", REASON, bob.strip())
    run.asked(f"/key-exports/{asked['id']}:collect", {})
    for command in ("backup", "escrow"):
        run.on_server(command, "--to", str(directory / command), "--recipient", recipient)
    run.on_server("audit", "export", "--to", str(directory / "bundle.db"))
    run.on_server("doctor")
    run.asked(f"/keys/{DEVICE}:revoke", REASON)
    run.on_machine("check", "--json")
    run.asked("/tokens", {"name": "bob", "role": "auditor"}, bob.strip()[:-1] + "A")
    _collect(run)
    return run


def _collect(run: Run) -> None:
    """Take the secrets that nobody is ever shown."""
    settings = load_settings(run.server.config)
    application = build(settings)
    try:
        with application.database.read() as tx:
            devices = [tx.devices.get(DEVICE)]
            keys = tx.keys.versions([each.device_id for each in devices if each is not None])
        for key in keys:
            fetched = application.keystores.of(key).fetch(key.reference, key.device_id, key.version)
            run.secrets[f"key, version {key.version}"] = fetched
    finally:
        application.close()
    run.secrets["master key"] = run.server.master_key.read_bytes().strip()
    private = identity_key(run.machine.directory / "state")
    run.secrets["machine's identity"] = private.private_bytes(
        Encoding.Raw, PrivateFormat.Raw, NoEncryption()
    )


def places_of(run: Run) -> list[Path]:
    """Return all files of both, but those that a secret is meant to be in."""
    own = {run.server.master_key, run.server.token_file}
    own.add(run.machine.directory / "state/identity.key")
    return [path for path in files_below(run.machine.directory) if path not in own]


def test_it_was_a_whole_run(run: Run) -> None:
    assert set(run.secrets) == {
        "admin's token",
        "enrolment token",
        "bob's token",
        "age identity",
        "key, version 1",
        "key, version 2",
        "master key",
        "machine's identity",
    }
    actions = {
        event["action"] for event in run.server.ok("GET", "/audit-events?limit=200")["items"]
    }
    assert {"key.rotated", "key.exported", "key.revoked", "server.escrow_ended"} <= actions
    assert run.secrets["master key"] in run.server.master_key.read_bytes()


def test_none_is_in_a_file(run: Run) -> None:
    found = [
        (name, path.name)
        for path in places_of(run)
        for name, secret in run.secrets.items()
        for spelling in spellings(secret)
        if spelling in path.read_bytes()
    ]
    assert found == []


def test_none_is_in_the_database(run: Run) -> None:
    with closing(sqlite3.connect(run.server.database)) as database:
        dump = "\n".join(database.iterdump()).lower().encode()
    for name, secret in run.secrets.items():
        assert not [each for each in spellings(secret) if each.lower() in dump], name


def test_none_was_said(run: Run) -> None:
    said = "\n".join(run.said).encode()
    for name, secret in run.secrets.items():
        assert not [each for each in spellings(secret) if each in said], name


def test_none_was_in_arguments_or_environments(run: Run, watch: ProcessWatch) -> None:
    seen = b"\n".join(watch.seen)
    assert b"securecloud-agent" in seen
    assert b"luksAddKey" in seen, "not even what runs for a moment was missed"
    for name, secret in run.secrets.items():
        assert not [each for each in spellings(secret) if each in seen], name


def test_a_crash_leaves_no_core(run: Run) -> None:
    """Last: it ends the server."""
    process = run.server.process
    for pid in descendants(process.pid):
        os.kill(pid, signal.SIGABRT)
    process.wait(30)
    assert not [path for path in files_below(Path.cwd()) if path.name.startswith("core")]
