"""An existing file system is encrypted in place; the power goes in the middle of it."""

import json

import pytest

from tests.boot.guests import Api, Guest, eventually

DISK = "/dev/disk/by-id/virtio-plain"
DEVICE = "agent2-plain"
MOUNTED = "/srv/plain"
FILL = f"""
set -e
mkfs.ext4 -q -b 4096 {DISK}
mount {DISK} /mnt
for number in $(seq 1 40); do head -c 1500000 /dev/urandom >/mnt/file$number; done
cd /mnt && sha256sum file* >/root/digests
cd / && umount /mnt
"""
SLOW = 6 * 1024 * 1024


def register(api: Api, source: str = DISK) -> None:
    api.register(DEVICE, "agent2", source=source, mount_point=MOUNTED)


def encrypt(guest: Guest, *flags: str) -> tuple[str, dict]:
    agent = "/opt/securecloud/agent/bin/securecloud-agent"
    told = guest.run(f"{agent} encrypt {' '.join(flags)} --json {DEVICE} 2>/run/said", check=False)
    return guest.run("cat /run/said"), json.loads(told) if told else {}


@pytest.fixture(scope="module")
def filled(api: Api, agent2: Guest) -> Guest:
    agent2.run(FILL)
    register(api)
    return agent2


def test_a_disk_that_is_in_use_is_refused(api: Api, filled: Guest) -> None:
    filled.run(f"mount {DISK} /mnt")
    assert "is mounted at /mnt; stop what uses it" in encrypt(filled)[0]
    filled.run("umount /mnt")
    filled.run(f"echo '{DISK} /old ext4 nofail 0 2' >>/etc/fstab")
    assert "by line 2 of /etc/fstab" in encrypt(filled)[0]
    filled.run("sed -i '$d' /etc/fstab")
    register(api, "/dev/nvme0n1")
    assert "is the root file system" in encrypt(filled)[0]
    register(api)


def test_a_disk_below_lvm_or_another_mapping_is_refused(filled: Guest) -> None:
    table = f"0 $(blockdev --getsz {DISK}) linear {DISK} 0"
    filled.run(f'dmsetup create vg-other --table "{table}"')
    assert "is part of" in (told := encrypt(filled)[0])
    assert "vg-other" in told
    filled.run("dmsetup remove vg-other")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("mkswap /dev/loop0 && swapon /dev/loop0", "holds swap"),
        ("head -c 60M /dev/urandom >/dev/loop0", "data of an unknown kind"),
    ],
)
def test_what_is_no_file_system_is_refused(
    api: Api, filled: Guest, content: str, reason: str
) -> None:
    filled.run("truncate -s 64M /var/tmp/disk && losetup /dev/loop0 /var/tmp/disk")
    filled.run(content)
    register(api, "/dev/loop0")
    assert reason in encrypt(filled)[0]
    filled.run("swapoff -a; losetup --detach /dev/loop0; rm /var/tmp/disk")
    register(api)


def test_the_power_goes_in_the_middle_and_the_agent_finishes_it(filled: Guest, module) -> None:
    machine = filled.machine
    drive = f"d{machine.facts.disks.index('plain')}"
    limits = dict.fromkeys(("bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
    machine.monitor("block_set_io_throttle", device=drive, bps=SLOW, **limits)
    begun = module("agent2", "encrypted_volume", name=DEVICE, wait=False)
    assert begun["changed"]

    def half_way() -> bool:
        progress = filled.status(DEVICE).get("encryption") or {}
        return 25 < progress.get("percent", 0) < 90

    eventually("it is half-way", half_way)
    progress = module("agent2", "encrypted_volume_info", name=DEVICE)["volumes"][0]["progress"]
    assert progress["phase"] == "encrypting"
    assert progress["rate"] > 0
    assert progress["remaining"] is not None
    assert "MiB/s" in filled.agent("status")
    assert "% of 1" in filled.journal()
    machine.power_cut()
    machine.start()
    machine.wait_for_ssh()
    seen = filled.until(DEVICE, "mounted")
    assert seen["encryption"]["phase"] == "finished"
    # From where it was, not from the beginning.
    assert "encryption in place" in filled.journal()


def test_every_file_has_its_digest(filled: Guest) -> None:
    told = filled.run(f"cd {MOUNTED} && sha256sum --quiet --check /root/digests && echo all")
    assert told.strip() == "all"
    assert "LUKS" in filled.run(f"file -s -L {DISK} || cryptsetup luksDump {DISK}", check=False)


def test_it_is_a_volume_like_any_other_now(filled: Guest, api: Api) -> None:
    assert encrypt(filled)[1]["changed"] is False
    assert api("GET", f"/devices/{DEVICE}")["luks_uuid"]
    filled.agent(f"lock {DEVICE}")
    filled.agent(f"unlock {DEVICE}")
    filled.until(DEVICE, "mounted")


def test_xfs_cannot_be_made_smaller_so_its_disk_has_to_be_larger(
    api: Api, agent2: Guest, module
) -> None:
    disk = "/var/tmp/xfs"
    agent2.run(f"truncate -s 320M {disk} && mkfs.xfs -q {disk}")
    agent2.run(f"mount -o loop {disk} /mnt && head -c 20M /dev/urandom >/mnt/file && umount /mnt")
    mounted = "/srv/xfs"
    api.register("agent2-xfs", "agent2", source=disk, mount_point=mounted, filesystem="xfs")
    refused = agent2.agent("encrypt agent2-xfs", check=False)
    assert "enlarge the disk by 32 MiB" in refused
    agent2.run(f"mount -o loop {disk} /mnt && sha256sum </mnt/file >/root/xfs && umount /mnt")
    agent2.run(f"truncate -s 352M {disk}")
    done = module("agent2", "encrypted_volume", name="agent2-xfs")
    assert done["changed"]
    agent2.until("agent2-xfs", "mounted")
    assert agent2.run(f"findmnt -no FSTYPE {mounted}").strip() == "xfs"
    assert agent2.run(f"sha256sum <{mounted}/file") == agent2.run("cat /root/xfs")
    assert not module("agent2", "encrypted_volume", name="agent2-xfs")["changed"]
