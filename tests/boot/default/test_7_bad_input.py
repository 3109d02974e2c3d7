"""What goes wrong leaves a machine that boots, its data, and a message that says what to do."""

from collections.abc import Iterator

import pytest

from tests.boot.guests import Api, Guest, comes_up, eventually, opens, until_told

WRONG = {
    "agent1-missing": ("true", "/dev/disk/by-id/virtio-none", "it does not exist"),
    "agent1-small": ("truncate -s 8M /var/tmp/small", "/var/tmp/small", "needs more than"),
    "agent1-strange": (
        "head -c 20M /dev/urandom >/var/tmp/strange",
        "/var/tmp/strange",
        "data of an unknown kind; refusing to touch it",
    ),
    "agent1-other": (
        "truncate -s 20M /var/tmp/other && mkfs.ext4 -q /var/tmp/other",
        "/var/tmp/other",
        "holds ext4; refusing to touch it; `securecloud-agent encrypt`",
    ),
}


@pytest.fixture
def agent(agent1: Guest) -> Iterator[Guest]:
    """The first machine; afterwards its volume is open again."""
    yield agent1
    opens(agent1)


def test_disks_that_cannot_be_used(api: Api, agent: Guest) -> None:
    for device, (make, source, _) in WRONG.items():
        agent.run(make)
        api.register(device, "agent1", source=source, mount_point=None, initialise="if_blank")
    agent.check_now()
    for device, (_, _, reason) in WRONG.items():
        seen = agent.until(device, "closed", outcome="failed")
        assert reason in seen["detail"]
    assert agent.status("agent1-data")["volume"] == "mounted"
    for device in WRONG:
        api("DELETE", f"/devices/{device}?force=true")


def test_a_damaged_header_is_put_back_as_the_message_says(api: Api, agent: Guest) -> None:
    disk = "/dev/disk/by-id/virtio-archive"
    agent.agent("lock agent1-archive")
    for block in (1, 5):
        agent.run(f"dd if=/dev/zero of={disk} bs=4096 seek={block} count=1 conv=notrunc,fsync")
    told = agent.agent("unlock agent1-archive", check=False)
    assert "the LUKS header" in told
    (command,) = [part for part in told.split("`") if part.startswith("cryptsetup")]
    agent.run(f"{command} --batch-mode")
    agent.agent("unlock agent1-archive")


def test_half_an_agent(agent: Guest) -> None:
    """Its programs are gone: a failed unit, and everything else works."""
    agent.run("mv /opt/securecloud/agent /opt/securecloud/gone")
    agent.machine.reboot()
    comes_up(agent)
    eventually(
        "the unit fails", lambda: "203" in agent.shown("securecloud-agent", "ExecMainStatus")
    )
    assert "No such file or directory" in agent.journal()
    assert agent.mapped() == ["control"]
    agent.run("mv /opt/securecloud/gone /opt/securecloud/agent")
    agent.run("systemctl restart securecloud-agent")


def test_a_disk_that_vanishes_while_it_is_in_use(api: Api, agent2: Guest) -> None:
    """Its driver is taken from it, as when a cloud takes a disk away."""
    node = agent2.run("basename $(readlink -f /dev/disk/by-id/virtio-plain)").strip()
    bus = agent2.run(f"basename $(readlink -f /sys/block/{node}/device)").strip()
    agent2.run(f"echo {bus} >/sys/bus/virtio/drivers/virtio_blk/unbind")
    agent2.check_now()
    until_told(agent2, "is gone")
    opens(agent2)
    agent2.machine.reboot()
    comes_up(agent2)
    agent2.until("agent2-plain", "mounted")
    told = agent2.run("cd /srv/plain && sha256sum --quiet --check /root/digests && echo all")
    assert told.strip() == "all"
