"""Boots without a server: what a TPM has sealed opens the volume, within its bounds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boot.guests import Api, Guest, eventually, until_told
from tests.boot.keys import Keys, found, memory, on_disks

DEVICE = "agent1-data"
OFFLINE = {"period": 3600, "boots": 1, "pcrs": [7]}


class Cut:
    """The machine and the way to its server."""

    def __init__(self, guest: Guest, server_port: int) -> None:
        self._guest, self._port = guest, server_port

    def off(self, *, secure_boot: bool = True, meanwhile: Callable[[], None] | None = None) -> None:
        """Boot with nobody to ask; `meanwhile` the machine is off."""
        self._guest.machine.reach(None)
        self._guest.machine.shut_down()
        if meanwhile is not None:
            meanwhile()
        self._guest.boot(secure_boot=secure_boot, tpm=True)

    def mend(self) -> None:
        """Let it reach its server, and wait until it has its volume and a sealed key."""
        self._guest.machine.reach(self._port)
        self._guest.until(DEVICE, "mounted", outcome="granted", grace=None)
        eventually("it is sealed", lambda: "good for 1 more boot" in self._guest.agent("status"))


@pytest.fixture(scope="module")
def cut(api: Api, agent1: Guest, server_port: int) -> Iterator[Cut]:
    found = api("GET", "/policies/agent1")
    before = {key: found[key] for key in ("description", "rules", "on_match", "on_fail")}
    api("PUT", "/policies/agent1", {**before, "offline": OFFLINE})
    agent1.boot(secure_boot=True, tpm=True)
    world = Cut(agent1, server_port)
    world.mend()
    yield world
    agent1.machine.reach(server_port)
    api("PUT", "/policies/agent1", before)
    agent1.check_now()
    agent1.until(DEVICE, "mounted")


def test_it_opens_with_the_sealed_key(
    agent1: Guest, cut: Cut, keys: Keys, volume_key: bytes, tmp_path: Path
) -> None:
    wanted = {"device": keys.of_devices[DEVICE], "volume": volume_key}
    on_disk: list[str] = []
    cut.off(meanwhile=lambda: on_disk.extend(on_disks(agent1, wanted, tmp_path)))
    assert on_disk == []
    agent1.until(DEVICE, "mounted")
    eventually("the writer runs", lambda: agent1.is_active("writer.service"))
    assert "mounted (offline, locked in " in agent1.agent("status")
    assert "no server could be reached" in agent1.journal()
    # This waits for the pass that opened it, and finds no server either.
    agent1.agent("check", check=False)
    dump = memory(agent1, tmp_path)
    assert found(dump, keys.of_devices[DEVICE]) == {}


def test_its_boots_are_used_up(agent1: Guest, cut: Cut, api: Api) -> None:
    cut.off()
    until_told(agent1, "it was sealed for 1 boot, which is used up")
    assert agent1.status(DEVICE)["volume"] == "closed"
    eventually("multi-user.target", lambda: agent1.is_active("multi-user.target"))
    assert not agent1.is_active("writer.service")
    cut.mend()
    eventually("the writer runs", lambda: agent1.is_active("writer.service"))
    path = f"/audit-events?object=device:{DEVICE}&action=device.offline"
    eventually("the server knows", lambda: api("GET", path)["items"])


def test_another_state_of_the_machine_is_refused(agent1: Guest, cut: Cut) -> None:
    cut.off(secure_boot=False)
    until_told(agent1, "the PCRs 7 are not as they were when it was sealed")
    assert agent1.status(DEVICE)["volume"] == "closed"
    cut.mend()


def test_what_an_operator_locked_stays_so(agent1: Guest, cut: Cut) -> None:
    agent1.agent(f"lock {DEVICE}")
    cut.off()
    agent1.until(DEVICE, "closed", outcome="failed", code="unreachable")
    assert agent1.run("ls /var/lib/securecloud/agent/sealed").split() == []
    cut.mend()
