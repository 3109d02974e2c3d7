"""A server on a temporary SQLite file, a clock that tests move, and machines that ask for keys."""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask.testing import FlaskClient
from securecloud_protocol import agent as protocol
from securecloud_protocol import messages as wire
from securecloud_protocol.token import EnrolmentToken
from securecloud_server import app, installation
from securecloud_server.domain import requests as life
from securecloud_server.domain.keys import KeyLife
from securecloud_server.domain.policy import compile_policy
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.records import (
    AuditEvent,
    Device,
    DeviceGroup,
    DeviceState,
    EnrolmentTokenRecord,
    Key,
    KeyRequest,
    PolicyText,
)
from securecloud_server.settings import parse_settings
from securecloud_server.web.http import Answer, Handler, Request

CERTIFICATE = b"the certificate of this server"
VOLUME = {
    "source": "/dev/disk/by-id/virtio-data",
    "filesystem": "ext4",
    "mount_point": "/srv/data",
    "options": ["defaults"],
    "read_only": False,
    "initialise": "if_blank",
}
HOST_RULE = {"fact": "host_name", "operator": "matches", "value": "web[0-9]+"}
APPROVE = {
    "rules": [HOST_RULE],
    "on_match": {"action": "approve"},
    "on_fail": {"action": "manual"},
}
START = 1_800_000_000


class Clock:
    """Seconds since 1970; moves only when told."""

    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Server:
    """The server under test, and what an administrator does to it."""

    application: app.Application
    clock: Clock
    http: FlaskClient = field(init=False)
    """The admin API, health and metrics."""
    handler: Handler = field(init=False)
    """Everything, as the transport calls it."""

    def __post_init__(self) -> None:
        self.http = app.web(self.application).test_client()
        self.handler = app.handler(self.application)

    @property
    def database(self) -> Any:
        return self.application.database

    def post(self, step: str, message: bytes) -> bytes:
        return self.send("POST", f"/agent/v1/{step}", message).body

    def send(self, method: str, path: str, body: bytes | None = b"") -> Answer:
        return self.handler(Request(method, path, "", {}, "127.0.0.1", body))

    def read(self, look: Callable[[Transaction], Any]) -> Any:
        with self.database.read() as tx:
            return look(tx)

    def policy(self, name: str, text: Mapping[str, Any]) -> None:
        compiled = compile_policy(text)
        now = int(self.clock())

        def work(tx: Transaction) -> None:
            known = tx.policies.get(name)
            record = PolicyText(
                name,
                known.version + 1 if known else 1,
                compiled.digest,
                compiled.normalised,
                now,
                now,
                "test",
            )
            (tx.policies.replace if known else tx.policies.add)(record)

        self.database.write(work)

    def group(self, name: str, policy: str | None) -> None:
        self.database.write(lambda tx: tx.groups.add(DeviceGroup(name, "", policy, 1, 1)))

    def device(self, name: str, agent: str, **options: Any) -> Device:
        device = Device(
            name=name,
            device_id=str(uuid.uuid4()),
            agent=agent,
            group=options.get("group"),
            policy=options.get("policy", "web"),
            enabled=True,
            volume=options.get("volume", VOLUME),
            created_at=1,
            updated_at=1,
        )
        keystore = self.application.keystores.active
        reference = keystore.create(device.device_id, 1)
        key = Key(device.device_id, 1, "pre_active", keystore.name, reference, 1)

        def work(tx: Transaction) -> None:
            tx.devices.add(device)
            tx.keys.put(key)

        self.database.write(work)
        return device

    def change_device(self, name: str, **changes: Any) -> None:
        def work(tx: Transaction) -> None:
            device = tx.devices.get(name)
            assert device is not None
            tx.devices.replace(replace(device, revision=device.revision + 1, **changes))

        self.database.write(work)

    def key_state(self, name: str, state: str) -> None:
        def work(tx: Transaction) -> None:
            device = tx.devices.get(name)
            assert device is not None
            key = tx.keys.lives([device.device_id])[device.device_id].current
            tx.keys.put(replace(key, state=state))

        self.database.write(work)

    def key(self, name: str) -> Key:
        return self.life(name).current

    def life(self, name: str) -> KeyLife:
        return self.read(lambda tx: tx.keys.lives([tx.devices.get(name).device_id]).popitem()[1])

    def state(self, name: str) -> DeviceState:
        return self.read(
            lambda tx: tx.devices.states([tx.devices.get(name).device_id]).popitem()[1]
        )

    def change_state(self, name: str, **changes: Any) -> None:
        state = self.state(name)
        self.database.write(lambda tx: tx.devices.put_state(replace(state, **changes)))

    def requests(self, device: str) -> list[KeyRequest]:
        """Return the device's requests, newest first."""
        return list(self.read(lambda tx: tx.requests.page(None, 100, {"device": device})))

    def decide(self, device: str, state: str, reason: str = "I know this machine") -> KeyRequest:
        """Approve or deny as a person does."""
        request = self.requests(device)[0]
        now = int(self.clock())
        moved = life.move(request, state, "token:alice", reason, now, expires_at=now + 3600)
        self.database.write(lambda tx: tx.requests.replace(moved))
        return moved

    def events(self) -> list[AuditEvent]:
        return [logged.event for logged in self.read(lambda tx: tx.audit.page(None, 1000, {}))]

    def actions(self) -> list[str]:
        return [event.action for event in self.events()]

    def token(self, agent_name: str, **changes: Any) -> EnrolmentToken:
        secret = os.urandom(32)
        now = int(self.clock())
        record = EnrolmentTokenRecord(
            uuid.uuid4().hex, agent_name, hashlib.sha256(secret).digest(), now, now + 3600
        )
        record = replace(record, **changes)
        self.database.write(lambda tx: tx.enrolment_tokens.add(record))
        return EnrolmentToken(record.token_id, secret, self.application.responder.fingerprint)

    def identity(self) -> wire.ServerIdentity:
        answer = self.send("GET", "/agent/v1/enrol")
        return protocol.read_server_identity(answer.body, self.application.responder.fingerprint)

    def machine(self, name: str, **facts: Any) -> "Machine":
        """Enrol an agent."""
        key = Ed25519PrivateKey.generate()
        enrolment = protocol.Enrolment(self.identity(), key)
        answer = self.post("enrol", enrolment.request(name, self.token(name)))
        agent_id = enrolment.confirm(answer).agent_id
        return Machine(self, name, agent_id, key, {"host_name": name, **facts})


@dataclass
class Machine:
    """A machine with its agent."""

    server: Server
    name: str
    agent_id: str
    key: Ed25519PrivateKey
    facts: dict[str, Any]
    boot_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    lineage: dict[str, bytes] = field(default_factory=dict)
    seen: tuple[int, bytes] = (0, b"")
    header: wire.LuksHeader | None = None
    """The one on its disk."""

    def reboot(self) -> None:
        self.boot_id = str(uuid.uuid4())

    def begin(self, *devices: str, seen: int | None = None) -> "Dialogue":
        exchange = protocol.Exchange(self.server.identity(), self.agent_id, self.key)
        hello = exchange.hello(
            devices, self.boot_id, int(self.server.clock()), self.seen[0] if seen is None else seen
        )
        return Dialogue(self, exchange, hello)

    def ask(self, *devices: str, want: str = "key") -> wire.ReleaseBody:
        """Run an exchange up to the release; the machine keeps what it was given."""
        dialogue = self.begin(*devices)
        dialogue.challenge()
        return dialogue.release(want)

    def unlock(self, *devices: str) -> wire.ReleaseBody:
        """Run a whole exchange."""
        dialogue = self.begin(*devices)
        dialogue.challenge()
        body = dialogue.release()
        dialogue.ack()
        return body


_WHEN_DENIED = ("grace", "suspended", "closed")


@dataclass
class Dialogue:
    """One exchange, step by step."""

    machine: Machine
    exchange: protocol.Exchange
    hello: bytes
    core: wire.ChallengeCore | None = None
    body: wire.ReleaseBody | None = None
    sent: bytes = b""

    def challenge(self) -> wire.ChallengeCore:
        answer = self.machine.server.post("hello", self.hello)
        self.core = self.exchange.challenge(answer, CERTIFICATE)
        return self.core

    def evidence(self, want: str = "key") -> bytes:
        assert self.core is not None
        machine = self.machine
        facts = {
            request.name: wire.Fact(machine.facts[request.name], "claimed", None)
            if request.name in machine.facts
            else wire.Fact(None, None, "not there")
            for request in self.core.facts
        }
        header = None if want == "check" else machine.header
        claims = tuple(
            wire.DeviceClaim(name, want, machine.lineage.get(name), header)
            for name in self.core.devices
        )
        self.sent = self.exchange.evidence(
            wire.EvidenceBody("0.1.0", machine.boot_id, claims, facts)
        )
        return self.sent

    def release(self, want: str = "key") -> wire.ReleaseBody:
        answer = self.machine.server.post("evidence", self.evidence(want))
        self.body = self.exchange.release(answer)
        for decision in self.body.decisions:
            if decision.lineage is not None:
                self.machine.lineage[decision.device] = decision.lineage
        return self.body

    def ack_message(self, result: str = "mounted", luks_uuid: str | None = None) -> bytes:
        assert self.body is not None
        header = self.machine.header
        results = tuple(
            wire.AckResult(d.device, d.key_version or 0, result, luks_uuid, False, "", header)
            for d in self.body.decisions
            if d.outcome == "granted" or result in _WHEN_DENIED
        )
        return self.exchange.ack(results)

    def ack(self, result: str = "mounted", luks_uuid: str | None = None) -> None:
        answer = self.machine.server.post("ack", self.ack_message(result, luks_uuid))
        self.exchange.receipt(answer)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextmanager
def serve(directory: Path, clock: Clock) -> Iterator[Server]:
    """Serve from new files in `directory`, with a policy for machines that are called web."""
    settings = parse_settings(
        {
            "storage": {"url": f"sqlite:///{directory}/securecloud.db"},
            "keystore": {"master_key": f"file:{directory}/master.key"},
        }
    )
    installation.prepare(settings, clock=clock)
    application = app.build(settings, [CERTIFICATE], clock=clock)
    server = Server(application, clock)
    server.policy("default", {})
    server.policy("web", APPROVE)
    yield server
    application.close()


@pytest.fixture
def server(tmp_path: Path, clock: Clock) -> Iterator[Server]:
    with serve(tmp_path, clock) as server:
        yield server


@pytest.fixture
def machine(server: Server) -> Machine:
    """A machine that the policy approves, with one device."""
    machine = server.machine("web1")
    server.device("web1-data", "web1")
    return machine
