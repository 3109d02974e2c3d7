"""A grace: never open past its end, never ended early, whatever happens in between."""

import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from securecloud_agent.config import Settings
from securecloud_agent.decide import grace
from securecloud_agent.decide.grace import Grace, in_words, told_next
from securecloud_agent.decide.model import State
from securecloud_agent.main.device import DeviceWork
from securecloud_agent.main.graces import GraceError, Graces
from securecloud_agent.main.watch import Watch
from securecloud_agent.main.wiring import Agent, Clocks
from securecloud_agent.run import follow
from securecloud_agent.state.files import StateError
from securecloud_agent.state.memory import BootMarks, DeviceMemory, Memory
from securecloud_agent.volumes.encryptions import Encryptions
from securecloud_agent.volumes.header_copies import HeaderCopies
from securecloud_agent.volumes.iscsi import Sessions
from securecloud_agent.volumes.kernel import Kernel
from securecloud_agent.volumes.rotation import Rotations
from securecloud_agent.volumes.volumes import Volumes
from securecloud_agent.volumes.work import Tools
from securecloud_protocol import messages as wire

from .machine import UUID, Machine

DENIED = wire.DeviceDecision("data", "denied", "policy", "1", None, None, None, None, None)
CHECKED = wire.DeviceDecision("data", "granted", "checked", "1", None, None, None, None, None)
OFFER = wire.Grace(300, 900)


@dataclass
class Time:
    """Two clocks: the one that counts, and the one that people set."""

    since_boot: float = 1000.0
    wall: float = 1_800_000_000.0


class Stage:
    """A real agent over a kernel that is played; the server's answers are given to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.time = folder, Time()
        for name in ("root/proc/self", "root/proc/sys/vm", "root/sys/block", "run", "state"):
            (folder / name).mkdir(parents=True)
        self.machine = Machine(folder / "root")
        self.terminals: list[str] = []
        self.restart()
        self.agent.memory.remember_device(
            "data", DeviceMemory("/dev/vdb", "ext4", "/srv/data", (), False, UUID, 1)
        )
        self.open()

    def restart(self) -> None:
        """Begin anew with what is on disk, as an agent does that was restarted."""
        folder, time = self.folder, self.time
        clocks = Clocks(
            now=lambda: time.wall,
            monotonic=lambda: time.since_boot,
            since_boot=lambda: time.since_boot,
        )
        memory, marks = Memory(folder / "state"), BootMarks(folder / "run", "boot")
        encryptions = Encryptions(memory, marks, self.machine, follow)
        kernel, copies = Kernel(folder / "root"), HeaderCopies(folder / "h")
        sessions = Sessions(self.machine, kernel, memory, marks, encryptions)
        rotations = Rotations(self.machine, memory, copies)
        tools = Tools(self.machine, kernel, marks, encryptions, copies, rotations, sessions)
        options = SimpleNamespace(state_dir=folder / "state", run_dir=folder / "run", deadline=60)
        self.agent = _Agent(_settings(options), memory, marks, "boot", clocks, encryptions, folder)
        _Agent.tools[id(self.agent)] = tools
        self.watch = Watch(self.agent, self.terminals.append)

    def open(self) -> None:
        self.machine.map("sc-data")
        self.machine.mounts("36 35 253:0 / /srv/data rw - ext4 /dev/mapper/sc-data rw\n")

    @property
    def is_open(self) -> bool:
        return self.agent.volumes().state("data") is State.MOUNTED

    def answer(self, decision: wire.DeviceDecision):
        return DeviceWork(self.agent, self.agent.volumes(), decision).follow()

    def wait(self, seconds: float) -> float | None:
        """Do as the service does between passes; return when it locked, if it did."""
        until = self.time.since_boot + seconds
        while True:
            due, locked = self.watch.attend()
            if locked:
                return self.time.since_boot
            rest = until - self.time.since_boot
            if rest <= 0:
                return None
            self.time.since_boot += rest if due is None else min(due, rest)


class _Agent(Agent):
    tools: dict[int, Tools] = {}  # noqa: RUF012 - shared on purpose; the class has slots

    def volumes(self) -> Volumes:
        return Volumes(self.tools[id(self)])


def _settings(options: SimpleNamespace) -> Settings:
    return options


@pytest.fixture
def stage(tmp_path) -> Stage:
    return Stage(tmp_path / "stage")


def graceful(period=300, postpone=900) -> wire.DeviceDecision:
    return replace(DENIED, grace=wire.Grace(period, postpone))


# One at a time


def test_it_is_locked_at_its_end_and_not_before(stage):
    followed = stage.answer(graceful())
    assert (followed.ack.result, followed.outcome.outcome) == ("grace", "denied")
    assert followed.event.name == "grace"
    assert stage.is_open
    assert stage.wait(299.9) is None
    assert stage.is_open
    begun = stage.time.since_boot
    assert stage.wait(1000) == pytest.approx(begun + 0.1)
    assert not stage.is_open


def test_a_second_denial_does_not_begin_it_anew(stage):
    stage.answer(graceful())
    stage.wait(200)
    assert stage.answer(graceful()).event is None
    assert stage.agent.graces().left("data") == pytest.approx(100)
    stage.answer(graceful(250, 900))
    assert stage.agent.graces().left("data") == pytest.approx(50)
    stage.answer(graceful(3000, 9000))
    assert stage.agent.graces().left("data") == pytest.approx(50)


def test_a_denial_without_a_grace_ends_it_at_once(stage):
    stage.answer(graceful())
    followed = stage.answer(replace(DENIED, code="revoked"))
    assert followed.ack.result == "closed"
    assert not stage.is_open
    assert stage.agent.graces().running() == {}


def test_a_grant_cancels_it_and_people_are_told(stage):
    stage.answer(graceful())
    stage.wait(100)
    assert stage.answer(CHECKED).event.name == "cancelled"
    assert stage.wait(1000) is None
    assert stage.is_open
    assert stage.terminals[-1] == "/srv/data stays open: data is granted again"
    # The next one has its full length.
    stage.answer(graceful())
    assert stage.agent.graces().left("data") == pytest.approx(300)


def test_a_pending_answer_and_one_without_a_decision_change_nothing(stage):
    stage.answer(graceful())
    stage.wait(100)
    for outcome, code in (("pending", "approval_required"), ("denied", "unavailable")):
        stage.answer(replace(DENIED, outcome=outcome, code=code))
        assert stage.agent.graces().left("data") == pytest.approx(200)
    assert stage.wait(1000) == pytest.approx(1300)


def test_people_are_told_at_the_beginning_and_in_sensible_steps(stage, capsys):
    stage.answer(graceful(400, 0))
    stage.wait(1000)
    assert [text.split(" (")[0] for text in stage.terminals] == [
        "/srv/data is locked in 7 min",
        "/srv/data is locked in 5 min",
        "/srv/data is locked in 2 min",
        "/srv/data is locked in 60 s",
        "/srv/data is locked in 30 s",
        "/srv/data is locked in 10 s",
    ]
    assert "data: its grace is over (policy)" in capsys.readouterr().err


def test_postponed_as_far_as_the_policy_allows(stage):
    stage.answer(graceful(300, 900))
    stage.agent.graces().postpone("data", 600)
    assert stage.agent.graces().left("data") == pytest.approx(900)
    with pytest.raises(GraceError, match=r"at most 5 min more, not by 5 min"):
        stage.agent.graces().postpone("data", 301)
    stage.agent.graces().postpone("data", 300)
    with pytest.raises(GraceError, match="not any more"):
        stage.agent.graces().postpone("data", 1)
    assert stage.wait(5000) == pytest.approx(1000 + 1200)


def test_nothing_to_postpone(stage):
    with pytest.raises(GraceError, match="no grace runs"):
        stage.agent.graces().postpone("data", 60)
    stage.answer(graceful())
    stage.time.since_boot += 300
    with pytest.raises(GraceError, match="is over"):
        stage.agent.graces().postpone("data", 60)


SOUND = {"begun": 1000.0, "period": 300, "postpone": 0, "postponed": 0, "code": "policy"}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"boot_id": "boot"}',
        *(
            json.dumps({**SOUND, "boot_id": "boot", **change})
            for change in (
                {"begun": float("nan")},
                {"begun": float("inf")},
                {"begun": 9e9},
                {"begun": "1000"},
                {"period": 1e9},
                {"period": True},
                {"postponed": 9},
                {"more": 1},
            )
        ),
    ],
)
def test_what_is_remembered_and_damaged_is_over(stage, text):
    stage.answer(graceful())
    (stage.folder / "run/grace-data.json").write_text(text)
    assert stage.agent.graces().left("data") <= 0
    assert stage.agent.graces().shown("data")["seconds_left"] == 0
    assert stage.wait(0) is not None
    assert not stage.is_open


def test_a_grace_that_cannot_be_remembered_is_none(stage, monkeypatch, capsys):
    """Else it would begin anew with every denial."""

    def full(*_):
        raise StateError("No space left on device")

    monkeypatch.setattr(BootMarks, "put", full)
    followed = stage.answer(graceful())
    assert not stage.is_open
    assert followed.ack.result == "closed"
    assert "no grace for data: No space left" in capsys.readouterr().err


def test_a_grace_of_an_earlier_boot_is_none(stage):
    stage.answer(graceful())
    marks = BootMarks(stage.folder / "run", "another boot")
    assert Graces(marks, lambda: 0.0).running() == {}


def test_a_busy_volume_is_suspended_at_the_end_and_the_server_is_told_later(stage):
    stage.machine.hold("/srv/data")
    stage.answer(graceful(300, 0))
    assert stage.wait(1000) == pytest.approx(1300)
    assert stage.agent.volumes().state("data") is State.SUSPENDED
    followed = stage.answer(DENIED)
    assert followed.ack.result == "suspended"
    assert "postgres (77)" in followed.ack.detail
    stage.agent.reports().told("data")
    assert stage.answer(DENIED).ack is None


def test_what_cannot_be_locked_is_tried_again(stage, capsys):
    stage.machine.broken |= {"umount", "cryptsetup"}
    stage.answer(graceful(300, 0))
    assert stage.wait(310) is None
    assert stage.is_open
    assert "could not be locked" in capsys.readouterr().err
    stage.machine.broken.clear()
    assert stage.wait(60) is not None
    assert not stage.is_open


def test_an_encryption_in_place_has_no_users_and_no_grace(stage):
    assert stage.agent.graces().heed(graceful(), State.ENCRYPTING) is None


def test_the_last_time_to_ask(stage):
    known = Grace(1000.0, 300, 0)
    assert grace.ask_before(known, 1000.0) == 240
    assert grace.ask_before(known, 1240.0) is None
    assert grace.ask_before(Grace(1000.0, 10, 0), 1000.0) == 5


def test_steps_and_words():
    assert [told_next(each) for each in (301, 300, 10.5, 10, 1)] == [300, 120, 10, 0, 0]
    assert [in_words(each) for each in (-1, 0.4, 45, 119, 121, 600, 7199, 7200, 9000)] == [
        "0 s", "0 s", "45 s", "119 s", "2 min", "10 min", "2 h", "2 h", "2 h 30 min",
    ]  # fmt: skip


# In any order


class Graceful(RuleBasedStateMachine):
    """Denials, grants, postponements, restarts and clocks, beside a model of a few lines."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.stage = Stage(Path(self._folder.name) / "stage")
        self.begun: float | None = None
        self.period = self.limit = self.moved = 0

    def teardown(self) -> None:
        self._folder.cleanup()

    @property
    def now(self) -> float:
        return self.stage.time.since_boot

    @property
    def end(self) -> float:
        assert self.begun is not None
        return self.begun + self.period + self.moved

    def _over(self) -> bool:
        return self.begun is not None and self.now >= self.end

    def _settle(self) -> None:
        if self._over():
            self.begun = None
            assert not self.stage.is_open

    @precondition(lambda self: self.stage.is_open)
    @rule(period=st.integers(1, 600), postpone=st.sampled_from([0, 1, 300, 3600]))
    def deny(self, period: int, postpone: int) -> None:
        if self.begun is None:
            self.begun, self.moved = self.now, 0
            self.period, self.limit = period, postpone
        else:
            self.period, self.limit = min(self.period, period), min(self.limit, postpone)
            self.moved = min(self.moved, self.limit)
        self.stage.answer(graceful(period, postpone))
        self._settle()

    @precondition(lambda self: self.stage.is_open)
    @rule(code=st.sampled_from(["policy", "revoked", "quarantined", "disabled"]))
    def deny_at_once(self, code: str) -> None:
        self.stage.answer(replace(DENIED, code=code))
        self.begun = None
        assert not self.stage.is_open

    @precondition(lambda self: self.stage.is_open)
    @rule(word=st.sampled_from([("pending", "delayed"), ("denied", "unavailable")]))
    def say_nothing(self, word: tuple[str, str]) -> None:
        outcome, code = word
        self.stage.answer(replace(DENIED, outcome=outcome, code=code))
        self._settle()

    @precondition(lambda self: self.stage.is_open)
    @rule()
    def grant(self) -> None:
        self.stage.answer(CHECKED)
        self.begun = None
        assert self.stage.is_open

    @precondition(lambda self: not self.stage.is_open)
    @rule()
    def come_back(self) -> None:
        self.stage.open()
        self.stage.answer(CHECKED)
        assert self.begun is None

    @rule(by=st.integers(1, 4000))
    def postpone(self, by: int) -> None:
        allowed = self.begun is not None and by <= self.limit - self.moved and not self._over()
        if allowed:
            self.stage.agent.graces().postpone("data", by)
            self.moved += by
        else:
            with pytest.raises(GraceError):
                self.stage.agent.graces().postpone("data", by)

    @rule(seconds=st.floats(0, 2000))
    def wait(self, seconds: float) -> None:
        """The service waits, with or without a server."""
        locked = self.stage.wait(seconds)
        if self.begun is None:
            assert locked is None
        elif locked is not None:
            assert locked == pytest.approx(self.end, abs=1e-6)
            self.begun = None
            assert not self.stage.is_open
        else:
            assert self.now < self.end

    @rule(seconds=st.floats(0, 2000))
    def sleep(self, seconds: float) -> None:
        """The machine sleeps, or the agent is away, and nobody attends until it is back."""
        self.stage.time.since_boot += seconds
        self.stage.restart()
        self.stage.watch.attend()
        self._settle()

    @rule(by=st.floats(-1e9, 1e9))
    def set_the_clock(self, by: float) -> None:
        self.stage.time.wall += by

    @rule()
    def restart(self) -> None:
        self.stage.restart()

    @invariant()
    def never_open_past_the_end_and_never_ended_early(self) -> None:
        if self.begun is not None:
            assert self.stage.is_open
            assert self.now < self.end
            left = self.stage.agent.graces().left("data")
            assert left == pytest.approx(self.end - self.now)
        else:
            with suppress(FileNotFoundError):
                assert json.loads((self.stage.folder / "run/grace-data.json").read_text()) is None


Graceful.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestGraceful = Graceful.TestCase
