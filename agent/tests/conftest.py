import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from securecloud_agent.config import complete, render
from securecloud_agent.main import main, passes, wiring, without_server
from securecloud_agent.main.wiring import Agent, Clocks, make_agent
from securecloud_protocol import messages as wire

from .certificates import Authority, Certificate
from .simulator import Clock, Device, Listener, Management
from .tpm import SoftTpm


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("server")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def management(clock: Clock, certificate: Certificate) -> Management:
    return Management(clock, [certificate])


@pytest.fixture
def listen(management: Management, certificate: Certificate) -> Iterator[Callable[..., Listener]]:
    started: list[Listener] = []

    def start(certificate: Certificate = certificate, tls: str = "1.3") -> Listener:
        started.append(Listener(management, certificate, tls))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def listener(listen: Callable[..., Listener]) -> Listener:
    return listen()


@pytest.fixture
def home(tmp_path: Path, authority: Authority) -> "Home":
    return Home(tmp_path, authority.ca_file)


class Home:
    """An agent's configuration and folders."""

    def __init__(self, folder: Path, ca_file: Path) -> None:
        self.folder = folder
        self.config = folder / "etc" / "agent.toml"
        self.state = folder / "state"
        self.ca_file = ca_file

    def settings(self, *servers: str, **agent: object) -> dict[str, dict[str, object]]:
        return {
            "agent": {
                "name": "web1",
                "servers": list(servers) or ["https://127.0.0.1:1"],
                "ca_file": str(self.ca_file),
                "state_dir": str(self.state),
                "run_dir": str(self.folder / "run"),
                **agent,
            },
            "unlock": {"deadline": 10},
        }

    def configure(self, *servers: str, **agent: object) -> Path:
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(render(complete(self.settings(*servers, **agent))))
        return self.config

    def token_file(self, token: str) -> str:
        path = self.folder / "token"
        path.write_text(token + "\n")
        return str(path)

    def status(self) -> dict:
        return json.loads((self.state / "status.json").read_text())


@pytest.fixture(autouse=True)
def unprotected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory locking and the rest hold for a whole process; they have a test of their own."""
    for module in ("check", "enrol", "encrypt", "unlock", "run"):
        monkeypatch.setattr(f"securecloud_agent.main.{module}.protect_process", lambda: None)


@pytest.fixture(autouse=True)
def terminals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What people on the machine are told; nobody here is to be disturbed."""
    found: list[str] = []
    monkeypatch.setattr("securecloud_agent.main.watch.notify_terminals", found.append)
    monkeypatch.setattr("securecloud_agent.main.postpone.notify_terminals", found.append)
    return found


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the agent forgets; here the server's keys would go with it, in the same process."""
    found: list[bytes] = []
    for module in (passes, without_server):
        monkeypatch.setattr(module, "forget", lambda keys: found.extend(filter(None, keys)))
    return found


@pytest.fixture
def clocks(clock: Clock) -> Clocks:
    return Clocks(
        now=clock.now,
        monotonic=clock.now,
        since_boot=clock.now,
        pause=clock.pause,
        chance=lambda: 0.0,
    )


@pytest.fixture(autouse=True)
def turned(monkeypatch: pytest.MonkeyPatch, clocks: Clocks) -> None:
    monkeypatch.setattr(wiring, "Clocks", lambda: clocks)


@pytest.fixture
def enrolled(home: "Home", management: Management, listener: Listener, clocks: Clocks) -> Agent:
    """An agent that is enrolled with the simulator."""
    home.configure(listener.url)
    assert (
        main(["--config", str(home.config), "enrol", "--token-file",
              home.token_file(management.token())]) == 0
    )  # fmt: skip
    listener.requests.clear()
    return make_agent(home.config, clocks)


@pytest.fixture
def no_mapper(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without device-mapper, whichever the tests run on."""
    monkeypatch.setattr(
        "securecloud_agent.volumes.kernel.Kernel.has_device_mapper", lambda self: False
    )


@pytest.fixture
def tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftTpm]:
    """A TPM, and an agent that takes it for this machine's."""
    with SoftTpm(tmp_path / "tpm") as soft:
        monkeypatch.setattr("securecloud_agent.sealing.tpm.DRIVER", soft.driver)
        monkeypatch.setattr("securecloud_agent.sealing.tpm.DEVICE", soft.socket)
        monkeypatch.setattr(wiring, "run", soft.run)
        yield soft


@pytest.fixture
def blank_file(tmp_path: Path) -> Path:
    path = tmp_path / "data.img"
    with path.open("wb") as file:
        file.truncate(24 * 1024 * 1024)
    return path


@pytest.fixture
def device(management: Management, blank_file: Path) -> Device:
    volume = wire.Volume(
        str(blank_file), None, "ext4", "/srv/data", ("defaults",), False, "if_blank", None
    )
    management.devices["data"] = Device(volume)
    return management.devices["data"]
