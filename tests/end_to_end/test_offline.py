"""A boot without a server: real server, real agent as a service, a TPM in software."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from agent.tests.tpm import SoftTpm
from tests.end_to_end.conftest import APPROVING
from tests.end_to_end.test_secrets_stay_secret import RECORDER, files_below, spellings
from tests.support.live import AgentMachine, LiveServer

PERIOD = 3600
DEADLINE = 5
_PATIENCE = 60.0
_PAUSE = Event()

_WITH_TPM = """
import sys
from pathlib import Path
import securecloud_agent.run
from securecloud_agent.main import main
from securecloud_agent.sealing import tpm
securecloud_agent.run.SEARCH_PATH = sys.argv.pop(1)
tpm.DRIVER, tpm.DEVICE = sys.argv.pop(1), Path(sys.argv.pop(1))
sys.exit(main())
"""

# The kernel's resource manager empties the TPM when a program ends; there is none here.
_MANAGED = """#!/bin/sh
directory=$(dirname "$0")
tr '\\0' '\\n' </proc/$$/cmdline >>"$directory/argv"
env >>"$directory/environment"
/usr/bin/{tool} "$@"
status=$?
/usr/bin/tpm2_flushcontext -T {tcti} -t
exit $status
"""


class Machine:
    """A machine with a TPM that can be switched off and on; `agent` runs on it."""

    def __init__(self, agent: AgentMachine, tpm: SoftTpm, programs: Path) -> None:
        self.agent, self.tpm, self.programs = agent, tpm, programs
        programs.mkdir()
        for path in sorted(Path("/usr/bin").glob("tpm2_*")):
            text = _MANAGED.format(tool=path.name, tcti=f"{tpm.driver}{tpm.socket}")
            (programs / path.name).write_text(text)
        (programs / "cryptsetup").write_text(RECORDER)
        for path in programs.iterdir():
            path.chmod(0o700)

    @property
    def argv(self) -> list[str]:
        where = f"{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin"
        tpm = [self.tpm.driver, str(self.tpm.socket)]
        return [sys.executable, "-c", _WITH_TPM, where, *tpm, "--config", str(self.agent.config)]

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.argv, *words], capture_output=True, text=True, check=False)

    def status(self) -> dict[str, Any]:
        done = self.cli("status", "--json")
        assert done.returncode == 0, done.stderr
        device: dict[str, Any] = json.loads(done.stdout)["devices"][0]
        return device

    def reboot(self) -> None:
        """Nothing is left of what ends with a boot, and the TPM has been reset."""
        shutil.rmtree(self.agent.directory / "run")
        self.tpm.boot()

    @property
    def journal(self) -> str:
        return (self.agent.directory / "journal").read_text()

    @contextlib.contextmanager
    def service(self) -> Iterator[None]:
        with (self.agent.directory / "journal").open("wb") as journal:
            process = subprocess.Popen(
                [*self.argv, "run"], stdin=subprocess.DEVNULL, stdout=journal, stderr=journal
            )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        give_up = time.monotonic() + _PATIENCE
        while not holds():
            assert time.monotonic() < give_up, f"never {what}: {self.status()}\n{self.journal}"
            _PAUSE.wait(0.2)


@pytest.fixture
def machine(
    new_agent: Callable[..., AgentMachine], server: LiveServer, tmp_path: Path
) -> Iterator[Machine]:
    server.ok("PUT", "/policies/away", {**APPROVING, "offline": {"period": PERIOD, "boots": 2}})
    agent = new_agent("away", "away")
    settings = agent.settings()
    settings["unlock"]["deadline"] = DEADLINE
    done = agent.cli("configure", "--json", stdin=json.dumps(settings))
    assert done.returncode == 0, done.stderr
    with SoftTpm(tmp_path / "tpm") as tpm:
        yield Machine(agent, tpm, tmp_path / "programs")


def test_a_machine_boots_without_its_server_for_a_while(
    machine: Machine, server: LiveServer
) -> None:
    done = machine.cli("unlock", "--json")
    assert done.returncode == 0, done.stderr
    if not Path("/dev/mapper/control").exists():
        assert machine.status()["volume"] == "verified"
    assert machine.status()["offline"]["state"] == "sealed"

    server.stop()
    machine.reboot()
    # Of the hour that the TPM counts, some seconds are left.
    machine.tpm.forward((PERIOD - 20) * 1000)
    assert machine.status()["volume"] == "closed"
    with machine.service():
        machine.until(lambda: machine.status()["volume"] == "verified", "opened")
        seen = machine.status()
        assert seen["grace"]["code"] == "offline"
        assert seen["grace"]["seconds_left"] < 20
        assert seen["offline"]["boots_left"] == 1
        assert "granted (offline), verified: no server could be reached" in machine.journal
        machine.until(lambda: machine.status()["volume"] == "closed", "locked")
        assert "its time without a server is over" in machine.journal
        assert machine.status()["offline"] is None

        server.start()
        machine.until(lambda: machine.status()["volume"] == "verified", "granted again")
        machine.until(lambda: "device.offline" in told(server), "told")
    event = told(server)["device.offline"]
    assert "used without a server once" in event["details"]["detail"]

    # The key was in argv, environment and files of none of these programs.
    key = (machine.programs / "key").read_bytes()
    assert len(key) == 64
    (machine.programs / "key").unlink()
    assert "tpm2_create" in (machine.programs / "argv").read_text()
    places = files_below(machine.agent.directory) + files_below(machine.programs)
    places += files_below(server.directory)
    for spelling in spellings(key):
        assert not [path for path in places if spelling in path.read_bytes()]

    # And a denial takes what is sealed.
    sealed = machine.agent.directory / "state/sealed/away-data.json"
    assert sealed.exists()
    forbids = {"fact": "boot.boot_id", "operator": "equals", "value": "x"}
    server.ok("PUT", "/policies/away", {**APPROVING, "rules": [forbids]})
    assert machine.cli("check", "--json").returncode == 4
    assert not sealed.exists()


def told(server: LiveServer) -> dict[str, Any]:
    events = server.ok("GET", "/audit-events?limit=200")["items"]
    return {event["action"]: event for event in events}
