"""Volumes on iSCSI: a portal that listens, a stand-in for iscsiadm, and a kernel's files."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_agent import run as wrapper
from securecloud_agent.decide.model import Kind, Observed, State
from securecloud_agent.decide.place import read_portal, why_no_place
from securecloud_agent.decide.plan import plan
from securecloud_agent.errors import AgentError
from securecloud_agent.main import main, wiring
from securecloud_agent.main.passes import make_pass
from securecloud_agent.main.wiring import Clocks, make_agent
from securecloud_agent.run import ToolTimeoutError, run
from securecloud_agent.state.files import StateError
from securecloud_agent.state.memory import BootMarks, DeviceMemory, Memory
from securecloud_agent.volumes.iscsi import CONNECTED, Sessions
from securecloud_agent.volumes.kernel import Kernel
from securecloud_protocol import messages as wire

from .san import TARGET, San
from .simulator import Device


@pytest.fixture
def port() -> Iterator[int]:
    """Where a portal listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def san(tmp_path: Path, port: int, blank_file: Path, monkeypatch: pytest.MonkeyPatch) -> San:
    san = San(tmp_path / "san", port)
    san.disk(1, blank_file)
    path = f"{san.folder / 'bin'}:{wrapper.SEARCH_PATH}"
    monkeypatch.setattr(wrapper, "SEARCH_PATH", path)
    monkeypatch.setattr(wiring, "_ROOT", san.root)
    return san


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    (tmp_path / "memory").mkdir()
    return Memory(tmp_path / "memory")


@pytest.fixture
def marks(tmp_path: Path) -> BootMarks:
    (tmp_path / "marks").mkdir()
    return BootMarks(tmp_path / "marks", "boot")


class Encrypting(set):
    """The devices that are being encrypted in place."""

    def running(self, device: str) -> bool:
        return device in self


@pytest.fixture
def encrypting() -> Encrypting:
    return Encrypting()


@pytest.fixture
def sessions(san, memory, marks, encrypting, clock) -> Sessions:
    return Sessions(run, Kernel(san.root), memory, marks, encrypting, clock.now, clock.pause)


def remembered(memory: Memory, device: str, place: wire.IscsiTarget) -> None:
    known = DeviceMemory("/x", "ext4", None, (), False, None, 1, place)
    memory.remember_device(device, known)


def connect(sessions: Sessions, san: San, memory: Memory, device: str = "data", lun: int = 1):
    remembered(memory, device, san.place(lun))
    return sessions.connect(device, san.place(lun), san.source(lun))


# --- the stand-in

RECORDED = json.loads((Path(__file__).parent / "fixtures/iscsiadm.json").read_text())


@pytest.mark.parametrize(("scene", "status"), [("known", 0), ("unknown", 0), ("secret", 24)])
def test_the_stand_in_answers_as_the_real_program_did(san, blank_file, scene, status):
    known = RECORDED["known"]["target"]
    san.tell(status=status, targets={known: {1: ("sda", str(blank_file))}})
    which = [f"--targetname={RECORDED[scene]['target']}", f"--portal={RECORDED['portal']}"]
    for step in RECORDED[scene]["steps"]:
        done = run(["iscsiadm", "--mode=node", *which, *step["words"]], timeout=10)
        assert (done.status, done.messages.splitlines()) == (step["status"], step["messages"]), step


def test_the_agent_asks_for_nothing_that_was_not_recorded(san, sessions, memory):
    connect(sessions, san, memory)
    connect(sessions, san, memory)
    sessions.disconnect("data")
    recorded = [step["words"] for step in RECORDED["known"]["steps"]]
    assert [words for words in san.calls() if words not in recorded] == []


@pytest.mark.parametrize(
    "words", [["--op=delete"], ["--login", "--logout"], ["-l"], ["--op=new", "--name=a"], ["--op="]]
)
def test_the_stand_in_is_strict(san, words):
    which = ["--mode=node", f"--targetname={TARGET}", f"--portal={san.portal}"]
    assert run(["iscsiadm", *which, *words], timeout=10).status == 99


# --- connecting


def test_a_disk_is_connected_and_disconnected(san, sessions, memory):
    assert not sessions.is_up(san.place())
    assert connect(sessions, san, memory)
    assert sessions.is_up(san.place())
    assert san.source().exists()
    assert san.calls() == [
        ["--op=show"], ["--op=new"], ["--op=update", "--name=node.startup", "--value=manual"],
        ["--login"],
    ]  # fmt: skip
    assert san.record()["node.startup"] == "manual"
    assert sessions.disconnect("data")
    assert not sessions.is_up(san.place())
    assert not san.source().exists()
    assert not sessions.disconnect("data")


def test_a_record_that_is_there_is_left_as_it_is(san, sessions, memory):
    connect(sessions, san, memory)
    sessions.disconnect("data")
    (path,) = (san.folder / "nodes" / TARGET).iterdir()
    path.write_text(json.dumps({**san.record(), "node.session.auth.username": "bob"}))
    before = len(san.calls())
    connect(sessions, san, memory)
    assert san.calls()[before:] == [["--op=show"], ["--login"]]
    assert san.record()["node.session.auth.username"] == "bob"


def test_a_session_of_somebody_else_is_used_and_never_ended(san, sessions, memory, marks):
    san.log_in()
    assert not connect(sessions, san, memory)
    assert san.calls() == [["--rescan"]]
    assert not sessions.disconnect("data")
    assert sessions.is_up(san.place())


def test_a_disk_that_the_target_got_later_is_looked_for(san, sessions, memory, tmp_path):
    connect(sessions, san, memory)
    san.disk(2, tmp_path / "data.img")
    assert not san.source(2).exists()
    assert not connect(sessions, san, memory, "more", 2)
    assert san.source(2).exists()


def test_somebody_logs_in_at_the_same_moment(san, sessions, memory, marks):
    def overtaken(argv, **options):
        if argv[-1] == "--login":
            san.log_in()
        return run(argv, **options)

    sessions._run = overtaken
    connect(sessions, san, memory)
    assert not marks.has(CONNECTED, "data")
    assert not sessions.disconnect("data")


# --- disconnecting


def test_the_last_of_two_disks_ends_their_session(san, sessions, memory, tmp_path):
    san.disk(2, tmp_path / "data.img")
    connect(sessions, san, memory)
    connect(sessions, san, memory, "more", 2)
    held = san.hold("sdc")
    assert not sessions.disconnect("data")
    assert sessions.is_up(san.place())
    held.rmdir()
    # Not the one that logged in, but the last to need it.
    assert sessions.disconnect("more")
    assert not san.sessions


@pytest.mark.parametrize("use", ["mapped", "mounted", "partition", "partition mapped", "swap"])
def test_whoever_else_uses_a_disk_of_the_session_keeps_it(san, sessions, memory, use):
    connect(sessions, san, memory)
    block = san.root / "sys/class/block/sdb"
    mounts, swaps = san.root / "proc/self/mountinfo", san.root / "proc/swaps"
    (block / "sdb1").mkdir()
    (block / "sdb1/partition").write_text("1\n")
    (block / "sdb1/dev").write_text("8:17\n")
    match use:
        case "mapped":
            san.hold("sdb")
        case "mounted":
            mounts.write_text("36 35 8:16 / /srv rw - ext4 /dev/sdb rw\n")
        case "partition":
            mounts.write_text("36 35 8:17 / /srv rw - ext4 /dev/sdb1 rw\n")
        case "partition mapped":
            san.hold("sdb/sdb1")
        case "swap":
            swaps.write_text("Filename Type\n/dev/sdb1 partition 1 0 -2\n")
    assert not sessions.disconnect("data")
    assert sessions.is_up(san.place())


def test_an_encryption_in_place_keeps_the_session(san, sessions, memory, encrypting, tmp_path):
    san.disk(2, tmp_path / "data.img")
    connect(sessions, san, memory)
    connect(sessions, san, memory, "more", 2)
    encrypting.add("more")
    assert not sessions.disconnect("data")
    encrypting.clear()
    assert sessions.disconnect("data")


def test_a_damaged_memory_of_another_device_changes_nothing(san, sessions, memory):
    connect(sessions, san, memory)
    remembered(memory, "other", san.place(2))
    path = memory._device_file("devices", "other")
    path.write_text("{")
    assert sessions.disconnect("data")


def test_a_session_that_has_ended_by_itself_is_forgotten(san, sessions, memory, marks):
    connect(sessions, san, memory)
    which = ["--mode=node", f"--targetname={TARGET}", f"--portal={san.portal}"]
    run(["iscsiadm", *which, "--logout"], timeout=10)
    assert not sessions.disconnect("data")
    san.log_in()
    assert not sessions.disconnect("data")
    assert sessions.is_up(san.place())


# --- what goes wrong


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (5, r"logged in to: .*encountered iSCSI login failure"),
        (8, r"the login was not answered in time"),
        (12, r"the kernel's module iscsi_tcp cannot be loaded"),
        (19, r"the target is not there, or not for this machine's name"),
        (20, r"the daemon iscsid does not run"),
        (24, r"the target refuses this machine: .* CHAP secret"),
    ],
)
def test_a_login_that_fails_says_why(san, sessions, memory, marks, status, told):
    san.tell(status=status)
    with pytest.raises(AgentError, match=rf"{TARGET} at {san.portal} could not be .*{told}"):
        connect(sessions, san, memory)
    assert not marks.has(CONNECTED, "data")


def test_a_target_that_is_not_there(san, sessions, memory):
    place = san.place(target="iqn.2026-01.org.example:none")
    with pytest.raises(AgentError, match=r"org.example:none at .* the target is not there"):
        sessions.connect("data", place, san.source())


def test_a_portal_where_nobody_listens_takes_ten_seconds_and_is_not_tried_again(
    san, sessions, memory, clock
):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        san.portal = f"127.0.0.1:{closed.getsockname()[1]}"
    told = rf"portal {san.portal} cannot be reached: Connection refused"
    with pytest.raises(AgentError, match=told):
        connect(sessions, san, memory)
    assert 10 <= sum(clock.pauses) < 11
    clock.pauses.clear()
    with pytest.raises(AgentError, match=told):
        connect(sessions, san, memory, "more", 2)
    assert clock.pauses == []
    assert san.calls() == []


def test_a_portal_that_comes_up_meanwhile(san, sessions, memory, clock, port):
    """At boot, the network of the disks may be later than that of the servers."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        late = closed.getsockname()
    san.portal = "{}:{}".format(*late)
    opened: list[socket.socket] = []

    def pause(seconds: float) -> None:
        clock.pause(seconds)
        if len(clock.pauses) == 3:
            opened.append(socket.create_server(late))

    sessions._pause = pause
    assert connect(sessions, san, memory)
    opened.pop().close()


def test_a_login_without_an_end_is_cut_off_and_the_session_is_still_ours(
    san, sessions, memory, marks
):
    limits = []

    def hanging(argv, *, timeout):
        limits.append(timeout)
        if argv[-1] == "--login":
            raise ToolTimeoutError("iscsiadm did not end")
        return run(argv, timeout=timeout)

    sessions._run = hanging
    for _ in range(2):
        with pytest.raises(AgentError, match="was not answered in time"):
            connect(sessions, san, memory)
    assert len(limits) == 4, "the second time in one pass it was not tried"
    assert max(limits) <= 30
    # The daemon has got through after all.
    san.log_in()
    sessions._run = run
    assert not connect(sessions, san, memory)
    assert sessions.disconnect("data")


def test_a_target_without_this_lun(san, sessions, memory, clock):
    with pytest.raises(AgentError, match=r"has not appeared: has it a LUN 2"):
        connect(sessions, san, memory, lun=2)
    assert 30 <= sum(clock.pauses) < 32
    assert sessions.disconnect("data")


def test_a_session_that_is_down_is_waited_for_and_its_disk_left_alone(san, sessions, memory, clock):
    connect(sessions, san, memory)
    san.down()
    assert not sessions.is_up(san.place())
    with pytest.raises(AgentError, match="is down: the target does not answer"):
        connect(sessions, san, memory)
    assert 30 <= sum(clock.pauses) < 32


def test_without_iscsiadm_its_package_is_named(san, sessions, memory, monkeypatch):
    monkeypatch.setattr(wrapper, "SEARCH_PATH", str(san.links))
    with pytest.raises(AgentError, match=r"iscsiadm is not installed; install the .* open-iscsi"):
        connect(sessions, san, memory)


def test_a_logout_that_fails_says_so(san, sessions, memory, marks):
    def failing(argv, **options):
        done = run(argv, **options)
        return replace(done, status=10, messages="no") if argv[-1] == "--logout" else done

    connect(sessions, san, memory)
    sessions._run = failing
    with pytest.raises(AgentError, match="could not be logged out of: no"):
        sessions.disconnect("data")
    assert marks.has(CONNECTED, "data"), "it is tried again"


# --- what a server may say


@pytest.mark.parametrize(
    ("portal", "expected"),
    [
        ("10.0.0.5", ("10.0.0.5", 3260)),
        ("10.0.0.5:860", ("10.0.0.5", 860)),
        ("[2001:DB8:0::5]:860", ("2001:db8::5", 860)),
        ("[::1]", ("::1", 3260)),
    ],
)
def test_portals_are_read(portal, expected):
    assert read_portal(portal) == expected


BAD_PORTALS = ["", "-x", "san.example.org:3260", "10.0.0.256", "10.0.0.5:0", "10.0.0.5:99999",
               "2001:db8::5", "[::1", "[10.0.0.5]:", "10.0.0.5:"]  # fmt: skip
BAD_TARGETS = ["..", ".", "-T", "iqn", "iqn.", "iqn..", "iqn.-x", "disk", "IQN.2026-01.org.example"]


@pytest.mark.parametrize("portal", BAD_PORTALS)
def test_no_portal(portal):
    assert "no iSCSI portal" in why_no_place(wire.IscsiTarget(portal, TARGET, 0))


@pytest.mark.parametrize("target", BAD_TARGETS)
def test_no_target(target):
    assert "no iSCSI name" in why_no_place(wire.IscsiTarget("10.0.0.5:3260", target, 0))


@given(
    st.from_regex(r"[0-9A-Za-z.:\[\]-]{1,255}", fullmatch=True) | st.sampled_from(BAD_PORTALS),
    st.from_regex(r"[0-9A-Za-z.:-]{1,223}", fullmatch=True)
    | st.from_regex(r"(iqn|eui|naa)\.[0-9A-Za-z.:-]{1,200}", fullmatch=True),
)
def test_whatever_the_wire_lets_through_is_refused_or_safe(portal, target):
    place = wire.IscsiTarget(portal, target, 0)
    if why_no_place(place) is None:
        assert target.startswith(("iqn.", "eui.", "naa."))
        assert target not in (".", "..")
        assert not target.startswith("-")
        where = read_portal(portal)
        assert where is not None
        assert 0 < where[1] < 65536
        assert set(where[0]) <= set("0123456789abcdef.:")


# --- the whole agent


@pytest.fixture
def remote(san: San, device: Device) -> Device:
    """The device's volume, on the target."""
    device.volume = replace(device.volume, source=str(san.source()), iscsi=san.place())
    return device


def call(home, capsys, *words: str) -> tuple[int, dict]:
    capsys.readouterr()
    status = main(["--config", str(home.config), *words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def told(result: dict, device: str = "data") -> dict:
    return {each["device"]: each for each in result["devices"]}[device]


def test_a_volume_on_iscsi_is_connected_opened_locked_and_disconnected(
    home, enrolled, remote, san, no_mapper, capsys, listener
):
    status, result = call(home, capsys, "unlock")
    assert (status, told(result)["volume"]) == (0, "verified")
    assert told(result)["how"].startswith(f"connected to {TARGET} at {san.portal}, formatted")
    _, shown = call(home, capsys, "status")
    place = {"portal": san.portal, "target": TARGET, "lun": 1}
    assert told(shown)["iscsi"] == {**place, "connected": True}
    # The rest needs no server.
    listener.faults = ["drop"] * 50
    assert call(home, capsys, "lock")[0] == 0
    assert not san.sessions
    _, shown = call(home, capsys, "status")
    assert told(shown)["iscsi"] == {**place, "connected": False}
    main(["--config", str(home.config), "status"])
    assert f"iSCSI target {TARGET} at {san.portal}, LUN 1: not connected" in capsys.readouterr().out


def test_a_second_pass_finds_everything_as_it_was(home, enrolled, remote, san, no_mapper, capsys):
    call(home, capsys, "unlock")
    before = san.calls()
    status, result = call(home, capsys, "unlock")
    assert (status, result["changed"]) == (0, False)
    assert san.calls() == before


def test_a_denied_device_loses_its_session(home, enrolled, remote, san, no_mapper, capsys):
    call(home, capsys, "unlock")
    remote.outcome, remote.code = "denied", "policy"
    assert call(home, capsys, "unlock")[0] == 4
    assert not san.sessions
    before = san.calls()
    call(home, capsys, "unlock")
    assert san.calls() == before


@pytest.mark.parametrize("outcome", [("denied", "policy"), ("pending", "approval_required")])
def test_nobody_logs_in_without_a_grant(home, enrolled, remote, san, no_mapper, capsys, outcome):
    remote.outcome, remote.code = outcome
    call(home, capsys, "unlock")
    assert san.calls() == []


def test_a_volume_that_is_refused_leaves_no_session(
    home, enrolled, remote, san, no_mapper, capsys, blank_file
):
    blank_file.write_bytes(os.urandom(20 * 1024 * 1024))
    status, result = call(home, capsys, "unlock")
    assert (status, told(result)["outcome"]) == (1, "failed")
    assert "data of an unknown kind" in told(result)["detail"]
    assert not san.sessions


def test_a_granted_volume_is_connected_before_anything_else():
    place = wire.IscsiTarget("10.0.0.5:3260", TARGET, 1)
    volume = wire.Volume("/dev/x", place, "ext4", "/srv", (), False, "if_blank", None)
    grant = wire.DeviceDecision(
        "data", "granted", "approved", "1", None, bytes(64), 1, bytes(32), volume
    )
    away = Observed(connected=False)
    assert [step.kind for step in plan(grant, away, volume)] == [Kind.CONNECT]
    (refused,) = plan(grant, away, replace(volume, iscsi=replace(place, target="..")))
    assert refused.kind is Kind.REFUSE
    open_still = replace(away, state=State.MOUNTED)
    (down,) = plan(replace(grant, code="checked", key=None), open_still, volume)
    assert (down.kind, "session with 10.0.0.5:3260 is down" in down.reason) == (Kind.REFUSE, True)


def test_a_hostile_target_starts_no_program(
    home, enrolled, remote, san, no_mapper, capsys, management
):
    remote.volume = replace(remote.volume, iscsi=wire.IscsiTarget(san.portal, "..", 1))
    status, result = call(home, capsys, "unlock")
    assert status == 1
    assert ".. is no iSCSI name" in told(result)["detail"]
    assert san.calls() == []
    assert management.acks[0].results[0].result == "failed"


def test_a_dead_portal_leaves_the_others_open_and_says_why(
    home, enrolled, remote, san, no_mapper, capsys, management, tmp_path, clock
):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = wire.IscsiTarget(f"127.0.0.1:{closed.getsockname()[1]}", TARGET, 1)
    local = tmp_path / "local.img"
    local.write_bytes(bytes(24 * 1024 * 1024))
    volume = replace(remote.volume, source=str(local), iscsi=None)
    # By name they come before the local one.
    for name in ("a", "b"):
        away = replace(remote.volume, source=str(san.links / name), iscsi=dead)
        management.devices[name] = Device(away)
    management.devices["local"] = Device(volume)
    _, result = call(home, capsys, "unlock")
    assert [each["device"] for each in result["devices"]] == ["local", "a", "b", "data"]
    assert told(result, "local")["volume"] == told(result)["volume"] == "verified"
    for name in ("a", "b"):
        assert told(result, name)["outcome"] == "failed"
        assert f"{dead.portal} cannot be reached" in told(result, name)["detail"]
    assert sum(clock.pauses) < 12


def test_a_volume_that_loses_its_target_while_it_is_open_says_so(
    home, enrolled, remote, san, no_mapper, capsys
):
    call(home, capsys, "unlock")
    san.down()
    status, result = call(home, capsys, "unlock")
    assert status == 1
    assert f"session with {san.portal} is down" in told(result)["detail"]
    assert told(result)["volume"] == "verified"


def test_a_held_device_is_not_connected_again(
    home, enrolled, remote, san, no_mapper, capsys, clocks
):
    call(home, capsys, "unlock")
    call(home, capsys, "lock")
    before = san.calls()
    passed = make_pass(make_agent(home.config, clocks), ())
    assert passed.outcomes[0].volume == "closed"
    assert san.calls() == before
    call(home, capsys, "unlock")
    assert len(san.sessions) == 1


def test_a_crash_after_the_login_leaves_a_session_that_lock_ends(
    home, enrolled, remote, san, no_mapper, capsys, monkeypatch
):
    class PowerCut(BaseException):
        pass

    def cut(*_arguments):
        raise PowerCut

    monkeypatch.setattr("securecloud_agent.volumes.work.Work._format", cut)
    with pytest.raises(PowerCut):
        main(["--config", str(home.config), "unlock"])
    assert len(san.sessions) == 1
    assert call(home, capsys, "lock")[1]["changed"]
    assert not san.sessions


def test_a_file_system_on_iscsi_is_encrypted_in_place(
    home, enrolled, remote, san, no_mapper, capsys, blank_file, tmp_path, monkeypatch
):
    real = Clocks(monotonic=time.monotonic, pause=time.sleep, chance=lambda: 0.0)
    monkeypatch.setattr(wiring, "Clocks", lambda: real)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/kept").write_text("kept")
    os.truncate(blank_file, 96 * 1024 * 1024)
    command = ["mkfs.ext4", "-q", "-b", "4096", "-d", str(tmp_path / "tree"), str(blank_file)]
    subprocess.run(command, check=True)
    status, result = call(home, capsys, "encrypt", "data")
    assert (status, result["volume"], result["progress"]["phase"]) == (0, "verified", "finished")
    assert san.calls().count(["--login"]) == 1, "it stays connected until the last octet"
    assert call(home, capsys, "lock")[0] == 0
    assert not san.sessions


# --- what is remembered


def test_where_a_disk_is_remembered(memory):
    place = wire.IscsiTarget("10.0.0.5:3260", TARGET, 3)
    remembered(memory, "data", place)
    assert memory.device("data").iscsi == place


def test_without_iscsi_the_memory_is_what_earlier_versions_wrote(memory):
    remembered(memory, "data", None)
    assert "iscsi" not in json.loads(memory._device_file("devices", "data").read_text())
    assert memory.device("data").iscsi is None


@pytest.mark.parametrize(
    "damage", [{}, [], 7, {"portal": 1, "target": TARGET, "lun": 1},
               {"portal": "10.0.0.5", "target": "a b", "lun": 1}]
)  # fmt: skip
def test_a_damaged_place_is_an_error(memory, damage):
    remembered(memory, "data", wire.IscsiTarget("10.0.0.5:3260", TARGET, 3))
    path = memory._device_file("devices", "data")
    path.write_text(json.dumps({**json.loads(path.read_text()), "iscsi": damage}))
    with pytest.raises(StateError, match="damaged"):
        memory.device("data")
