"""A volume is taken away: grace, hooks, a busy one is suspended; and everything comes back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.boot.guests import ELSEWHERE, Api, Guest, eventually
from tests.boot.keys import Keys, found, memory

DEVICE = "agent1-data"
DEVICE_NODE = f"sc-{DEVICE}"
HOOK = """\
#!/bin/sh
echo "$1 $(systemctl is-active writer.service) $(findmnt --noheadings --output TARGET /srv/data)" \\
    >>/root/hooks.log
"""
# Each number is on the disk before it is logged, so whatever is logged must be in the file.
HOLDER = """\
import os, select
data = open("/srv/data/held", "ab", buffering=0)
log = open("/root/held.log", "ab", buffering=0)
number = 0
while True:
    number += 1
    line = b"%d\\n" % number
    data.write(line)
    os.fsync(data.fileno())
    log.write(line)
    select.select([], [], [], 0.05)
"""


class Revocation:
    """Gives and takes the key of agent1's volume."""

    def __init__(self, api: Api, guest: Guest) -> None:
        self._api, self._guest = api, guest
        found = api("GET", "/policies/agent1")
        keys = ("description", "rules", "on_match", "on_fail", "force", "grace")
        self._before = {key: found[key] for key in keys}

    def deny(self, period: int = 0, postpone: int = 0) -> None:
        grace = {"period": period, "postpone": postpone}
        self._api("PUT", "/policies/agent1", {**self._before, "rules": ELSEWHERE, "grace": grace})
        self._guest.check_now()

    def grant(self) -> None:
        self._api("PUT", "/policies/agent1", self._before)
        self._guest.check_now()

    def told(self, action: str) -> list[str]:
        """Return what the audit log says of the device under this action."""
        path = f"/audit-events?object=device:{DEVICE}&action={action}&limit=200"
        return [each["reason"] for each in self._api("GET", path)["items"]]


@pytest.fixture
def revocation(api: Api, agent1: Guest, server_port: int) -> Iterator[Revocation]:
    agent1.until(DEVICE, "mounted", outcome="granted")
    world = Revocation(api, agent1)
    yield world
    agent1.machine.reach(server_port)
    world.grant()
    agent1.run("systemctl stop holder.service", check=False)
    agent1.agent(f"unlock {DEVICE}", check=False)
    agent1.until(DEVICE, "mounted")


@pytest.fixture
def hook(agent1: Guest) -> Iterator[None]:
    path = "/etc/securecloud/hooks.d/10-tell"
    agent1.run(f"cat >{path} && chmod 0755 {path}", stdin=HOOK)
    yield
    agent1.run(f"rm -f {path} /root/hooks.log")


def uptime(guest: Guest) -> float:
    return float(guest.run("cut -d' ' -f1 /proc/uptime"))


def logged_at(guest: Guest, text: str) -> float:
    """Return the seconds since boot at which the agent logged a line with `text` first."""
    journal = "journalctl --boot --no-pager --output short-monotonic --unit securecloud-agent"
    return float(guest.run(f"{journal} | grep -m 1 '{text}'").split("]")[0].strip("[ "))


def grace(guest: Guest) -> dict[str, Any]:
    text = guest.run(f"cat /run/securecloud/agent/grace-{DEVICE}.json")
    found: dict[str, Any] = json.loads(text)
    return found


def hold(guest: Guest) -> None:
    """Let somebody whom no unit stands for write to the volume."""
    guest.run("rm -f /root/held.log /srv/data/held; cat >/root/holder.py", stdin=HOLDER)
    guest.run("systemd-run --quiet --collect --unit=holder /usr/bin/python3 /root/holder.py")
    eventually("the holder writes", lambda: last_number(guest) > 3)


def last_number(guest: Guest) -> int:
    return int(guest.run("tail -n 1 /root/held.log 2>/dev/null", check=False).strip() or 0)


def is_whole(guest: Guest) -> bool:
    """Say whether every number that was logged is in the file, in its order."""
    logged = last_number(guest)
    held = [int(each) for each in guest.run("cat /srv/data/held").split()]
    return held == list(range(1, len(held) + 1)) and len(held) >= logged


def complaints(guest: Guest) -> str:
    return guest.run("dmesg | grep -Ei 'ext4-fs (error|warning)|i/o error|aborted'", check=False)


def test_a_grace_is_counted_postponed_and_ends_without_a_server(
    agent1: Guest, revocation: Revocation, hook: None, server_port: int
) -> None:
    revocation.deny(period=100, postpone=40)
    seen = agent1.until(DEVICE, "mounted", outcome="denied", code="policy")
    assert seen["grace"]["seconds_left"] > 0
    assert "locked in" in agent1.agent("status")
    assert "locked in" in agent1.shown("securecloud-agent", "StatusText")
    begun = grace(agent1)
    # Neither another clock, nor a restart, nor another denial makes it longer.
    agent1.run("date --set='-20 minutes'")
    agent1.run("systemctl restart securecloud-agent")
    agent1.run("date --set='+20 minutes'")
    agent1.check_now()
    assert grace(agent1)["begun"] == begun["begun"]
    assert "at most 40 s more" in agent1.agent(f"postpone {DEVICE} --by 2m", check=False)
    agent1.agent(f"postpone {DEVICE} --by 40s")
    assert grace(agent1)["postponed"] == 40
    eventually("the server knows", lambda: revocation.told("device.grace"))
    agent1.machine.reach(None)
    end = begun["begun"] + 100 + 40
    assert agent1.status(DEVICE)["volume"] == "mounted"
    eventually("it is closed", lambda: DEVICE_NODE not in agent1.mapped())
    over = logged_at(agent1, "its grace is over")
    assert end - 0.5 <= over <= end + 15
    # The last hook runs when it is closed already.
    hooks = eventually(
        "the last hook has run",
        lambda: (
            (said := agent1.run("cat /root/hooks.log").splitlines())[-1][:6] == "locked" and said
        ),
    )
    assert hooks[0].startswith("grace active /srv/data")
    assert hooks[-2:] == ["locking active /srv/data", "locked inactive "]
    # What happened without it is told to the server as soon as there is one.
    before = len(revocation.told("device.closed"))
    agent1.machine.reach(server_port)
    agent1.check_now()
    eventually("the server knows", lambda: len(revocation.told("device.closed")) > before)
    assert "its grace was over" in revocation.told("device.closed")[-1]
    revocation.grant()
    agent1.until(DEVICE, "mounted")
    eventually("the writer runs", lambda: agent1.is_active("writer.service"))
    eventually("the hook", lambda: "opened" in agent1.run("tail -n 1 /root/hooks.log"))


def test_a_grant_in_time_keeps_the_volume(agent1: Guest, revocation: Revocation) -> None:
    revocation.deny(period=600)
    agent1.until(DEVICE, "mounted", outcome="denied")
    revocation.grant()
    seen = agent1.until(DEVICE, "mounted", outcome="granted")
    assert seen["grace"] is None
    assert agent1.is_active("writer.service")


def test_a_busy_volume_is_suspended_and_comes_back_with_what_waited(
    agent1: Guest, revocation: Revocation, keys: Keys, volume_key: bytes, tmp_path: Path
) -> None:
    agent1.run("echo in plain >/srv/data/marker && cat /srv/data/marker")
    hold(agent1)
    revocation.deny()
    agent1.until(DEVICE, "suspended", outcome="denied")
    assert not agent1.is_active("writer.service")
    disk = f"$(basename $(readlink -f /dev/mapper/{DEVICE_NODE}))"
    assert agent1.run(f"cat /sys/block/{disk}/dm/suspended").strip() == "1"
    # What was read before is not read again from the kernel's cache.
    told = agent1.run("timeout --kill-after=2 5 cat /srv/data/marker; echo status $?", check=False)
    assert "in plain" not in told
    assert "status 0" not in told
    stopped = last_number(agent1)
    dump = memory(agent1, tmp_path)
    assert found(dump, volume_key) == {}
    assert found(dump, keys.of_devices[DEVICE]) == {}
    dump.unlink()
    assert last_number(agent1) == stopped
    # The agent, the machine and its commands go on meanwhile.
    agent1.check_now()
    assert "suspended" in agent1.agent("status")
    assert agent1.is_active(f"securecloud-suspended@{DEVICE}.service")
    assert agent1.is_active("securecloud-agent")
    eventually("the server knows", lambda: revocation.told("device.suspended"))
    assert "in use by python3" in revocation.told("device.suspended")[-1]
    revocation.grant()
    agent1.until(DEVICE, "mounted", outcome="granted")
    eventually("what waited goes on", lambda: last_number(agent1) > stopped + 20)
    eventually("the writer runs", lambda: agent1.is_active("writer.service"))
    assert not agent1.is_active(f"securecloud-suspended@{DEVICE}.service")
    agent1.run("systemctl stop holder.service")
    assert is_whole(agent1)
    assert agent1.run("cat /srv/data/marker") == "in plain\n"
    assert complaints(agent1) == ""


def test_a_suspended_volume_is_given_up_by_hand(agent1: Guest, revocation: Revocation) -> None:
    hold(agent1)
    revocation.deny()
    agent1.until(DEVICE, "suspended")
    agent1.agent(f"lock --abandon {DEVICE}")
    eventually("the holder got errors", lambda: not agent1.is_active("holder.service"))
    eventually("nothing is mapped", lambda: DEVICE_NODE not in agent1.mapped())
    agent1.until(DEVICE, "closed")
    revocation.grant()
    # The operator gave it up, so the operator has it back.
    agent1.agent(f"unlock {DEVICE}")
    agent1.until(DEVICE, "mounted")
    assert is_whole(agent1)


def test_a_file_system_that_somebody_froze_cannot_be_suspended(
    agent1: Guest, revocation: Revocation
) -> None:
    """Why the agent does not freeze by itself: device-mapper does, and nobody can twice."""
    agent1.run("systemctl stop writer.service")
    agent1.run("fsfreeze --freeze /srv/data")
    told = agent1.run(f"cryptsetup luksSuspend {DEVICE_NODE} 2>&1; echo status $?", check=False)
    agent1.run("fsfreeze --unfreeze /srv/data")
    assert "Device or resource busy" in told
    assert "status 0" not in told
    agent1.run("systemctl start writer.service")


def test_a_reboot_of_a_suspended_volume_ends(agent1: Guest, revocation: Revocation) -> None:
    hold(agent1)
    revocation.deny()
    agent1.until(DEVICE, "suspended")
    asked = uptime(agent1)
    agent1.machine.reboot()
    # Nothing waited for the time limits of systemd, the shortest of which is 90 seconds.
    journal = "journalctl --boot=-1 --no-pager --output short-monotonic"
    last = agent1.run(f"{journal} | tail -n 1").split("]")[0].strip("[ ")
    assert float(last) - asked < 80
    revocation.grant()
    agent1.until(DEVICE, "mounted")
    assert is_whole(agent1)
    dirty = agent1.run("journalctl --boot --dmesg --no-pager --output cat")
    assert "EXT4-fs error" not in dirty
