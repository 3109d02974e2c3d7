"""Busy volumes: suspended, resumed, given up; the kernel is told, the keys are real."""

import os
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from securecloud_agent.decide.model import Action, Kind, State
from securecloud_agent.decide.plan import claim, plan
from securecloud_agent.errors import AgentError
from securecloud_agent.run import Finished, follow
from securecloud_agent.state.memory import BootMarks, Memory
from securecloud_agent.volumes.encryptions import Encryptions
from securecloud_agent.volumes.header_copies import HeaderCopies
from securecloud_agent.volumes.hooks import Hooks
from securecloud_agent.volumes.iscsi import Sessions
from securecloud_agent.volumes.kernel import Kernel
from securecloud_agent.volumes.rotation import Rotations
from securecloud_agent.volumes.volumes import HELD, Volumes
from securecloud_agent.volumes.work import Tools
from securecloud_protocol.messages import DeviceDecision, Volume

from .machine import UUID, Machine

KEY = bytes(range(64))
OTHER = "99999999-2222-3333-4444-555555555555"


class World:
    """One open volume, and everything that happened to it, in order."""

    def __init__(self, folder: Path, source: Path) -> None:
        for name in ("root/proc/self", "root/proc/sys/vm", "root/sys/block", "run", "state"):
            (folder / name).mkdir(parents=True)
        (folder / "root/proc/self/mountinfo").write_text("")
        self.root = folder / "root"
        self.machine = Machine(self.root)
        self.told: list[str] = []
        self.marks = BootMarks(folder / "run", "boot")
        self.volume = Volume(
            str(source), None, "ext4", str(folder / "mnt"), (), False, "if_blank", None
        )
        memory, kernel = Memory(folder / "state"), Kernel(self.root)
        encryptions = Encryptions(memory, self.marks, self.machine, follow)
        self.tools = Tools(
            self.run,
            kernel,
            self.marks,
            encryptions,
            HeaderCopies(folder / "headers"),
            Rotations(self.machine, memory, HeaderCopies(folder / "headers")),
            Sessions(self.machine, kernel, memory, self.marks, encryptions),
            lambda: uuid.UUID(UUID),
            mounts=self,
            hooks=self,
        )
        self.volumes = Volumes(self.tools)
        self.work(Kind.FORMAT, Kind.OPEN, Kind.MAKE_FILESYSTEM, Kind.MOUNT)
        self.volume = replace(self.volume, luks_uuid=UUID, initialise="never")
        self.told.clear()

    def run(self, argv, **options) -> Finished:
        self.told.append(" ".join(argv[:2]))
        return self.machine(argv, **options)

    def work(self, *kinds: Kind, key: bytes = KEY):
        work = self.volumes.work("data", self.volume, bytearray(key))
        for kind in kinds:
            work.carry_out(Action(kind, "test"))
        return work.done

    # As hooks and as systemd

    def tell(self, event, device, mount_point="", seconds_left=0) -> None:
        self.told.append(f"hook {event}")

    def mounted(self, device, mapped, volume) -> None:
        self.told.append("unit mounted")

    def release(self, device, where) -> None:
        self.told.append("unit release")

    def suspended(self, device) -> None:
        self.told.append("unit suspended")

    def resumed(self, device) -> None:
        self.told.append("unit resumed")

    def settle(self) -> None:
        self.told.append("unit settle")


@pytest.fixture
def world(tmp_path, blank_file) -> World:
    return World(tmp_path / "world", blank_file)


@pytest.fixture
def suspended(world) -> World:
    world.machine.hold(world.volume.mount_point)
    world.volumes.lock("data")
    world.told.clear()
    return world


def test_hooks_come_before_the_units_are_stopped_and_the_rest_after(world):
    locked = world.volumes.lock("data")
    assert (locked.state, locked.changed) == (State.CLOSED, True)
    assert world.told == [
        "hook locking",
        "unit release",
        "sync --file-system",
        "umount --",
        "cryptsetup close",
        "hook locked",
    ]


def test_a_busy_volume_is_suspended_and_says_who_holds_it(world):
    world.machine.hold(world.volume.mount_point)
    locked = world.volumes.lock("data")
    assert (locked.state, locked.changed) == (State.SUSPENDED, True)
    assert "target is busy.; in use by postgres (77)" in locked.how
    assert world.told == [
        "hook locking",
        "unit release",
        "sync --file-system",
        "umount --",
        "cryptsetup luksSuspend",
        "unit suspended",
        "hook suspended",
    ]
    assert world.volumes.state("data") is State.SUSPENDED
    # What is cached in plain is given up; the kernel takes the word and answers nothing.
    assert (world.root / "proc/sys/vm/drop_caches").read_text() == "1\n"


def test_a_volume_that_is_unmounted_and_held_is_suspended_too(world):
    world.machine.mounts("")
    world.machine.busy = True
    locked = world.volumes.lock("data")
    assert locked.state is State.SUSPENDED
    assert "Device sc-data is still in use" in locked.how


def test_what_can_be_neither_closed_nor_suspended_says_why_twice(world, monkeypatch):
    world.machine.hold(world.volume.mount_point)
    real = world.machine.__class__.__call__

    def refuse(self, argv, **options):
        if argv[:2] == ["cryptsetup", "luksSuspend"]:
            return Finished(1, b"", "Device or resource busy")
        return real(self, argv, **options)

    monkeypatch.setattr(Machine, "__call__", refuse)
    with pytest.raises(AgentError, match=r"target is busy.*postgres \(77\).*could not suspend"):
        world.volumes.lock("data")
    assert world.volumes.state("data") is State.MOUNTED


def test_to_lock_it_again_touches_nothing_that_would_wait(suspended):
    locked = suspended.volumes.lock("data")
    assert (locked.state, locked.changed) == (State.SUSPENDED, False)
    assert "held by postgres (77)" in locked.how
    assert suspended.told == ["unit suspended"]


def grant(**changes) -> DeviceDecision:
    granted = DeviceDecision("data", "granted", "approved", "1", None, KEY, 1, bytes(32), None)
    return replace(granted, **changes)


def test_it_comes_back_after_a_grant_with_the_right_key(suspended):
    seen = suspended.volumes.observe("data", suspended.volume.source)
    assert claim(seen) == "key"
    (step,) = plan(grant(), seen, suspended.volume)
    assert step.kind is Kind.RESUME
    done = suspended.work(step.kind)
    assert (done.state, done.luks_uuid, done.changed) == (State.MOUNTED, UUID, True)
    assert "resumed" in done.how
    assert suspended.volumes.state("data") is State.MOUNTED
    assert suspended.told == ["cryptsetup luksResume", "unit resumed", "unit mounted"]


def test_a_wrong_key_leaves_it_suspended(suspended):
    with pytest.raises(AgentError, match="the server's key does not resume"):
        suspended.work(Kind.RESUME, key=os.urandom(64))
    assert suspended.volumes.state("data") is State.SUSPENDED


def test_another_header_in_its_place_is_refused(suspended, tmp_path):
    other = tmp_path / "other.img"
    with other.open("wb") as file:
        file.truncate(24 * 1024 * 1024)
    run = suspended.machine
    run(["cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--cipher=aes-xts-plain64",
         "--key-size=512", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", f"--uuid={OTHER}",
         "--key-file=-", "--keyfile-size=64", "--", str(other)],
        timeout=60, secret=bytearray(KEY))  # fmt: skip
    with other.open("rb") as new, Path(suspended.volume.source).open("r+b") as old:
        old.write(new.read(16 * 1024 * 1024))
    seen = suspended.volumes.observe("data", suspended.volume.source)
    (step,) = plan(grant(), seen, replace(suspended.volume, luks_uuid=None))
    assert step.kind is Kind.REFUSE
    assert OTHER in step.reason
    with pytest.raises(AgentError, match="was replaced"):
        suspended.work(Kind.RESUME)
    assert suspended.volumes.state("data") is State.SUSPENDED


def test_a_suspended_volume_whose_disk_is_gone_is_refused(suspended):
    Path(suspended.volume.source).unlink()
    seen = suspended.volumes.observe("data", suspended.volume.source)
    (step,) = plan(grant(), seen, suspended.volume)
    assert step.kind is Kind.REFUSE


def test_the_operator_who_locked_it_keeps_it_so(suspended):
    suspended.marks.put(HELD, "data")
    seen = suspended.volumes.observe("data", suspended.volume.source)
    assert claim(seen) == "check"
    (step,) = plan(grant(code="checked", key=None), seen, suspended.volume)
    assert step.kind is Kind.NOTHING


def test_given_up_while_it_is_held_it_goes_when_the_last_one_ends(suspended):
    assert suspended.volumes.give_up("data")
    assert suspended.told == ["dmsetup wipe_table", "umount --", "umount --lazy", "dmsetup remove"]
    # The mapping is there still, but dead: nothing can be read or written, and no key is in it.
    assert suspended.volumes.state("data") is State.CLOSED
    with pytest.raises(AgentError, match="somebody holds it still"):
        suspended.work(Kind.OPEN)
    suspended.machine.unmap()
    suspended.work(Kind.OPEN)
    assert suspended.volumes.state("data") is State.OPENED


def test_given_up_when_nobody_holds_it_any_more(suspended):
    suspended.machine.let_go()
    assert suspended.volumes.give_up("data")
    assert suspended.told == ["dmsetup wipe_table", "umount --", "dmsetup remove"]
    assert not (suspended.root / "sys/block/dm-0").exists()
    suspended.work(Kind.OPEN, Kind.MOUNT)
    assert suspended.volumes.state("data") is State.MOUNTED


def test_only_what_is_suspended_is_given_up(world):
    assert not world.volumes.give_up("data")
    assert world.told == []
    assert world.volumes.state("data") is State.MOUNTED


def test_a_failed_open_runs_no_hooks(world):
    world.volumes.lock("data")
    world.told.clear()
    world.machine.broken.add("mount")
    with pytest.raises(AgentError, match="could not be mounted"):
        world.work(Kind.OPEN, Kind.MOUNT)
    assert not [each for each in world.told if each.startswith("hook")]
    assert world.volumes.state("data") is State.CLOSED


def test_hooks_can_be_none():
    Hooks().tell("locking", "data")
