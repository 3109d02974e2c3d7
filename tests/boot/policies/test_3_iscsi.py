"""A volume on iSCSI: connected for its grant, there after a reboot, gone with the lock."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.machine import Machine
from tests.boot.guests import Api, Guest, eventually

DEVICE, WHERE = "agent1-remote", "/srv/remote"
TARGET = "iqn.2026-01.lab.keys:disks"
PORTAL = "10.0.2.100:3260"
PLACE = {"portal": PORTAL, "target": TARGET, "lun": 1}
LINK = f"/dev/disk/by-path/ip-{PORTAL}-iscsi-{TARGET}-lun"
SESSIONS = "ls -A /sys/class/iscsi_session 2>/dev/null"
RECORDED = Path(__file__).parents[3] / "agent/tests/fixtures/iscsiadm.json"
USER = f"""[Unit]
RequiresMountsFor={WHERE}
[Service]
ExecStart=/bin/sh -c 'cat {WHERE}/file >/run/read && exec sleep infinity'
[Install]
WantedBy=multi-user.target
"""


class Storage:
    """A target in user space (tgtd) on the server's machine, with two disks."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def start(self) -> None:
        disk = "--lun=$lun --backing-store=/var/tmp/lun$lun"
        self._machine.ssh(
            "systemd-run --quiet --unit=storage --property=Type=notify tgtd -f\n"
            f"{self._adm('new', 'target')} --targetname={TARGET}\n"
            "for lun in 1 2; do\n"
            "  test -e /var/tmp/lun$lun || truncate -s 64M /var/tmp/lun$lun\n"
            f"  {self._adm('new', 'logicalunit')} {disk}\n"
            "done\n"
            f"{self._adm('bind', 'target')} --initiator-address=ALL"
        )

    def stop(self) -> None:
        """At once, as when its power goes."""
        self._machine.ssh("systemctl kill --signal=KILL storage; systemctl reset-failed storage")

    def ask_for_a_secret(self) -> None:
        """From now on, a login takes CHAP."""
        self._machine.ssh(
            "tgtadm --lld=iscsi --op=new --mode=account --user=somebody --password=secretsecret\n"
            "tgtadm --lld=iscsi --op=bind --mode=account --tid=1 --user=somebody"
        )

    def ask_for_none(self) -> None:
        self._machine.ssh(
            "tgtadm --lld=iscsi --op=unbind --mode=account --tid=1 --user=somebody\n"
            "tgtadm --lld=iscsi --op=delete --mode=account --user=somebody"
        )

    def remove(self) -> None:
        self.stop()
        self._machine.ssh("rm -f /var/tmp/lun1 /var/tmp/lun2")

    @staticmethod
    def _adm(operation: str, mode: str) -> str:
        return f"tgtadm --lld=iscsi --op={operation} --mode={mode} --tid=1"


@pytest.fixture(scope="module")
def storage(server: Machine) -> Iterator[Storage]:
    storage = Storage(server)
    storage.start()
    yield storage
    storage.remove()


@pytest.fixture(scope="module")
def agent(agent1: Guest, storage: Storage, api: Api) -> Iterator[Guest]:
    """The first machine, with open-iscsi as its package sets it up."""
    units = "iscsid.socket open-iscsi.service"
    agent1.run(f"systemctl enable --now {units}")
    agent1.run("cat >/etc/systemd/system/user.service", stdin=USER)
    yield agent1
    for each in api("GET", "/devices?agent=agent1")["items"]:
        if each["volume"]["iscsi"]:
            api("DELETE", f"/devices/{each['name']}?force=true")
    agent1.check_now()
    eventually("it is forgotten", lambda: agent1.status(DEVICE)["outcome"] is None)
    assert agent1.run(SESSIONS, check=False) == ""
    assert agent1.run("find /etc/systemd/system -name 'srv-remote*' -o -name '*2*remote*'") == ""
    agent1.run(f"systemctl disable --now user.service {units} iscsid.service", check=False)
    agent1.run("rm -rf /etc/iscsi/nodes /etc/systemd/system/user.service")


def register(api: Api, device: str = DEVICE, where: str | None = WHERE, **place: object) -> None:
    api.register(
        device, "agent1", iscsi={**PLACE, **place}, mount_point=where, initialise="if_blank"
    )


def comes_up(guest: Guest) -> float:
    """Return the seconds from the kernel's start to multi-user.target."""
    guest.machine.wait_for_ssh()
    eventually("multi-user.target", lambda: guest.is_active("multi-user.target"))
    return int(guest.shown("multi-user.target", "ActiveEnterTimestampMonotonic")) / 1e6


def entered(guest: Guest, unit: str) -> int:
    return int(guest.shown(unit, "ActiveEnterTimestampMonotonic"))


def test_the_real_iscsiadm_answers_as_it_was_recorded(agent: Guest, storage: Storage) -> None:
    """What the agent's own tests are held to."""
    scenes = json.loads(RECORDED.read_text())
    for scene in ("known", "unknown", "secret"):
        if scene == "secret":
            storage.ask_for_a_secret()
        for step in scenes[scene]["steps"]:
            words = " ".join(step["words"])
            node = f"--mode=node --targetname={scenes[scene]['target']} --portal={PORTAL}"
            said = agent.run(f"iscsiadm {node} {words} 2>&1 >/dev/null; echo $?", check=False)
            assert said.splitlines() == [*step["messages"], str(step["status"])], step
    storage.ask_for_none()
    agent.run("rm -r /etc/iscsi/nodes")


def test_a_blank_disk_is_connected_formatted_and_mounted(api: Api, agent: Guest) -> None:
    assert agent.run(SESSIONS, check=False) == ""
    register(api)
    agent.check_now()
    connected = {**PLACE, "connected": True}
    seen = agent.until(DEVICE, "mounted", outcome="granted", iscsi=connected)
    assert f"connected to {TARGET} at {PORTAL}, formatted as LUKS2" in seen["how"]
    disk = agent.run(f"basename $(readlink -f {LINK}-1)").strip()
    assert agent.run(f"ls /sys/block/{disk}/holders").strip().startswith("dm-")
    assert agent.is_active("srv-remote.mount")
    assert agent.is_active("open-iscsi.service")
    assert "node.startup = manual" in agent.run(f"iscsiadm -m node -T {TARGET} -p {PORTAL}")
    agent.run(f"echo kept >{WHERE}/file && systemctl enable --now user.service")


def test_after_a_reboot_it_is_open_before_what_needs_it(agent: Guest) -> None:
    begun = time.monotonic()
    agent.machine.reboot()
    rebooted = time.monotonic() - begun
    seconds = comes_up(agent)
    agent.until(DEVICE, "mounted")
    eventually("its user runs", lambda: agent.is_active("user.service"))
    assert agent.run("cat /run/read").strip() == "kept"
    mounted = entered(agent, "srv-remote.mount")
    assert mounted <= entered(agent, "user.service")
    # The local one waits for neither network-online.target nor the target.
    assert entered(agent, "srv-data.mount") < mounted
    # Unmounted and closed while its disk was there.
    down = agent.run("journalctl --boot=-1 --no-pager --output=cat").splitlines()[-400:]
    order = ("Unmounted srv-remote.mount", "Stopping open-iscsi", "Stopped iscsid")
    places = [next(i for i, line in enumerate(down) if line.startswith(each)) for each in order]
    assert places == sorted(places)
    assert not [line for line in down[places[0] :] if "I/O error" in line]
    print(
        f"down and up {rebooted:.0f} s, multi-user.target {seconds:.1f} s after the kernel, local"
        f" volume {entered(agent, 'srv-data.mount') / 1e6:.1f} s, remote {mounted / 1e6:.1f} s"
    )


def test_a_second_disk_of_the_target_keeps_the_session(api: Api, agent: Guest) -> None:
    register(api, "agent1-second", None, lun=2)
    agent.check_now()
    agent.until("agent1-second", "opened")
    assert len(agent.run(SESSIONS).split()) == 1
    agent.agent("lock agent1-second")
    assert agent.status(DEVICE)["volume"] == "mounted"
    assert agent.run(f"cat {WHERE}/file").strip() == "kept"
    assert agent.run(f"cryptsetup isLuks {LINK}-2 && echo there").strip() == "there"


def test_denied_it_is_closed_and_the_session_is_gone(api: Api, agent: Guest) -> None:
    allowed = api.change_rules("agent1", [{"fact": "os.id", "operator": "equals", "value": "none"}])
    try:
        agent.check_now()
        agent.until(DEVICE, "closed", outcome="denied", iscsi={**PLACE, "connected": False})
    finally:
        api.change_rules("agent1", allowed)
    assert not agent.is_active("user.service")
    assert agent.run(SESSIONS, check=False) == ""
    assert agent.run(f"ls {LINK}-1 2>/dev/null", check=False) == ""
    agent.check_now()
    agent.until(DEVICE, "mounted")
    eventually("its user runs", lambda: agent.is_active("user.service"))


def test_locked_the_session_is_gone(agent: Guest) -> None:
    agent.agent(f"lock {DEVICE}")
    assert agent.run(SESSIONS, check=False) == ""
    agent.check_now()
    agent.until("agent1-data", "mounted")
    assert agent.run(SESSIONS, check=False) == ""
    agent.agent(f"unlock {DEVICE}")
    assert agent.run(f"cat {WHERE}/file").strip() == "kept"


def test_a_session_that_somebody_else_began_stays(agent: Guest) -> None:
    agent.agent(f"lock {DEVICE}")
    node = f"iscsiadm -m node -T {TARGET} -p {PORTAL}"
    agent.run(f"{node} --login")
    agent.agent(f"unlock {DEVICE}")
    agent.agent(f"lock {DEVICE}")
    assert len(agent.run(SESSIONS).split()) == 1
    agent.run(f"{node} --logout")
    agent.agent(f"unlock {DEVICE}")


def test_a_target_that_goes_away_and_comes_back(agent: Guest, storage: Storage) -> None:
    storage.stop()
    agent.run(f"dd if=/dev/zero of={WHERE}/more bs=1M count=1 conv=fsync >/dev/null 2>&1 &")
    eventually("down", lambda: "LOGGED_IN" not in agent.run("cat /sys/class/iscsi_session/*/state"))
    agent.check_now()
    seen = agent.until(DEVICE, "mounted", outcome="failed")
    assert f"its iSCSI session with {PORTAL} is down" in seen["detail"]
    assert agent.status("agent1-data")["outcome"] == "granted"
    storage.start()
    eventually("up", lambda: "LOGGED_IN" in agent.run("cat /sys/class/iscsi_session/*/state"))
    agent.check_now()
    agent.until(DEVICE, "mounted", outcome="granted")
    agent.run(f"sync {WHERE}/more")


def test_refusals_of_the_target_are_told(api: Api, agent: Guest, storage: Storage) -> None:
    storage.ask_for_a_secret()
    agent.agent(f"lock {DEVICE}")
    refused = agent.agent(f"unlock {DEVICE}", check=False)
    assert "the target refuses this machine" in refused
    storage.ask_for_none()
    agent.agent(f"unlock {DEVICE}")
    register(api, "agent1-second", None, target="iqn.2026-01.lab.keys:none")
    unknown = agent.agent("unlock agent1-second", check=False)
    assert "the target is not there" in unknown
    register(api, "agent1-second", None, lun=7)
    assert "has it a LUN 7" in agent.agent("unlock agent1-second", check=False)
    api("DELETE", "/devices/agent1-second?force=true")


def test_a_dead_portal_leaves_the_other_volumes_open_and_says_why(api: Api, agent: Guest) -> None:
    # Nobody answers there, and nobody says so.
    register(api, "agent1-dead", None, portal="10.0.2.100:3261")
    agent.machine.reboot()
    seconds = comes_up(agent)
    for device in ("agent1-data", DEVICE):
        assert agent.status(device)["volume"] == "mounted"
    seen = agent.until("agent1-dead", "closed", outcome="failed")
    assert "the iSCSI portal 10.0.2.100:3261 cannot be reached" in seen["detail"]
    assert agent.is_active("writer.service")
    print(f"multi-user.target after {seconds:.1f} s with a dead portal")
    api("DELETE", "/devices/agent1-dead?force=true")
