"""Volumes: the real cryptsetup on files; a recorded one where the kernel would open them."""

import json
import os
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from securecloud_agent.decide.model import Action, Content, Kind, State
from securecloud_agent.decide.plan import plan
from securecloud_agent.errors import AgentError
from securecloud_agent.run import Finished, follow, run
from securecloud_agent.state.memory import BootMarks, Memory
from securecloud_agent.volumes.encryptions import Encryptions
from securecloud_agent.volumes.header_copies import HeaderCopies
from securecloud_agent.volumes.iscsi import Sessions
from securecloud_agent.volumes.kernel import Kernel
from securecloud_agent.volumes.rotation import Rotations
from securecloud_agent.volumes.volumes import Volumes
from securecloud_agent.volumes.work import Tools
from securecloud_protocol.messages import DeviceDecision, Volume

from .machine import UUID, Machine


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "root/proc/self").mkdir(parents=True)
    (tmp_path / "root/sys/block").mkdir(parents=True)
    (tmp_path / "root/proc/self/mountinfo").write_text("")
    return tmp_path / "root"


def new_uuid() -> uuid.UUID:
    return uuid.UUID(UUID)


@pytest.fixture
def marks(tmp_path) -> BootMarks:
    (tmp_path / "run").mkdir()
    return BootMarks(tmp_path / "run", "boot")


@pytest.fixture
def encryptions(tmp_path, marks) -> Encryptions:
    (tmp_path / "state").mkdir()
    return Encryptions(Memory(tmp_path / "state"), marks, run, follow)


@pytest.fixture
def copies(tmp_path) -> HeaderCopies:
    return HeaderCopies(tmp_path / "headers")


@pytest.fixture
def sessions(tmp_path, root, marks, encryptions) -> Sessions:
    return Sessions(run, Kernel(root), Memory(tmp_path / "state"), marks, encryptions)


@pytest.fixture
def rotations(tmp_path, encryptions, copies) -> Rotations:
    return Rotations(run, Memory(tmp_path / "state"), copies)


@pytest.fixture
def volume(blank_file, tmp_path) -> Volume:
    return Volume(
        str(blank_file), None, "ext4", str(tmp_path / "mnt"), ("noatime",), False, "if_blank", None
    )


@pytest.fixture
def volumes(root, marks, encryptions, copies, rotations, sessions) -> Volumes:
    return Volumes(
        Tools(
            run,
            Kernel(root),
            marks,
            encryptions,
            copies,
            rotations,
            sessions,
            new_uuid,
        )
    )


def step(work, *kinds: Kind) -> None:
    for kind in kinds:
        work.carry_out(Action(kind, "test"))


def test_format_verify_lock(volumes, volume):
    key = bytearray(os.urandom(64))
    assert volumes.observe("data", volume.source).content is Content.BLANK
    work = volumes.work("data", volume, key)
    step(work, Kind.FORMAT, Kind.VERIFY)
    assert (work.done.luks_uuid, work.done.initialised, work.done.changed) == (UUID, True, True)
    assert work.done.state is volumes.state("data") is State.VERIFIED
    assert volumes.lock("data").changed
    assert volumes.state("data") is State.CLOSED
    assert not volumes.lock("data").changed
    seen = volumes.observe("data", volume.source)
    assert (seen.content, seen.luks_uuid, seen.header_problem) == (Content.LUKS, UUID, None)
    again = volumes.work("data", replace(volume, luks_uuid=UUID), key)
    step(again, Kind.VERIFY)
    assert not again.done.initialised


def test_a_damaged_header_is_put_back_from_the_copy_as_the_message_says(volumes, volume):
    key = bytearray(os.urandom(64))
    step(volumes.work("data", volume, key), Kind.FORMAT, Kind.VERIFY)
    volumes.lock("data")
    with Path(volume.source).open("r+b") as file:
        file.seek(4096)
        file.write(bytes(64))
        file.seek(20480)
        file.write(bytes(64))
    seen = volumes.observe("data", volume.source)
    assert seen.header_problem
    grant = DeviceDecision("data", "granted", "approved", "1", None, bytes(key), 1, None, None)
    (refused,) = plan(grant, seen, replace(volume, luks_uuid=UUID))
    command = refused.reason.split("`")[1].split()
    assert command[:2] == ["cryptsetup", "luksHeaderRestore"]
    subprocess.run([*command, "--batch-mode"], check=True, capture_output=True)
    assert volumes.observe("data", volume.source).header_problem is None
    step(volumes.work("data", replace(volume, luks_uuid=UUID), key), Kind.VERIFY)


def test_no_room_for_the_copy_is_a_warning(volumes, volume, tmp_path, capsys):
    (tmp_path / "headers").write_text("in the way")
    work = volumes.work("data", volume, bytearray(os.urandom(64)))
    step(work, Kind.FORMAT, Kind.VERIFY)
    assert work.done.state is State.VERIFIED
    assert "no copy of its LUKS header was kept" in capsys.readouterr().err


def test_volume_that_was_replaced_after_the_decision_is_refused(volumes, volume):
    step(volumes.work("data", volume, bytearray(64)), Kind.FORMAT)
    with pytest.raises(AgentError, match="was replaced"):
        step(
            volumes.work("data", replace(volume, luks_uuid=UUID[::-1]), bytearray(64)), Kind.VERIFY
        )


def test_data_that_came_after_the_decision_is_not_formatted_over(volumes, volume):
    Path(volume.source).write_bytes(b"x" * 20 * 1024 * 1024)
    with pytest.raises(AgentError, match="not blank any more"):
        step(volumes.work("data", volume, bytearray(64)), Kind.FORMAT)
    assert Path(volume.source).read_bytes().startswith(b"xxx")


def test_failed_format_leaves_the_volume_blank(
    root, marks, volume, encryptions, copies, rotations, sessions
):
    def failing(argv, **options):
        if argv[0] != "cryptsetup":
            return run(argv, **options)
        with Path(volume.source).open("r+b") as file:
            file.write(b"LUKS half a header")
        return Finished(1, b"", "no space")

    volumes = Volumes(Tools(failing, Kernel(root), marks, encryptions, copies, rotations, sessions))
    work = volumes.work("data", volume, bytearray(64))
    with pytest.raises(AgentError, match=r"could not format .*no space"):
        step(work, Kind.FORMAT)
    assert volumes.observe("data", volume.source).content is Content.BLANK


@pytest.fixture
def machine(root) -> Machine:
    return Machine(root)


@pytest.fixture
def mapped(machine, root, marks, encryptions, copies, rotations, sessions) -> Volumes:
    return Volumes(
        Tools(
            machine,
            Kernel(root),
            marks,
            encryptions,
            copies,
            rotations,
            sessions,
            new_uuid,
        )
    )


FIRST_TIME = (Kind.FORMAT, Kind.OPEN, Kind.MAKE_FILESYSTEM, Kind.MOUNT)


def test_first_time_through_device_mapper(mapped, machine, volume):
    work = mapped.work("data", volume, bytearray(64))
    assert mapped.observe("data", volume.source).device_mapper
    step(work, *FIRST_TIME)
    assert work.done.how == (
        "formatted as LUKS2, opened as /dev/mapper/sc-data, ext4 made,"
        f" mounted at {volume.mount_point}"
    )
    assert mapped.state("data") is work.done.state is State.MOUNTED
    assert mapped.observe("data").luks_uuid == UUID
    (mount,) = machine.named("mount")
    assert mount == ["mount", "-t", "ext4", "-o", "noatime", "--", "/dev/mapper/sc-data",
                     volume.mount_point]  # fmt: skip


def test_lock_syncs_unmounts_and_closes(mapped, machine, volume):
    step(mapped.work("data", volume, bytearray(64)), *FIRST_TIME)
    assert mapped.lock("data").changed
    assert mapped.state("data") is State.CLOSED
    assert [call[0] for call in machine.calls[-3:]] == ["sync", "umount", "cryptsetup"]
    # Of no other file system: one that is suspended would not answer.
    assert machine.named("sync") == [["sync", "--file-system", "--", volume.mount_point]]


def test_failed_mount_closes_again(mapped, machine, volume):
    machine.broken.add("mount")
    work = mapped.work("data", volume, bytearray(64))
    with pytest.raises(AgentError, match="could not be mounted"):
        step(work, *FIRST_TIME)
    assert mapped.state("data") is work.done.state is State.CLOSED


def test_existing_file_system_is_kept(mapped, machine, volume):
    machine.signature = "ext4"
    step(mapped.work("data", volume, bytearray(64)), *FIRST_TIME)
    assert not machine.named("mkfs.ext4")


def test_other_content_inside_is_refused(mapped, machine, volume):
    machine.signature = "LVM2_member"
    with pytest.raises(AgentError, match="holds LVM2_member instead of ext4"):
        step(mapped.work("data", volume, bytearray(64)), *FIRST_TIME)
    assert mapped.state("data") is State.CLOSED


def test_read_only_volume_is_opened_and_mounted_so(mapped, machine, volume):
    step(mapped.work("data", volume, bytearray(64)), Kind.FORMAT)
    step(mapped.work("data", replace(volume, read_only=True), bytearray(64)), Kind.OPEN, Kind.MOUNT)
    assert "--readonly" in machine.named("cryptsetup")[-1]
    assert "noatime,ro" in machine.named("mount")[0]


def test_occupied_mount_point_is_refused(mapped, machine, volume):
    machine.mounts(f"36 35 8:1 / {volume.mount_point} rw - ext4 /dev/sda1 rw\n")
    with pytest.raises(AgentError, match="something else is mounted"):
        step(mapped.work("data", volume, bytearray(64)), *FIRST_TIME)


def test_kernel_tables_are_read_as_they_are(root):
    machine = Machine(root)
    machine.map("sc-data")
    machine.mounts("36 35 253:0 / /srv/with\\040space rw - ext4 x rw\nshort\n")
    kernel = Kernel(root)
    mapping = kernel.mapping("sc-data")
    assert mapping is not None
    assert kernel.mount_points(mapping.numbers) == ["/srv/with space"]
    assert kernel.is_mount_point("/srv/with space")
    assert kernel.mapping("sc-other") is None
    (root / "sys/block/dm-0/dm/uuid").write_text("LVM-abc\n")
    assert kernel.mapping("sc-data").luks_uuid is None


def test_device_mapper_module_is_asked_for_once_there_is_none(
    root, marks, blank_file, encryptions, copies, rotations, sessions
):
    asked = []

    def loading(argv, **options):
        asked.append(argv[0])
        if argv[0] == "modprobe":
            Machine(root)
        return Finished(0, json.dumps({}).encode(), "")

    assert (
        Volumes(Tools(loading, Kernel(root), marks, encryptions, copies, rotations, sessions))
        .observe("data")
        .device_mapper
    )
    assert asked == ["modprobe"]


def test_a_mapping_whose_disk_was_taken_away(root):
    folder = root / "sys/block/dm-0"
    (folder / "dm").mkdir(parents=True)
    (folder / "dm/name").write_text("sc-data\n")
    (folder / "dev").write_text("254:0\n")
    (folder / "slaves").mkdir()
    disk = root / "sys/block/vdb"
    (folder / "slaves/vdb").symlink_to(disk)
    assert Kernel(root).mapping("sc-data").disk_gone
    disk.mkdir()
    assert not Kernel(root).mapping("sc-data").disk_gone
