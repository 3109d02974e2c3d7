"""Boots without a server: who may, for how long, and what takes it away again."""

import json
import signal
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securecloud_agent.client.failures import NotTrustedError, NotWorkingError, UnreachableError
from securecloud_agent.config import load
from securecloud_agent.decide import offline
from securecloud_agent.decide.model import Content, Kind, Observed, State
from securecloud_agent.decide.offline import Kept, Sealed
from securecloud_agent.decide.plan import plan_offline
from securecloud_agent.errors import AgentError
from securecloud_agent.main import main
from securecloud_agent.main.passes import make_pass
from securecloud_agent.main.run import Service
from securecloud_agent.main.status import collect
from securecloud_agent.main.watch import Watch
from securecloud_agent.main.without_server import open_kept
from securecloud_agent.sealing.store import Store
from securecloud_agent.state.files import StateError
from securecloud_agent.state.memory import BootMarks
from securecloud_protocol import messages as wire
from securecloud_protocol.errors import ErrorCode

from .machine import Machine

HOUR = 3600
OFFER = wire.Offline(4 * HOUR, 2, (7,))
KEPT = Kept(4 * HOUR, 2, (7,), 1000, "boot", 1000, 2, Sealed(1, b"p", b"r", 5_000_000, 9))

pytestmark = pytest.mark.usefixtures("no_mapper")


# Decisions


def test_it_is_sealed_anew_in_another_boot_and_after_half_of_its_period():
    assert not offline.is_due(KEPT, "boot", 1000 + 2 * HOUR - 1)
    assert offline.is_due(KEPT, "boot", 1000 + 2 * HOUR)
    assert offline.is_due(KEPT, "another", 1001)
    assert offline.is_due(KEPT, "boot", 999), "the clock went back"
    assert offline.is_due(replace(KEPT, sealed=None), "boot", 1001), "there is none yet"


def test_what_cannot_be_sealed_is_asked_for_once_an_hour_at_most():
    refused = replace(KEPT, period=60, sealed=None, problem="no room")
    assert not offline.is_due(refused, "boot", 1000 + HOUR - 1)
    assert offline.is_due(refused, "boot", 1000 + HOUR)


@given(st.integers(0, 10**6), st.integers(0, 10**7))
def test_no_time_is_left_beyond_either_clock(now, clock):
    left = offline.seconds_left(KEPT, now, clock)
    assert left >= 0
    assert now + left <= KEPT.at + KEPT.period or left == 0
    assert clock + left * 1000 <= 5_000_000 or left == 0


def test_a_clock_that_went_back_is_refused():
    used = replace(KEPT, seen=5000)
    assert "went back" in offline.why_not(used, 4999)
    assert offline.why_not(used, 5000) is None
    assert "are over" in offline.why_not(used, 1000 + 4 * HOUR)


def test_the_bounds_of_the_tpm():
    assert offline.is_over(KEPT, 4_999_999, 8) is None
    assert "2 boots, which are used up" in offline.is_over(KEPT, 0, 9)
    assert "by the TPM's clock" in offline.is_over(KEPT, 5_000_000, 0)


VOLUME = wire.Volume("/dev/sdb", None, "ext4", "/srv", (), False, "never", "1" * 8)
LUKS = Observed(content=Content.LUKS, luks_uuid="1" * 8)


def kinds(observed, volume=VOLUME):
    return [step.kind for step in plan_offline(observed, volume)]


@pytest.mark.parametrize("content", list(Content))
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("asked", [None, "1" * 8])
def test_without_a_server_nothing_is_ever_made(content, state, held, asked):
    seen = Observed(state, content, "ext4", "1" * 8, held=held, encryption=asked)
    found = set(kinds(seen, replace(VOLUME, initialise="if_blank")))
    assert not found & {Kind.FORMAT, Kind.ENCRYPT, Kind.MAKE_FILESYSTEM, Kind.LOCK, Kind.RESUME}
    assert (Kind.OPEN in found) == (
        content is Content.LUKS and state is State.CLOSED and not held and asked is None
    )


def test_only_the_known_volume_is_opened():
    assert kinds(LUKS) == [Kind.OPEN, Kind.MOUNT]
    assert kinds(replace(LUKS, luks_uuid="2" * 8)) == [Kind.REFUSE]
    assert kinds(replace(LUKS, header_problem="the cipher is null")) == [Kind.REFUSE]


# Files

counts = st.integers(0, 2**52)
texts = st.text(max_size=50)
kept_things = st.builds(
    Kept,
    period=st.integers(60, 604_800),
    boots=st.integers(1, 100),
    pcrs=st.sets(st.integers(0, 15), min_size=1).map(lambda each: tuple(sorted(each))),
    at=st.integers(0, 10**11),
    boot_id=texts,
    seen=st.integers(0, 10**11),
    boots_left=counts,
    sealed=st.none()
    | st.builds(
        Sealed,
        key_version=counts,
        public=st.binary(min_size=1, max_size=600),
        private=st.binary(min_size=1, max_size=600),
        clock_limit=counts,
        reset_limit=counts,
    ),
    problem=texts,
)


@settings(max_examples=30)
@given(kept_things)
def test_what_is_kept_is_read_again(tmp_path_factory, kept):
    store = Store(tmp_path_factory.mktemp("store"))
    store.keep("data", kept)
    assert store.kept("data") == kept
    assert store.devices() == ("data",)
    store.remove("data")
    assert store.kept("data") is None


def good() -> dict:
    return {
        "period": 3600, "boots": 1, "pcrs": [7], "at": 1, "boot_id": "b", "seen": 1,
        "boots_left": 1, "problem": "",
        "sealed": {"key_version": 1, "clock_limit": 1, "reset_limit": 1, "public": "AAAA",
                   "private": "AAAA"},
    }  # fmt: skip


def garbled():
    yield ""
    yield "{"
    yield "[]"
    yield "null"
    yield "\0" * 100
    yield "[" * 16_000
    yield json.dumps(good())[:-20]
    yield json.dumps({**good(), "problem": "x" * 20_000})
    for name in good():
        yield json.dumps({key: value for key, value in good().items() if key != name})
    for name, value in (
        ("period", -1), ("period", 2**40), ("period", True), ("boots", 0), ("boots", "1"),
        ("pcrs", []), ("pcrs", [99]), ("pcrs", 7), ("at", -1), ("at", 2**60), ("at", 1.5),
        ("at", 999_999_999_999), ("seen", None), ("boot_id", 3), ("problem", []), ("sealed", []),
        ("sealed", {}),
    ):  # fmt: skip
        yield json.dumps({**good(), name: value})
    for name, value in (
        ("public", ""), ("public", "A" * 8000), ("private", "=="), ("private", None),
        ("clock_limit", 2**70), ("reset_limit", -1), ("key_version", "1"),
    ):  # fmt: skip
        yield json.dumps({**good(), "sealed": {**good()["sealed"], name: value}})


@pytest.mark.parametrize("text", list(garbled()))
def test_a_file_that_is_torn_or_was_changed_is_as_good_as_none(enrolled, capsys, text):
    folder = enrolled.settings.state_dir / "sealed"
    folder.mkdir()
    (folder / "data.json").write_text(json.dumps(good()))
    assert Store(enrolled.settings.state_dir).kept("data") is not None
    (folder / "data.json").write_text(text)
    with pytest.raises(StateError, match="damaged"):
        Store(enrolled.settings.state_dir).kept("data")
    assert enrolled.offline_keys().shown("data") is None
    assert enrolled.offline_keys().unseal("data") is None
    assert "what was kept for boots without a server is given up" in capsys.readouterr().err
    assert not (folder / "data.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"times": 1}', '{"times": 1, "first": -1}'])
def test_uses_that_cannot_be_read_are_counted_from_the_beginning(tmp_path, text):
    store = Store(tmp_path)
    (tmp_path / "used_offline").mkdir()
    (tmp_path / "used_offline/data.json").write_text(text)
    assert store.uses("data") is None
    store.used("data", 5)
    store.used("data", 9)
    assert (store.uses("data").times, store.uses("data").first, store.uses("data").last) == (
        2,
        5,
        9,
    )
    store.told("data")
    assert store.uses("data") is None


# Granted


@pytest.fixture
def allowed(device):
    device.offline = OFFER
    return device


@pytest.fixture
def granted(enrolled, allowed, tpm):
    """An agent whose volume is open, and whose key is sealed."""
    make_pass(enrolled, ())
    assert enrolled.offline_keys().shown("data")["state"] == "sealed"
    return enrolled


def sealed_file(agent):
    return agent.settings.state_dir / "sealed/data.json"


def wants(management) -> list[str]:
    return [claim.want for evidence in management.evidence for claim in evidence.devices]


def rebooted(agent, tpm, boot_id="11111111-0000-4000-8000-000000000000"):
    """The machine as it is after a reset: nothing is open, nobody held anything."""
    tpm.boot()
    return replace(
        agent, boot_id=boot_id, marks=BootMarks(agent.settings.run_dir / "agent", boot_id)
    )


def test_a_grant_seals_the_key_for_its_owner_alone(granted, management, device, forgotten):
    path = sealed_file(granted)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    content = path.read_bytes()
    assert device.key not in content
    assert device.key.hex().encode() not in content
    assert forgotten == [device.key]


def test_a_renewal_that_brings_no_key_leaves_what_is_sealed(granted, clock, monkeypatch):
    """As when the server cannot get at the key now, but the machine may go on."""
    before = sealed_file(granted).read_bytes()
    clock.time += 2 * HOUR
    monkeypatch.setattr(
        "securecloud_agent.main.claims.claim", lambda observed, renew: "check" if renew else "key"
    )
    assert make_pass(granted, ()).outcomes[0].code == "checked"
    assert sealed_file(granted).read_bytes() == before


def test_a_check_renews_nothing_before_half_of_the_period(granted, management, clock):
    clock.time += 2 * HOUR - 1
    make_pass(granted, ())
    before = sealed_file(granted).read_bytes()
    clock.time += 1
    passed = make_pass(granted, ())
    assert wants(management) == ["key", "check", "renew"]
    assert sealed_file(granted).read_bytes() != before
    assert not passed.changed, "it stays open as it was"
    assert passed.outcomes[0].volume == "verified"
    assert management.acks[-1].results[0].result == "verified"
    assert granted.offline_keys().shown("data")["until"] == "2027-01-15T14:00:00Z"


def test_an_open_volume_gets_its_copy_when_the_policy_begins_to_allow_it(
    enrolled, device, management, tpm
):
    make_pass(enrolled, ())
    device.offline = OFFER
    make_pass(enrolled, ())
    assert enrolled.offline_keys().shown("data")["state"] == "due"
    make_pass(enrolled, ())
    assert wants(management) == ["key", "check", "renew"]
    assert enrolled.offline_keys().shown("data")["state"] == "sealed"


def test_without_a_tpm_it_is_refused_and_the_grant_is_the_same(
    enrolled, allowed, management, monkeypatch, tmp_path, capsys, home
):
    monkeypatch.setattr("securecloud_agent.sealing.tpm.DEVICE", tmp_path / "tpmrm0")
    assert make_pass(enrolled, ()).outcomes[0].outcome == "granted"
    reason = f"no TPM 2.0 ({tmp_path}/tpmrm0 is not there)"
    assert f"data: offline: refused: {reason}" in capsys.readouterr().err
    main(["--config", str(home.config), "status"])
    assert f"data: offline: refused: {reason}" in capsys.readouterr().out
    make_pass(enrolled, ())
    assert wants(management) == ["key", "check"], "a key that cannot be sealed is not asked for"


def test_a_tpm_that_fails_is_told_and_tried_later(granted, management, clock, tpm, capsys):
    tpm.broken = {"tpm2_create"}
    clock.time += 2 * HOUR
    make_pass(granted, ())
    assert "tpm2_create failed" in granted.offline_keys().shown("data")["text"]
    assert "data: offline: refused: tpm2_create failed" in capsys.readouterr().err
    make_pass(granted, ())
    tpm.broken = set()
    clock.time += 2 * HOUR
    make_pass(granted, ())
    assert wants(management) == ["key", "renew", "check", "renew"]
    assert granted.offline_keys().shown("data")["state"] == "sealed"


def test_a_key_that_does_not_open_the_volume_is_not_sealed(enrolled, allowed, blank_file, tpm):
    blank_file.write_bytes(b"something else" * 100_000)
    assert make_pass(enrolled, ()).outcomes[0].outcome == "failed"
    assert not sealed_file(enrolled).exists()
    assert tpm.named("tpm2_create") == []


# Denied


@pytest.mark.parametrize(
    ("outcome", "code", "stays"),
    [
        *(("denied", code, False) for code in ("policy", "rejected", "revoked", "disabled")),
        ("denied", "quarantined", False),
        ("denied", "unknown_device", False),
        ("denied", "unavailable", True),
        ("pending", "approval_required", False),
        ("pending", "delayed", False),
        ("pending", "unavailable", True),
    ],
)
def test_what_a_refusal_leaves(granted, device, tpm, outcome, code, stays):
    device.outcome, device.code = outcome, code
    make_pass(granted, ())
    assert sealed_file(granted).exists() is stays
    later = rebooted(granted, tpm)
    assert bool(open_kept(later)) is stays


def test_a_denial_with_a_grace_takes_it_at_once(granted, device):
    device.outcome, device.code, device.grace = "denied", "policy", wire.Grace(300, 0)
    assert make_pass(granted, ()).outcomes[0].volume == "verified"
    assert not sealed_file(granted).exists()


def test_it_goes_before_the_volume_does(granted, device, monkeypatch):
    """A power cut in between would otherwise bring the volume back."""
    found = []
    monkeypatch.setattr(
        "securecloud_agent.volumes.volumes.Volumes.lock",
        lambda self, device: found.append(sealed_file(granted).exists()),
    )
    device.outcome, device.code = "denied", "revoked"
    with pytest.raises(AttributeError):
        make_pass(granted, ())
    assert found == [False]


def test_a_grant_that_does_not_allow_it_any_more_takes_it(granted, device):
    device.offline = None
    make_pass(granted, ())
    assert not sealed_file(granted).exists()
    assert granted.marks.has("verified", "data")


def test_other_bounds_take_the_old_copy_before_there_is_a_new_one(granted, device, management):
    device.offline = replace(OFFER, boots=1)
    make_pass(granted, ())
    assert granted.offline_keys().shown("data")["state"] == "due"
    make_pass(granted, ())
    assert wants(management) == ["key", "check", "renew"]
    assert json.loads(sealed_file(granted).read_text())["boots"] == 1


def test_a_device_that_is_gone_takes_it(granted, management):
    management.devices.clear()
    make_pass(granted, ())
    assert not sealed_file(granted).exists()


@pytest.mark.parametrize("command", [["lock"], ["lock", "data"]])
def test_the_operators_lock_holds_over_a_boot_without_a_server(
    granted, home, tpm, command, management
):
    main(["--config", str(home.config), *command])
    assert not sealed_file(granted).exists()
    make_pass(granted, ())
    make_pass(granted, ())
    assert wants(management) == ["key", "check", "check"]
    assert open_kept(rebooted(granted, tpm)) == ()


def test_what_cannot_be_removed_does_not_keep_the_operator_from_locking(
    granted, home, monkeypatch, capsys
):
    def stays(self, device):
        raise StateError("Read-only file system")

    monkeypatch.setattr(Store, "remove", stays)
    assert main(["--config", str(home.config), "lock"]) == 1
    assert "Read-only file system" in capsys.readouterr().err
    assert not granted.marks.has("verified", "data")


# Without a server


def test_it_opens_after_a_boot_and_says_for_how_long(granted, tpm, forgotten, device, home):
    later = rebooted(granted, tpm)
    forgotten.clear()
    (outcome,) = open_kept(later)
    assert (outcome.outcome, outcome.code, outcome.volume) == ("granted", "offline", "verified")
    assert "no server could be reached" in outcome.detail
    assert "1 more boot after this one" in outcome.detail
    assert later.marks.has("verified", "data")
    assert later.graces().left("data") == pytest.approx(4 * HOUR, abs=60)
    assert set(forgotten) == {device.key}
    assert home.status()["devices"]["data"]["code"] == "offline"
    (shown,) = collect(later)["devices"]
    assert shown["grace"]["code"] == "offline"
    assert shown["offline"]["boots_left"] == 1
    assert open_kept(later) == (), "it is open"


def test_a_key_that_was_replaced_is_sealed_in_the_place_of_the_old_one(granted, tpm, device):
    device.successor = bytes(range(64))
    make_pass(granted, ())
    assert device.version == 2
    assert json.loads(sealed_file(granted).read_text())["sealed"]["key_version"] == 2
    again = rebooted(granted, tpm)
    assert open_kept(again)[0].outcome == "granted"


def test_it_is_locked_when_the_time_is_over(granted, tpm, clock, terminals, management, listener):
    later = rebooted(granted, tpm)
    open_kept(later)
    watch = Watch(later, terminals.append)
    watch.attend()
    assert "opened without a server" in terminals[0]
    clock.time += later.graces().left("data") - 1
    watch.attend()
    assert later.marks.has("verified", "data")
    clock.time += 1
    assert watch.attend()[1]
    assert not later.marks.has("verified", "data")
    assert not sealed_file(later).exists()
    assert open_kept(later) == ()
    device = management.devices["data"]
    device.outcome, device.code = "pending", "approval_required"
    make_pass(later, ())
    (told,) = management.acks[-1].results
    assert told.result == "closed"
    assert "its time without a server was over; its key was used without a server once at" in (
        told.detail
    )


def test_a_server_that_is_back_ends_the_time_and_learns_of_it(granted, tpm, management, clock):
    later = rebooted(granted, tpm)
    open_kept(later)
    later = rebooted(later, tpm, "22222222-0000-4000-8000-000000000000")
    clock.time += 600
    open_kept(later)
    passed = make_pass(later, ())
    assert wants(management)[-1] == "renew", "the boots without a server have used it up"
    assert passed.outcomes[0].code == "approved"
    assert later.graces().left("data") is None
    (told,) = management.acks[-1].results
    assert told.result == "offline"
    assert "its key was used without a server 2 times since 2027-01-15T08:00:00Z" in told.detail
    make_pass(later, ())
    assert len(management.acks) == 2, "told once"
    assert later.offline_keys().shown("data")["boots_left"] == 2


def test_what_is_not_acknowledged_is_told_again(granted, tpm, management, listener, clock):
    later = rebooted(granted, tpm)
    open_kept(later)
    listener.faults = [None, None, *[ErrorCode.INTERNAL] * 10]
    make_pass(later, ())
    listener.faults = []
    make_pass(later, ())
    assert management.acks[-1].results[0].result == "offline"


@pytest.mark.parametrize("code", ["approval_required", "unavailable"])
def test_pending_neither_ends_nor_lengthens_the_time(granted, tpm, device, clock, code):
    later = rebooted(granted, tpm)
    open_kept(later)
    device.outcome, device.code = "pending", code
    clock.time += HOUR
    assert make_pass(later, ()).outcomes[0].volume == "verified"
    assert later.graces().left("data") == pytest.approx(3 * HOUR, abs=60)
    clock.time += 3 * HOUR
    assert make_pass(later, ()).outcomes[0].volume == "closed"


def test_a_denial_has_the_grace_of_its_policy_also_then(granted, tpm, device):
    later = rebooted(granted, tpm)
    open_kept(later)
    device.outcome, device.code, device.grace = "denied", "policy", wire.Grace(300, 600)
    make_pass(later, ())
    assert later.graces().left("data") == 300
    assert later.graces().of("data").code == "policy"


def test_a_denial_without_one_locks_at_once(granted, tpm, device):
    later = rebooted(granted, tpm)
    open_kept(later)
    device.outcome, device.code = "denied", "revoked"
    assert make_pass(later, ()).outcomes[0].volume == "closed"
    assert open_kept(later) == ()


def test_boots_are_used_up(granted, tpm, clock):
    for number in range(2):
        granted = rebooted(granted, tpm, f"{number}")
        assert open_kept(granted)[0].outcome == "granted"
    granted = rebooted(granted, tpm, "2")
    (outcome,) = open_kept(granted)
    assert (outcome.outcome, outcome.volume) == ("failed", "closed")
    assert "2 boots, which are used up" in outcome.detail
    assert not sealed_file(granted).exists()


def test_a_clock_that_was_turned_back_opens_nothing_until_it_is_right(granted, tpm, clock):
    later = rebooted(granted, tpm)
    clock.time -= 1
    assert "clock went back" in open_kept(later)[0].detail
    assert tpm.named("tpm2_unseal") == []
    clock.time += 1
    assert open_kept(later)[0].outcome == "granted"


def test_the_machines_clock_counts_while_it_is_off(granted, tpm, clock):
    later = rebooted(granted, tpm)
    clock.time += 4 * HOUR
    assert "over by this machine's clock" in open_kept(later)[0].detail
    assert tpm.named("tpm2_unseal") == []


def test_the_tpms_clock_counts_whatever_the_machines_says(granted, tpm):
    later = rebooted(granted, tpm)
    tpm.forward(4 * HOUR * 1000)
    assert "over by the TPM's clock" in open_kept(later)[0].detail


def test_another_state_is_refused_and_not_tried_at_each_pass(granted, tpm, clock):
    later = rebooted(granted, tpm)
    tpm.extend(7)
    for seconds, tried in ((0, 1), (599, 1), (1, 2)):
        clock.time += seconds
        assert "the PCRs 7 are not as they were" in open_kept(later)[0].detail
        assert len(tpm.named("tpm2_unseal")) == tried
    assert later.graces().left("data") is None
    again = rebooted(later, tpm, "33333333-0000-4000-8000-000000000000")
    assert open_kept(again)[0].outcome == "granted"


def test_limits_that_somebody_wrote_into_the_file_are_refused(granted, tpm):
    path = sealed_file(granted)
    content = json.loads(path.read_text())
    content["sealed"]["reset_limit"] += 50
    path.write_text(json.dumps(content))
    (outcome,) = open_kept(rebooted(granted, tpm))
    assert (outcome.outcome, outcome.volume) == ("failed", "closed")


def test_a_volume_without_an_end_is_not_opened(granted, tpm, monkeypatch):
    """The end is put down first: what cannot be remembered would stay open."""
    later = rebooted(granted, tpm)

    def full(self, kind, device, content=None):
        raise StateError("No space left on device")

    monkeypatch.setattr(BootMarks, "put", full)
    assert "No space left" in open_kept(later)[0].detail
    assert not later.marks.has("verified", "data")


def test_a_use_that_cannot_be_told_is_none(granted, tpm, monkeypatch, forgotten, device):
    later = rebooted(granted, tpm)
    forgotten.clear()

    def full(self, device, now):
        raise StateError("No space left on device")

    monkeypatch.setattr(Store, "used", full)
    assert "No space left" in open_kept(later)[0].detail
    assert not later.marks.has("verified", "data")
    assert forgotten == [device.key]


def test_it_is_mounted_where_it_belongs_and_goes_again(
    enrolled, allowed, tpm, tmp_path, monkeypatch, clock
):
    root = tmp_path / "root"
    for name in ("proc/self", "proc/sys/vm", "sys/block"):
        (root / name).mkdir(parents=True)
    kernel = Machine(root)
    monkeypatch.setattr("securecloud_agent.volumes.kernel.Kernel.has_device_mapper", lambda _: True)
    monkeypatch.setattr("securecloud_agent.main.wiring._ROOT", root)
    monkeypatch.setattr("securecloud_agent.main.wiring.run", kernel)
    monkeypatch.setattr("agent.tests.machine.run", tpm.run)
    assert make_pass(enrolled, ()).outcomes[0].volume == "mounted"
    kernel.mounts("")
    kernel.unmap()
    kernel.calls.clear()
    later = rebooted(enrolled, tpm)
    (outcome,) = open_kept(later)
    assert (outcome.code, outcome.volume) == ("offline", "mounted")
    assert kernel.named("mount")[0][-1] == "/srv/data"
    assert [call[1] for call in kernel.named("cryptsetup")] == ["open"]
    clock.time += 4 * HOUR
    assert Watch(later).attend()[1]
    assert later.volumes().state("data") is State.CLOSED
    assert [call[1] for call in kernel.named("cryptsetup")] == ["open", "close"]
    assert not sealed_file(later).exists()


def test_another_disk_in_its_place_is_not_opened(granted, tpm, blank_file):
    later = rebooted(granted, tpm)
    blank_file.write_bytes(bytes(24 << 20))
    (outcome,) = open_kept(later)
    assert (outcome.outcome, outcome.volume) == ("failed", "closed")
    assert "refusing to format it again" in outcome.detail
    assert later.graces().left("data") is None
    assert blank_file.read_bytes() == bytes(24 << 20)


# The service


class Played:
    """A service whose passes end as told, by a clock that is turned by its waits."""

    def __init__(self, agent, clock, *steps) -> None:
        self.steps, self.clock = list(steps), clock
        self.opened_at: list[float] = []
        self.begun = clock.time
        self.service = Service(agent, self._make, self._wait, open_kept=self._open)

    def _make(self, agent, devices):
        step = self.steps.pop(0)
        if isinstance(step, AgentError):
            raise step
        return make_pass(agent, devices)

    def _wait(self, event, seconds):
        self.clock.time += seconds
        if not self.steps:
            self.service.on_stop(signal.SIGTERM, None)

    def _open(self, agent):
        self.opened_at.append(self.clock.time - self.begun)
        return open_kept(agent)

    def run(self):
        self.service.work()
        return self.opened_at


AWAY = UnreachableError("nobody there")


def test_a_server_is_looked_for_as_long_as_the_deadline(granted, tpm, clock, capsys, monkeypatch):
    ready = []
    monkeypatch.setattr(
        "securecloud_agent.main.run.notify_ready",
        lambda: ready.append(later.marks.has("verified", "data")),
    )
    later = rebooted(granted, tpm)
    opened = Played(later, clock, *[AWAY] * 40).run()
    assert opened[0] == pytest.approx(later.settings.deadline, abs=1)
    assert later.marks.has("verified", "data")
    assert ready[0], "what needs the volume starts after it"
    lines = capsys.readouterr().err
    assert lines.count("data: granted (offline), verified: no server could be reached") == 1


@pytest.mark.parametrize(
    "answer",
    [NotWorkingError("HTTP status 503"), NotTrustedError("another CA"), AgentError("refused")],
)
def test_a_server_that_answers_with_anything_ends_it(granted, tpm, clock, answer):
    later = rebooted(granted, tpm)
    assert Played(later, clock, *[answer] * 40).run() == []
    # And the time in which nobody answers is counted from there.
    steps = [AWAY] * 15 + [answer] + [AWAY] * 4
    assert Played(later, clock, *steps).run() == []
    assert not later.marks.has("verified", "data")


def test_a_pass_under_way_elsewhere_is_no_answer(granted, tpm, clock):
    later = rebooted(granted, tpm)
    busy = AgentError("another securecloud-agent", "busy")
    assert Played(later, clock, *[AWAY, busy] * 20).run()


def test_an_unavailable_server_is_one_that_answers(granted, tpm, listener):
    for fault in (ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL, "status 503"):
        listener.faults = [fault]
        with pytest.raises(NotWorkingError):
            make_pass(granted, ())
    # It said hello, and was gone then.
    listener.faults = [None, "drop", "drop"]
    with pytest.raises(NotWorkingError):
        make_pass(granted, ())
    listener.stop()
    with pytest.raises(UnreachableError) as gone:
        make_pass(granted, ())
    assert not isinstance(gone.value, NotWorkingError)


def test_one_server_that_answers_speaks_for_those_that_are_away(home, granted, listener):
    home.configure("https://127.0.0.1:1", listener.url, "https://127.0.0.1:2")
    agent = replace(granted, settings=load(home.config))
    # Those that are away fail first.
    agent.memory.remember_status({})
    listener.faults = [ErrorCode.UNAVAILABLE]
    with pytest.raises(NotWorkingError):
        make_pass(agent, ())


def test_unlock_asks_a_server_or_fails(granted, tpm, home, listener, capsys):
    main(["--config", str(home.config), "status"])
    listener.stop()
    granted.marks.clear("verified", ["data"])
    assert main(["--config", str(home.config), "unlock"]) == 1
    assert not granted.marks.has("verified", "data")
    assert sealed_file(granted).exists()
