"""Ours: the SecureCloud server as its commands start it, and one cold key release.

One release is a new TLS connection, Hello, Evidence that meets a policy of ten rules, and the Ack
after which the release counts as delivered. Audit log and key request are on disk (SQLite, WAL,
synchronous=FULL) before the key leaves. The client uses the agent's own protocol code.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securecloud_protocol import agent as protocol
from securecloud_protocol import messages as wire
from securecloud_protocol.http_binding import ACK_PATH, ENROL_PATH, EVIDENCE_PATH, HELLO_PATH
from securecloud_protocol.token import parse_token

from benchmarks import pki
from benchmarks.loadgen import Exchange, ExchangeFactory
from benchmarks.system import free_port, server_process, wait_until
from benchmarks.wire import Connection, ReplyError, request

_SERVER = Path(sys.executable).with_name("securecloud-server")
_OK = 200
_FIRST_NOT_OK = 300

FACTS: dict[str, Any] = {
    "host_name": "machine",
    "location": {"provider": "plain", "region": "eu", "zone": "eu-1", "datacenter": None},
    "os": {"id": "debian", "version_id": "12", "name": "Debian GNU/Linux"},
    "kernel": {
        "release": "6.1.0-18-amd64",
        "version": "1",
        "machine": "x86_64",
        "command_line_digest": "sha256:" + 64 * "0",
    },
    "users": ["root", "admin"],
    "secure_boot": {"supported": True, "enabled": True},
    "patch_level": {
        "pending_security_updates": 0,
        "days_since_update": 1,
        "reboot_required": False,
    },
}


def rule(fact: str, operator: str, value: Any) -> dict[str, Any]:
    """Return one rule of a policy."""
    return {"fact": fact, "operator": operator, "value": value}


POLICY: dict[str, Any] = {
    "rules": [
        rule("host_name", "matches", "machine.*"),
        rule("location.region", "equals", "eu"),
        rule("os.id", "one_of", ["debian", "ubuntu"]),
        rule("os.version_id", "at_least", "12"),
        rule("kernel.release", "at_least", "5.10"),
        rule("users", "excludes", ["toor"]),
        rule("secure_boot.enabled", "is", True),
        rule("patch_level.pending_security_updates", "at_most", 10),
        rule("request.source_ip", "in_networks", ["127.0.0.0/8"]),
        {"jmespath": "length(users) < `5`"},
    ],
    "on_match": {"action": "approve"},
    "on_fail": {"action": "deny"},
}


@dataclass(frozen=True)
class Machine:
    """What one simulated machine has kept of its enrolment."""

    name: str
    agent_id: str
    key: bytes


@dataclass(frozen=True)
class SecureCloudFactory:
    """Makes the exchange of a client; the clients share out the machines among them."""

    port: int
    ca_file: str
    server: wire.ServerIdentity
    machines: tuple[Machine, ...]

    def __call__(self, slot: int) -> Exchange:
        """Return the exchange of client number ``slot``."""
        return _Client(self, self.machines[slot % len(self.machines)]).exchange


class _Client:
    """A machine that boots again and again."""

    def __init__(self, made: SecureCloudFactory, machine: Machine) -> None:
        self._made = made
        self._agent_id = machine.agent_id
        self._key = Ed25519PrivateKey.from_private_bytes(machine.key)
        self._lineage: dict[str, bytes | None] = {}

    def exchange(self) -> None:
        boot_id = str(uuid.uuid4())
        exchange = protocol.Exchange(self._made.server, self._agent_id, self._key)
        with Connection(self._made.port, self._made.ca_file) as connection:
            hello = exchange.hello((), boot_id, int(time.time()))
            core = exchange.challenge(_post(connection, HELLO_PATH, hello), connection.certificate)
            evidence = exchange.evidence(self._evidence(core, boot_id))
            release = exchange.release(_post(connection, EVIDENCE_PATH, evidence))
            results = tuple(self._delivered(decision) for decision in release.decisions)
            exchange.receipt(_post(connection, ACK_PATH, exchange.ack(results)))

    def _evidence(self, core: wire.ChallengeCore, boot_id: str) -> wire.EvidenceBody:
        return wire.EvidenceBody(
            agent_version="0.1.0",
            boot_id=boot_id,
            devices=tuple(
                wire.DeviceClaim(name, "key", self._lineage.get(name)) for name in core.devices
            ),
            facts={
                asked.name: wire.Fact(FACTS[asked.name], "claimed", None) for asked in core.facts
            },
        )

    def _delivered(self, decision: wire.DeviceDecision) -> wire.AckResult:
        if decision.outcome != "granted" or decision.key_version is None:
            raise ReplyError(f"{decision.outcome}: {decision.code}")
        self._lineage[decision.device] = decision.lineage
        return wire.AckResult(decision.device, decision.key_version, "mounted", None, False, "")


@dataclass(frozen=True)
class RunningSecureCloud:
    """A provisioned server; satisfies :class:`benchmarks.system.Running`."""

    pid: int
    made: SecureCloudFactory

    def factory(self) -> ExchangeFactory:
        """Return the picklable maker of exchanges."""
        return self.made


class SecureCloud:
    """The server of this repository; satisfies :class:`benchmarks.system.System`.

    ``program`` serves instead of the one that is installed.
    """

    name = "SecureCloud"

    def __init__(self, name: str = name, program: Sequence[str] = (str(_SERVER),)) -> None:
        self.name = name
        self._program = program

    def version(self) -> str:
        """Return the version of the server."""
        done = subprocess.run([_SERVER, "--version"], capture_output=True, text=True, check=True)
        return done.stdout.strip().rpartition(" ")[2]

    @contextmanager
    def running(self, work: Path, machines: int) -> Iterator[RunningSecureCloud]:
        """Configure, initialise, start and provision a server on ``work``; stop it at the end."""
        files = pki.make(work)
        with serving(work, files, program=self._program) as server:
            ca_file = str(files.ca)
            made = SecureCloudFactory(server.port, ca_file, *_provision(server.api, machines))
            yield RunningSecureCloud(server.pid, made)


@dataclass(frozen=True)
class Server:
    """A server that is up. `token` is the file with its administrator's API token."""

    pid: int
    port: int
    token: Path
    api: Api


@contextmanager
def serving(
    work: Path,
    files: pki.ServerFiles,
    public_url: str = "",
    program: Sequence[str] = (str(_SERVER),),
) -> Iterator[Server]:
    """Configure, initialise and start a server on ``work``; stop it at the end."""
    port = free_port()
    config, log, token = work / "server.toml", work / "server.log", work / "admin.token"
    command = [str(_SERVER), "--config", str(config)]
    settings = _settings(work, files, port, public_url or f"https://localhost:{port}")
    _run([*command, "configure"], json.dumps(settings))
    _run([*command, "init", "--admin-token-file", str(token)])
    with server_process([*program, "--config", str(config), "serve"], log) as process:
        api = Api(port, str(files.ca), token.read_text().strip())
        wait_until(api.ready, "SecureCloud's start", process, log)
        yield Server(process.pid, port, token, api)


def _settings(work: Path, files: pki.ServerFiles, port: int, public_url: str) -> dict[str, Any]:
    return {
        "server": {
            "listen": f"127.0.0.1:{port}",
            "public_url": public_url,
            "tls_certificate": str(files.certificate),
            "tls_key": str(files.key),
        },
        "storage": {"url": f"sqlite:///{work}/securecloud.db"},
        "keystore": {"master_key": f"file:{work}/master.key"},
        "log": {"level": "warning"},
    }


def _run(command: list[str], stdin: str = "") -> None:
    subprocess.run(command, input=stdin, text=True, check=True, capture_output=True)


class Api:
    """The few administrative calls; one connection for each, they are not measured."""

    def __init__(self, port: int, ca_file: str, token: str) -> None:
        self._port, self._ca_file, self._token = port, ca_file, token

    def ready(self) -> bool:
        """Say whether the server serves and can work."""
        with Connection(self._port, self._ca_file) as connection:
            return connection.call(request("GET", "/readyz"))[0] == _OK

    def call(self, method: str, path: str, body: Any) -> Any:
        """Return the answer's document; raise ReplyError when it is a refusal."""
        with Connection(self._port, self._ca_file) as connection:
            status, answer = connection.call(request(method, f"/api/v1{path}", body, self._token))
        if status >= _FIRST_NOT_OK:
            raise ReplyError(f"status {status}: {answer[:500].decode(errors='replace')}")
        return json.loads(answer)

    def agent(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Send a message of the exchange and return the answer's."""
        with Connection(self._port, self._ca_file) as connection:
            return _post(connection, path, body) if method == "POST" else _get(connection, path)


def _provision(api: Api, machines: int) -> tuple[wire.ServerIdentity, tuple[Machine, ...]]:
    """Give every machine an identity, and a device under one policy of ten rules."""
    api.call("PUT", "/policies/benchmark", POLICY)
    names = [f"machine-{number:04d}" for number in range(machines)]
    enrolled = [_enrol(api, name) for name in names]
    for name in names:
        volume = {"source": "/dev/disk/by-id/data", "mount_point": "/srv/data"}
        device = {"agent": name, "policy": "benchmark", "volume": volume}
        api.call("PUT", f"/devices/{name}-data", device)
    return enrolled[0][0], tuple(machine for _, machine in enrolled)


def _enrol(api: Api, name: str) -> tuple[wire.ServerIdentity, Machine]:
    token = parse_token(api.call("POST", "/enrollment-tokens", {"agent_name": name})["token"])
    server = protocol.read_server_identity(api.agent("GET", ENROL_PATH), token.fingerprint)
    key = Ed25519PrivateKey.generate()
    enrolment = protocol.Enrolment(server, key)
    answer = api.agent("POST", ENROL_PATH, enrolment.request(name, token))
    return server, Machine(name, enrolment.confirm(answer).agent_id, key.private_bytes_raw())


def _post(connection: Connection, path: str, body: bytes) -> bytes:
    return _checked(connection.call(request("POST", path, body)))


def _get(connection: Connection, path: str) -> bytes:
    return _checked(connection.call(request("GET", path)))


def _checked(reply: tuple[int, bytes]) -> bytes:
    status, body = reply
    if status != _OK:
        raise ReplyError(f"status {status}: {body[:200].decode(errors='replace')}")
    return body
