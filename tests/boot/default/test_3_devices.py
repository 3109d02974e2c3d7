"""Several devices, read-only ones, and disks that are not where they belong."""

import shutil

import pytest

from tests.boot.guests import Api, Guest, eventually

MOVED = "/dev/disk/by-id/virtio-data"


def test_a_read_only_device_is_opened_and_mounted_so(api: Api, agent1: Guest) -> None:
    agent1.run("echo kept >/srv/archive/file")
    agent1.agent("lock agent1-archive")
    api.register(
        "agent1-archive",
        "agent1",
        source="/dev/disk/by-id/virtio-archive",
        mount_point="/srv/archive",
        read_only=True,
    )
    agent1.agent("unlock agent1-archive")
    assert agent1.run("cat /srv/archive/file").strip() == "kept"
    assert "Read-only" in agent1.run("touch /srv/archive/x 2>&1", check=False)
    assert agent1.run("blockdev --getro /dev/mapper/sc-agent1-archive").strip() == "1"


def test_a_mount_point_that_moves_leaves_no_unit_behind(api: Api, agent1: Guest) -> None:
    agent1.agent("lock agent1-archive")
    api.register(
        "agent1-archive",
        "agent1",
        source="/dev/disk/by-id/virtio-archive",
        mount_point="/srv/elsewhere",
        read_only=True,
    )
    agent1.agent("unlock agent1-archive")
    assert agent1.is_active("srv-elsewhere.mount")
    left = agent1.run("ls /etc/systemd/system /etc/systemd/system/multi-user.target.wants")
    assert "srv-elsewhere.mount" in left
    assert "srv-archive.mount" not in left


def test_a_disk_that_was_moved_to_another_machine_is_refused(agent1: Guest, agent2: Guest) -> None:
    """agent2's device is known by another LUKS UUID, and its key would not open this one."""
    agent1.agent("lock agent1-data")
    agent2.agent("lock agent2-data")
    own = agent2.machine.disk("data")
    kept = own.with_suffix(".kept")
    agent2.machine.shut_down()
    own.rename(kept)
    shutil.copyfile(agent1.machine.disk("data"), own)
    try:
        agent2.machine.start()
        agent2.machine.wait_for_ssh()
        seen = agent2.until("agent2-data", "closed", outcome="denied", code="header_changed")
        assert "is pinned for this device" in seen["detail"]
        assert "sc-agent2-data" not in agent2.mapped()
        answer = agent2.agent("unlock agent1-data", check=False)
        assert "unknown_device" in answer or "not registered" in answer
    finally:
        agent2.machine.shut_down()
        kept.rename(own)
    agent2.machine.start()
    agent2.machine.wait_for_ssh()
    agent2.until("agent2-data", "mounted")
    agent1.agent("unlock agent1-data")


def test_a_device_that_is_deleted_is_locked_and_forgotten(api: Api, agent1: Guest) -> None:
    device, where = "agent1-gone", "/srv/gone"
    agent1.run("truncate -s 32M /var/tmp/first /var/tmp/second")

    def register(source: str) -> None:
        api.register(device, "agent1", source=source, mount_point=where, initialise="if_blank")
        agent1.check_now()
        agent1.until(device, "mounted", outcome="granted")

    register("/var/tmp/first")
    eventually(
        "the server knows", lambda: api("GET", f"/devices/{device}")["volume_state"] == "open"
    )
    with pytest.raises(AssertionError, match="in use: it is open on agent"):
        api("DELETE", f"/devices/{device}")
    api("DELETE", f"/devices/{device}?force=true")
    agent1.check_now()
    eventually("it is closed", lambda: f"sc-{device}" not in agent1.mapped())
    eventually("it is forgotten", lambda: agent1.status(device)["outcome"] is None)
    left = "grep -rlE 'agent1-gone|agent1.x2dgone|srv-gone' /etc/systemd/system"
    assert agent1.run(left, check=False) == ""
    assert agent1.run("find /etc/systemd/system -name '*gone*'") == ""
    assert agent1.status("agent1-data")["volume"] == "mounted"
    # The name is free for another disk.
    register("/var/tmp/second")
    agent1.agent(f"lock {device}")
    agent1.check_now()
    eventually(
        "the server knows", lambda: api("GET", f"/devices/{device}")["volume_state"] == "closed"
    )
    api("DELETE", f"/devices/{device}")
    agent1.check_now()
    eventually("it is forgotten", lambda: agent1.status(device)["outcome"] is None)
    agent1.run("rm /var/tmp/first /var/tmp/second")
