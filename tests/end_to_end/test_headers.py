"""LUKS headers that are destroyed, set back and changed, with the real server and cryptsetup."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.live import AgentMachine, LiveServer

NewAgent = Callable[..., AgentMachine]
HEADER = 16 * 1024 * 1024


def cryptsetup(*words: str) -> None:
    subprocess.run(["cryptsetup", "--batch-mode", *words], capture_output=True, check=True)


def write(volume: Path, octets: bytes) -> None:
    with volume.open("r+b") as file:
        file.write(octets)


def test_a_destroyed_header_comes_back_from_the_server(
    new_agent: NewAgent, server: LiveServer, tmp_path: Path
) -> None:
    machine = new_agent("damaged")
    machine.unlock()
    machine.cli("lock", "--json")
    known = server.ok("GET", "/devices/damaged-data")["header"]
    assert known["copy_of"] == known["digest"]
    write(machine.volume, bytes(HEADER))
    assert machine.unlock()[0] != 0
    backup = tmp_path / "backup"
    backup.write_bytes(server.ok("GET", "/devices/damaged-data/header"))
    cryptsetup("luksHeaderRestore", f"--header-backup-file={backup}", str(machine.volume))
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device


def test_a_header_that_is_set_back_over_a_rotation_gets_no_key(
    new_agent: NewAgent, server: LiveServer
) -> None:
    machine = new_agent("rotated")
    machine.unlock()
    before = machine.volume.read_bytes()[:HEADER]
    server.ok("POST", "/keys/rotated-data:rotate", {"reason": "somebody left"})
    machine.unlock()
    known = server.ok("GET", "/devices/rotated-data")["header"]
    assert not known["changing"]
    assert known["copy_of"] == known["digest"]
    machine.cli("lock", "--json")
    after = machine.volume.read_bytes()[:HEADER]
    write(machine.volume, before)
    code, device = machine.unlock()
    assert (code, device["outcome"], device["code"]) == (4, "denied", "header_changed")
    write(machine.volume, after)
    assert machine.unlock()[0] == 0


def test_a_header_that_somebody_changed_is_accepted(
    new_agent: NewAgent, server: LiveServer
) -> None:
    machine = new_agent("changed")
    machine.unlock()
    machine.cli("lock", "--json")
    cryptsetup("config", "--label=data", str(machine.volume))
    assert machine.unlock()[1]["code"] == "header_changed"
    refused = server.ok("GET", "/devices/changed-data")["header"]["refused"]
    accepted = {"digest": refused, "reason": "we gave it a label"}
    server.ok("POST", "/devices/changed-data:accept-header", accepted)
    assert machine.unlock()[0] == 0
    known = server.ok("GET", "/devices/changed-data")["header"]
    assert (known["digest"], known["copy_of"]) == (refused, refused)
    assert (known["changing"], known["refused"], known["acceptable"]) == (False, None, False)
