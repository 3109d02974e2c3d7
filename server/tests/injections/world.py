"""A server, and a machine and a person who want something of it."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from securecloud_audit.merkle import verify_consistency
from securecloud_protocol import messages as wire
from securecloud_protocol.envelope import encode_error
from securecloud_protocol.errors import ErrorCode
from securecloud_server import app
from securecloud_server.domain.records import Actor
from securecloud_server.storage.verification import verify_audit
from sqlalchemy import event

from server.tests.admin.api import ADMINISTRATOR, REASON, Caller, problem
from server.tests.exchange.conftest import CERTIFICATE, Clock, Dialogue, Machine, Server, serve
from server.tests.injections.disk import Disk, nothing
from server.tests.injections.faults import Scene

DEVICE = "web1-data"
PERSON = Actor("cli", "alice")
UNAVAILABLE = encode_error(ErrorCode.UNAVAILABLE)
CHECKPOINT_AFTER = 12
"""Pages that are written until a commit moves them from SQLite's log to its database."""
_FILES = ("securecloud.db", "securecloud.db-wal")
_FRAME = 24 + 4096


class Refused(Exception):
    """The server said that it is unavailable; a person is told the cause."""


@dataclass(frozen=True)
class Told:
    """What was answered, by the event that must be in the log, and what the machine knew then."""

    action: str
    session: str | None
    lineage: dict[str, bytes]
    seen: tuple[int, bytes]


@dataclass
class Door(Server):
    """The server as those outside see it: it serves, or it says that it cannot now."""

    def post(self, step: str, message: bytes) -> bytes:
        answer = self.send("POST", f"/agent/v1/{step}", message)
        if (answer.status, answer.body) == (503, UNAVAILABLE):
            raise Refused(step)
        assert answer.status == 200, f"{step}: {answer.status} {answer.body!r}"
        return answer.body


@dataclass
class Client:
    """The machine, and a person with an API token."""

    machine: Machine
    person: Caller
    tell: Callable[[Told], None]

    @property
    def server(self) -> Server:
        return self.machine.server

    def play(self) -> None:
        """A key goes out; somebody plays back the message; the key is revoked, so none goes out."""
        dialogue = self.begin()
        self.release(dialogue, "key.released")
        self.play_back(dialogue)
        dialogue.ack()
        self.said("device.mounted", dialogue)
        self.change_key("revoke")
        self.said("key.revoked")
        self.release(self.begin(), "key_request.denied")

    def begin(self) -> Dialogue:
        dialogue = self.machine.begin()
        dialogue.challenge()
        return dialogue

    def release(self, dialogue: Dialogue, expected: str) -> wire.DeviceDecision:
        body = dialogue.release()
        self._look_at(body.audit)
        (decision,) = body.decisions
        assert (decision.key is not None) == (expected == "key.released"), decision
        self.said(expected, dialogue)
        return decision

    def _look_at(self, head: wire.AuditHead) -> None:
        size, root = self.machine.seen
        verify_consistency(size, head.size, root, head.root, head.consistency)
        self.machine.seen = head.size, head.root

    def play_back(self, dialogue: Dialogue) -> None:
        answer = self.server.send("POST", "/agent/v1/evidence", dialogue.sent)
        if (answer.status, answer.body) == (503, UNAVAILABLE):
            raise Refused("evidence")
        assert answer.body == encode_error(ErrorCode.REPLAYED), answer
        self.said("exchange.refused", dialogue)

    def change_key(self, how: str) -> None:
        answer = self.person.call("POST", f"/keys/{DEVICE}:{how}", REASON)
        if answer.status_code != 200:
            raise Refused(problem(answer, "unavailable")["detail"])

    def said(self, action: str, dialogue: Dialogue | None = None) -> None:
        """Tell what was answered."""
        session = dialogue.core.session_id.hex() if dialogue and dialogue.core else None
        self.tell(Told(action, session, dict(self.machine.lineage), self.machine.seen))

    def go_on(self) -> None:
        """The machine asks again, and gets its key unless that is revoked."""
        revoked = "key.revoked" in self.server.actions()
        self.release(self.begin(), "key_request.denied" if revoked else "key.released")


@dataclass
class World:
    """An installation that is put back to its start again and again.

    Things happen to `server`; `next` is the one that is started afterwards.
    """

    folder: Path
    clock: Clock = field(default_factory=Clock)
    disk: Disk = field(default_factory=Disk)
    connected: list[Callable[[Connection], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now, self._start = self.folder / "now", self.folder / "start"
        self.now.mkdir()
        with serve(self.now, self.clock) as server:
            self.server = Door(server.application, self.clock)
            self._machine = self.server.machine("web1")
            self.server.device(DEVICE, "web1")
            # So that what follows is not the first use of anything.
            self._machine.unlock()
            create = server.application.admin.api_tokens.create
            self._token = create(PERSON, "alice", ADMINISTRATOR, None)[1]
            self._start.mkdir()
            for name in _FILES:
                shutil.copy(self.now / name, self._start)
        settings = server.application.settings
        self.next = Door(app.build(settings, [CERTIFICATE], clock=self.clock), self.clock)
        # From here on there is no connection to the database, so that this process can fork.
        frames = (self._start / _FILES[1]).stat().st_size // _FRAME
        self._checkpoint_at = frames + CHECKPOINT_AFTER
        event.listen(server.application.database.engine, "connect", self._connect)

    @property
    def scene(self) -> Scene:
        return Scene(self.disk, self.now / _FILES[0], self.connected)

    def again(self) -> None:
        """Put everything back to the start: a database, and its log as after a kill."""
        for file in self.now.glob("securecloud.db*"):
            file.unlink()
        for name in _FILES:
            shutil.copy(self._start / name, self.now)

    def client(self, tell: Callable[[Told], None]) -> Client:
        """Return the machine as it was at the start."""
        return self._client(self.server, tell)

    def _client(self, server: Server, tell: Callable[[Told], None]) -> Client:
        machine = replace(self._machine, server=server, lineage=dict(self._machine.lineage))
        return Client(machine, Caller(server.http, self._token), tell)

    def stop(self) -> None:
        """Stop the server; nothing happens to the next one."""
        self.server.database.close()
        self.disk.ask = nothing
        self.connected.clear()

    def check(self, told: Sequence[Told]) -> None:
        """What was answered is in the log, the log is whole, and a server that starts serves."""
        try:
            self._check(told)
        finally:
            self.next.database.close()

    def _check(self, told: Sequence[Told]) -> None:
        report = verify_audit(self.next.database, self._check_signature)
        assert report.verified, report.problem
        log = {(each.action, each.details.get("session_id")) for each in self.next.events()}
        for each in told:
            assert (each.action, each.session) in log, f"{each.action} is not in the log"
        client = self._client(self.next, lambda _: None)
        if told:
            client.machine.lineage, client.machine.seen = dict(told[-1].lineage), told[-1].seen
        client.go_on()
        if ("key.revoked", None) in log:
            client.change_key("restore")
            client.release(client.begin(), "key.released")

    def _check_signature(self, size: int, root: bytes, at: int, signature: bytes) -> None:
        if self.next.application.responder.sign_audit_head(size, root, at) != signature:
            raise ValueError("it is not this server's")

    def _connect(self, connection: Connection, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout=5")
        connection.execute(f"PRAGMA wal_autocheckpoint={self._checkpoint_at}")
        for call in self.connected:
            call(connection)
