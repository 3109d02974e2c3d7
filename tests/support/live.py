"""A real management server and real agents on loopback, driven as their users drive them."""

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.ca import ensure_certificates

BIN = Path(sys.executable).parent
START_LIMIT = 60.0
_PAUSE = threading.Event()


@dataclass(frozen=True)
class Reply:
    """Status, headers (names in lower case) and JSON body of an answer."""

    status: int
    headers: dict[str, str]
    body: Any


class LiveServer:
    """`securecloud-server` in a directory of its own; `start` and `stop` as often as wanted.

    A second node shares the database, the master key and the certificate of the one `beside` it.
    """

    def __init__(
        self,
        directory: Path,
        storage: str | None = None,
        beside: "LiveServer | None" = None,
        kmip: dict[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.kmip = beside.kmip if beside else kmip
        self.tls = beside.tls if beside else directory / "tls"
        self.storage = beside.storage if beside else storage or f"sqlite:///{self.database}"
        self.master_key: Path = beside.master_key if beside else directory / "data/master.key"
        self.token_file: Path = beside.token_file if beside else directory / "admin.token"
        ensure_certificates(self.tls)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.config = directory / "server.toml"
        self.log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ca_file(self) -> Path:
        return self.tls / "ca.pem"

    @property
    def database(self) -> Path:
        return self.directory / "data/securecloud.db"

    def settings(self) -> dict[str, Any]:
        return {
            "server": {
                "listen": f"127.0.0.1:{self.port}",
                "public_url": self.url,
                "tls_certificate": str(self.tls / "server.pem"),
                "tls_key": str(self.tls / "server.key"),
            },
            "storage": {"url": self.storage},
            "keystore": {
                "type": "kmip" if self.kmip else "local",
                "master_key": f"file:{self.master_key}",
            },
            "kmip": self.kmip or {},
            "policy": {"pending_retry": 1},
        }

    def cli(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "securecloud-server", "--config", str(self.config), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def prepare(self) -> None:
        for done in (
            self.cli("configure", "--json", stdin=json.dumps(self.settings())),
            self.cli("init", "--admin-token-file", str(self.token_file), "--json"),
        ):
            assert done.returncode == 0, done.stderr

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [BIN / "securecloud-server", "--config", str(self.config), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_LIMIT
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{self.log.read_text()[-4000:]}")
            _PAUSE.wait(0.05)

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, ssl.SSLError):
            return self.request("GET", "/readyz", token=None).status == 200
        return False

    def becomes_ready(self) -> bool:
        """Return whether it says so, within half a minute: what it found is kept for seconds."""
        deadline = time.monotonic() + 30
        while not self._ready():
            if time.monotonic() > deadline:
                return False
            _PAUSE.wait(0.2)
        return True

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self._process = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def send(self, word: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(word)

    def metric(self, name: str) -> float:
        """Return the value of a metric without labels."""
        text = self.request("GET", "/metrics").body.decode()
        (line,) = [each for each in text.splitlines() if each.startswith(f"{name} ")]
        return float(line.split()[1])

    def falls_silent(self) -> bool:
        """Return whether nothing listens any more, within a few seconds."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                    return True
            _PAUSE.wait(0.05)
        return False

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        fields = {"Content-Type": "application/json", **(headers or {})}
        if token is not None:
            fields["Authorization"] = f"Bearer {token or self.token}"
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers=fields,
        )
        context = ssl.create_default_context(cafile=str(self.ca_file))
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as answer:
                return _reply(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return _reply(error.code, error.headers, error.read())

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.request(method, f"/api/v1{path}", body)
        assert reply.status < 300, reply
        return reply.body


def _reply(status: int, headers: Any, body: bytes) -> Reply:
    is_json = "json" in (headers.get("Content-Type") or "")
    lower = {name.lower(): value for name, value in headers.items()}
    return Reply(status, lower, json.loads(body) if is_json and body else body)


_WITH_PROGRAMS = """
import sys
import securecloud_agent.run
from securecloud_agent.main import main
securecloud_agent.run.SEARCH_PATH = sys.argv.pop(1)
sys.exit(main())
"""


class AgentMachine:
    """`securecloud-agent` with its own directories and one file-backed volume."""

    def __init__(self, directory: Path, server: LiveServer, name: str) -> None:
        self.directory = directory
        self.server = server
        self.name = name
        self.config = directory / "agent.toml"
        self.volume = directory / "volume.img"

    def settings(self, **changes: Any) -> dict[str, Any]:
        agent = {
            "name": self.name,
            "servers": [self.server.url],
            "ca_file": str(self.server.ca_file),
            "state_dir": str(self.directory / "state"),
            "run_dir": str(self.directory / "run"),
        }
        return {"agent": {**agent, **changes}, "unlock": {"deadline": 20}}

    def cli(
        self, *arguments: str, stdin: str = "", programs: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the agent; `programs` replaces the directories in which it looks for programs."""
        agent = [str(BIN / "securecloud-agent")]
        if programs is not None:
            agent = [sys.executable, "-c", _WITH_PROGRAMS, programs]
        return subprocess.run(
            [*agent, "--config", str(self.config), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    @contextlib.contextmanager
    def service(self) -> Iterator[None]:
        """Run the agent as a service; its messages are in `run.log`."""
        with (self.directory / "run.log").open("ab") as log:
            process = subprocess.Popen(
                [BIN / "securecloud-agent", "--config", str(self.config), "run"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(10) == 0

    def configure(self, **changes: Any) -> None:
        done = self.cli("configure", "--json", stdin=json.dumps(self.settings(**changes)))
        assert done.returncode == 0, done.stderr

    def enrol(self) -> dict[str, Any]:
        token = self.server.ok("POST", "/enrollment-tokens", {"agent_name": self.name})["token"]
        done = self.cli("enrol", "--token-file", "-", "--json", stdin=token)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def register(self, device: str, policy: str | None = None, **volume: Any) -> None:
        """Register a device on a fresh volume, unless `source` names another."""
        source = Path(volume.pop("source", self.volume))
        with source.open("wb") as file:
            file.truncate(64 * 1024 * 1024)
        body = {
            "agent": self.name,
            "group": None,
            "policy": policy,
            "enabled": True,
            "volume": {
                "source": str(source),
                "mount_point": str(self.directory / "mnt"),
                "initialise": "if_blank",
                **volume,
            },
        }
        self.server.ok("PUT", f"/devices/{device}", body)

    def unlock(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        done = self.cli("unlock", *arguments, "--json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)["devices"][0]


def eventually(holds: Callable[[], object], seconds: float) -> float:
    """Return after how many seconds `holds` was true; fail when it is not in time."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < seconds, "not in time"
        _PAUSE.wait(0.05)
    return time.monotonic() - begun


@contextlib.contextmanager
def running_server(
    directory: Path,
    storage: str | None = None,
    beside: LiveServer | None = None,
    kmip: dict[str, Any] | None = None,
) -> Iterator[LiveServer]:
    """Prepare and start a server; always stop it."""
    directory.mkdir(exist_ok=True)
    server = LiveServer(directory, storage, beside, kmip)
    server.prepare()
    server.start()
    try:
        yield server
    finally:
        server.stop()
