"""Every combination of what the server says and what the machine shows has one safe plan."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_agent.decide.model import UNKNOWN_KIND, Content, Kind, Observed, State
from securecloud_agent.decide.plan import claim, in_order, plan
from securecloud_protocol.messages import DECISION_CODES, DeviceDecision, Grace, IscsiTarget, Volume

UUID = "11111111-2222-3333-4444-555555555555"
PLACE = IscsiTarget("10.0.0.5:3260", "iqn.2026-01.org.example:db", 1)
OTHER = "99999999-2222-3333-4444-555555555555"
VOLUME = Volume("/dev/sdb", None, "ext4", "/srv", ("defaults",), False, "if_blank", None)
PINNED = replace(VOLUME, initialise="never", luks_uuid=UUID)
GRANTED = DeviceDecision("data", "granted", "approved", "1", None, bytes(64), 1, bytes(32), VOLUME)
CHECKED = replace(GRANTED, code="checked", key=None)
DENIED = DeviceDecision("data", "denied", "policy", "1", None, None, None, None, None)
LUKS = Observed(content=Content.LUKS, luks_uuid=UUID)
BLANK = Observed(content=Content.BLANK)


def kinds(decision, observed, volume=VOLUME):
    return [action.kind for action in plan(decision, observed, volume)]


def reason(decision, observed, volume=VOLUME):
    (action,) = plan(decision, observed, volume)
    assert action.kind is Kind.REFUSE
    return action.reason


def test_blank_volume_is_formatted_opened_and_mounted():
    assert kinds(GRANTED, BLANK) == [Kind.FORMAT, Kind.OPEN, Kind.MAKE_FILESYSTEM, Kind.MOUNT]


def test_without_device_mapper_the_key_is_proved():
    assert kinds(GRANTED, replace(BLANK, device_mapper=False)) == [Kind.FORMAT, Kind.VERIFY]
    assert kinds(GRANTED, replace(LUKS, device_mapper=False), PINNED) == [Kind.VERIFY]


def test_known_volume_is_opened_and_mounted_only():
    assert kinds(GRANTED, LUKS, PINNED) == [Kind.OPEN, Kind.MOUNT]
    assert kinds(GRANTED, LUKS, replace(PINNED, mount_point=None)) == [Kind.OPEN]


def test_crash_between_format_and_acknowledgement_is_caught_up_with():
    assert kinds(GRANTED, LUKS) == [Kind.OPEN, Kind.MAKE_FILESYSTEM, Kind.MOUNT]


def test_open_but_unmounted_volume_is_mounted_after_a_check():
    assert kinds(CHECKED, Observed(state=State.OPENED)) == [Kind.MOUNT]
    assert kinds(CHECKED, Observed(state=State.MOUNTED)) == [Kind.NOTHING]


@pytest.mark.parametrize(("detail", "offered"), [(UNKNOWN_KIND, True), ("ext4", False)])
def test_a_header_is_not_offered_for_another_disk(detail, offered):
    seen = Observed(content=Content.OTHER, detail=detail, header_copy="/var/copy")
    assert ("luksHeaderRestore" in reason(GRANTED, seen, PINNED)) is offered
    assert "luksHeaderRestore" not in reason(GRANTED, seen)


def test_a_disk_that_is_gone_is_told():
    seen = Observed(state=State.MOUNTED, disk_gone=True)
    assert "its disk is gone" in reason(CHECKED, seen)
    assert kinds(DENIED, seen) == [Kind.LOCK]


def test_refusals_say_why():
    assert "`never`" in reason(GRANTED, BLANK, replace(VOLUME, initialise="never"))
    assert "read-only" in reason(GRANTED, BLANK, replace(VOLUME, read_only=True))
    assert "initialised before" in reason(GRANTED, BLANK, PINNED)
    assert "initialised before" in reason(GRANTED, replace(BLANK, remembered_uuid=UUID))
    assert OTHER in reason(GRANTED, replace(LUKS, luks_uuid=OTHER), PINNED)
    assert OTHER in reason(GRANTED, replace(LUKS, remembered_uuid=OTHER), PINNED)
    assert "cipher" in reason(GRANTED, replace(LUKS, header_problem="the cipher is null"))
    assert "ext4" in reason(GRANTED, Observed(content=Content.OTHER, detail="ext4"))
    assert "does not exist" in reason(
        GRANTED, Observed(content=Content.ABSENT, detail="it does not exist")
    )
    assert "no key" in reason(replace(GRANTED, key=None), LUKS)
    assert "in the place of" in reason(
        CHECKED, Observed(state=State.MOUNTED, luks_uuid=OTHER), PINNED
    )


def test_a_held_volume_stays_closed():
    held = replace(LUKS, held=True)
    assert claim(held) == "check"
    assert kinds(CHECKED, held) == [Kind.NOTHING]


observed = st.builds(
    Observed,
    state=st.sampled_from(State),
    content=st.sampled_from(Content),
    detail=st.sampled_from(["something", "ext4"]),
    luks_uuid=st.sampled_from([None, UUID, OTHER]),
    header_problem=st.sampled_from([None, "broken"]),
    device_mapper=st.booleans(),
    remembered_uuid=st.sampled_from([None, UUID, OTHER]),
    held=st.booleans(),
    encryption=st.sampled_from([None, UUID, OTHER]),
    encryption_begun=st.booleans(),
    encryption_heading=st.booleans(),
    disk_gone=st.booleans(),
    grace_left=st.sampled_from([None, -1.0, 0.0, 0.5, 300.0]),
    connected=st.booleans(),
)
volumes = st.builds(
    Volume,
    source=st.just("/dev/sdb"),
    iscsi=st.sampled_from([None, PLACE, replace(PLACE, target="..")]),
    filesystem=st.just("ext4"),
    mount_point=st.sampled_from([None, "/srv"]),
    options=st.just(()),
    read_only=st.booleans(),
    initialise=st.sampled_from(["never", "if_blank"]),
    luks_uuid=st.sampled_from([None, UUID]),
)
decisions = st.builds(
    DeviceDecision,
    device=st.just("data"),
    outcome=st.sampled_from(["granted", "pending", "denied"]),
    code=st.sampled_from(DECISION_CODES),
    request_id=st.none(),
    retry_after=st.none(),
    key=st.sampled_from([None, bytes(64)]),
    key_version=st.just(1),
    lineage=st.none(),
    volume=st.none(),
    grace=st.sampled_from([None, Grace(300, 3600)]),
)
KEYLESS = (State.CLOSED, State.SUSPENDED)


@given(decisions, observed, st.none() | volumes)
def test_what_must_never_happen(decision, seen, volume):
    steps = [action.kind for action in plan(decision, seen, volume)]
    assert steps
    opening = {Kind.FORMAT, Kind.ENCRYPT, Kind.OPEN, Kind.VERIFY, Kind.MAKE_FILESYSTEM} & set(steps)
    if opening:
        assert decision.outcome == "granted"
        assert decision.key is not None
        assert seen.state is State.CLOSED
        assert not seen.held
        torn = Kind.ENCRYPT in steps and seen.encryption_heading
        assert seen.header_problem is None or seen.content is Content.BLANK or torn
    if Kind.FORMAT in steps:
        assert seen.content is Content.BLANK
        assert volume is not None
        assert volume.initialise == "if_blank" or seen.encryption is not None
        assert volume.luks_uuid is None
        assert seen.remembered_uuid is None
        assert not volume.read_only
    if Kind.ENCRYPT in steps:
        assert steps == [Kind.ENCRYPT]
        assert seen.encryption is not None
        assert not volume.read_only
        pins = {volume.luks_uuid, seen.remembered_uuid} - {None}
        if seen.encryption_heading:
            # Known by its digest: in_place.py looks.
            assert seen.content not in {Content.ABSENT, Content.UNKNOWN}
        elif seen.content is Content.OTHER:
            assert seen.detail == volume.filesystem
            assert not pins
            assert not seen.encryption_begun
        else:
            assert seen.content is Content.UNFINISHED
            assert pins <= {seen.luks_uuid}
            assert not seen.encryption_begun or seen.luks_uuid == seen.encryption
    if Kind.OPEN in steps and Kind.FORMAT not in steps:
        pins = {volume.luks_uuid, seen.remembered_uuid} - {None}
        assert seen.content is Content.LUKS
        assert pins <= {seen.luks_uuid}
    if Kind.MAKE_FILESYSTEM in steps:
        assert not seen.encryption_begun
    if Kind.RESUME in steps:
        assert steps == [Kind.RESUME]
        assert decision.outcome == "granted"
        assert decision.key is not None
        assert seen.state is State.SUSPENDED
        assert not seen.held
        assert seen.content is Content.LUKS
        assert seen.header_problem is None
        assert {volume.luks_uuid, seen.remembered_uuid} - {None} <= {seen.luks_uuid}


@given(decisions, observed, volumes)
def test_a_remote_disk_is_connected_for_a_grant_and_used_only_when_it_is_there(
    decision, seen, volume
):
    steps = [action.kind for action in plan(decision, seen, volume)]
    if Kind.CONNECT in steps:
        assert steps == [Kind.CONNECT]
        assert decision.outcome == "granted"
        assert decision.key is not None
        assert seen.state is State.CLOSED
        assert not seen.held
        assert volume.iscsi == PLACE
        assert not seen.connected
    elif volume.iscsi is not None and not seen.connected:
        assert set(steps) <= {Kind.REFUSE, Kind.NOTHING, Kind.LOCK, Kind.WAIT}


@given(decisions, observed, st.none() | volumes)
def test_what_is_locked_and_what_waits(decision, seen, volume):
    steps = [action.kind for action in plan(decision, seen, volume)]
    denied = decision.outcome == "denied" and decision.code != "unavailable"
    over = seen.grace_left is not None and seen.grace_left <= 0
    runs = seen.grace_left is not None and not over and not (denied and decision.grace is None)
    must_lock = decision.outcome != "granted" and seen.state not in KEYLESS
    must_lock = must_lock and not runs and (denied or over)
    assert (steps == [Kind.LOCK]) == (Kind.LOCK in steps) == must_lock
    if Kind.WAIT in steps:
        assert runs
        assert decision.outcome != "granted"


def test_what_is_suspended_is_resumed_and_nothing_else():
    suspended = replace(LUKS, state=State.SUSPENDED)
    assert claim(suspended) == "key"
    assert claim(replace(suspended, held=True)) == "check"
    assert kinds(GRANTED, suspended, PINNED) == [Kind.RESUME]
    assert kinds(DENIED, suspended) == [Kind.NOTHING]
    assert "does not hold" in reason(
        GRANTED,
        Observed(
            state=State.SUSPENDED, content=Content.OTHER, detail="ext4", encryption=OTHER,
            luks_uuid=UUID,
        ),
    )  # fmt: skip
    assert OTHER in reason(GRANTED, replace(suspended, luks_uuid=OTHER), PINNED)


def test_an_open_volume_waits_for_the_end_of_its_grace():
    graceful = replace(DENIED, grace=Grace(300, 0))
    seen = Observed(state=State.MOUNTED)
    assert kinds(graceful, replace(seen, grace_left=300.0)) == [Kind.WAIT]
    assert kinds(graceful, replace(seen, grace_left=0.0)) == [Kind.LOCK]
    # It could not be remembered, and would begin anew each time.
    assert kinds(graceful, seen) == [Kind.LOCK]
    revoked = replace(DENIED, code="revoked")
    assert kinds(revoked, replace(seen, grace_left=300.0)) == [Kind.LOCK]
    away = replace(DENIED, code="unavailable")
    assert kinds(away, replace(seen, grace_left=300.0)) == [Kind.WAIT]
    assert kinds(away, replace(seen, grace_left=-1.0)) == [Kind.LOCK]
    pending = replace(DENIED, outcome="pending", code="approval_required")
    assert kinds(pending, replace(seen, grace_left=-1.0)) == [Kind.LOCK]


@given(st.lists(st.sampled_from([VOLUME, replace(VOLUME, iscsi=PLACE), None])))
def test_no_local_volume_waits_for_a_remote_one(given_volumes):
    granted = [
        replace(GRANTED, device=f"d{number}", volume=volume)
        for number, volume in enumerate(given_volumes)
    ]
    ordered = in_order(granted)
    assert sorted(each.device for each in ordered) == sorted(each.device for each in granted)
    remote = [each.volume is not None and each.volume.iscsi is not None for each in ordered]
    assert remote == sorted(remote)


@pytest.mark.parametrize("state", [State.ENCRYPTING, State.VERIFIED, State.OPENED, State.MOUNTED])
def test_what_is_open_asks_for_a_check(state):
    assert claim(Observed(state=state)) == "check"
    assert claim(Observed()) == "key"
    assert kinds(DENIED, Observed(state=state), None) == [Kind.LOCK]
