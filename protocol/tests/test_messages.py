"""The wire types: exact octets, limits, and members that must agree with each other."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_world import (
    AGENT_ID,
    BOOT_ID,
    Stage,
    decisions,
    evidence_body,
    refusal,
    volume,
)
from securecloud_protocol import messages as wire
from securecloud_protocol.agent import Waiting
from securecloud_protocol.encoding import json_encode
from securecloud_protocol.errors import ErrorCode
from securecloud_protocol.state import AckState, SessionState

CODECS = {
    "server": wire.SERVER_IDENTITY,
    "enrol": wire.ENROL,
    "enrolled": wire.ENROLLED,
    "hello": wire.HELLO,
    "challenge": wire.CHALLENGE,
    "evidence": wire.EVIDENCE,
    "release": wire.RELEASE,
    "ack": wire.ACK,
    "receipt": wire.RECEIPT,
    "copy": wire.COPY,
    "kept": wire.KEPT,
    "wait": wire.WAIT,
    "wake": wire.WAKE,
}


@pytest.mark.parametrize("kind", CODECS)
def test_a_payload_comes_back_octet_by_octet(stage: Stage, kind: str) -> None:
    payload = stage.payload(kind)
    assert wire.encode(CODECS[kind], wire.decode(CODECS[kind], payload)) == payload


def test_inner_documents_come_back_octet_by_octet(stage: Stage) -> None:
    for codec, octets in (
        (wire.CHALLENGE_CORE, stage.core()),
        (wire.EVIDENCE_BODY, wire.encode(wire.EVIDENCE_BODY, evidence_body())),
        (wire.RELEASE_BODY, stage.release_body()),
    ):
        assert wire.encode(codec, wire.decode(codec, octets)) == octets


def test_exact_octets_of_small_messages() -> None:
    receipt = wire.encode(wire.RECEIPT, wire.Receipt(bytes(16)))
    assert receipt == b'{"session_id":"AAAAAAAAAAAAAAAAAAAAAA","copies":[]}'
    kept = wire.encode(wire.KEPT, wire.Kept(bytes(16)))
    assert kept == b'{"session_id":"AAAAAAAAAAAAAAAAAAAAAA"}'
    wake = wire.encode(wire.WAKE, wire.Wake(bytes(16), check=True))
    assert wake == b'{"session_id":"AAAAAAAAAAAAAAAAAAAAAA","check":true}'
    claim = wire.EvidenceBody(
        "0.1.0",
        BOOT_ID,
        (wire.DeviceClaim("a", "key", None),),
        {"f": wire.Fact(1, "claimed", None)},
    )
    assert wire.encode(wire.EVIDENCE_BODY, claim) == (
        b'{"agent_version":"0.1.0","boot_id":"' + BOOT_ID.encode() + b'",'
        b'"devices":[{"device":"a","want":"key","lineage":null,"header":null}],'
        b'"facts":{"f":{"value":1,"provenance":"claimed","error":null}},"proofs":[]}'
    )


GRANTED, CHECKED = decisions()
DENIED = wire.DeviceDecision("a", "denied", "policy", None, None, None, None, None, None)


@pytest.mark.parametrize(
    "decision",
    [
        DENIED,
        replace(DENIED, outcome="pending", code="approval_required", retry_after=15),
        replace(DENIED, code="revoked", key_version=2),
        replace(DENIED, code="header_changed"),
        replace(CHECKED, volume=volume(), lineage=None, key_version=None),
        replace(GRANTED, lineage=None),
        replace(DENIED, grace=wire.Grace(300, 3600)),
        replace(DENIED, code="rejected", grace=wire.Grace(wire.GRACE_LIMIT, 0)),
        replace(GRANTED, offline=wire.Offline(60, 1, (7,))),
        replace(CHECKED, offline=wire.Offline(wire.OFFLINE_LIMIT, 100, tuple(range(16)))),
        replace(GRANTED, successor=wire.Successor((GRANTED.key_version or 0) + 1, bytes(64))),
        replace(GRANTED, successor=wire.Successor((GRANTED.key_version or 0) + 1, None)),
        replace(CHECKED, key_version=3, successor=wire.Successor(4, None)),
    ],
)
def test_decisions_that_agree_with_themselves(decision: wire.DeviceDecision) -> None:
    encoded = wire.DEVICE_DECISION.encode(decision)
    assert wire.DEVICE_DECISION.decode(encoded) == decision


@pytest.mark.parametrize(
    ("decision", "change"),
    [
        (GRANTED, {"key": None}),
        (GRANTED, {"key_version": None}),
        (GRANTED, {"volume": None}),
        (GRANTED, {"outcome": "pending"}),
        (GRANTED, {"outcome": "denied"}),
        (GRANTED, {"code": "checked"}),
        (GRANTED, {"code": "policy"}),
        (CHECKED, {"code": "approved"}),
        (CHECKED, {"outcome": "denied"}),
        (DENIED, {"outcome": "granted"}),
        (DENIED, {"code": "approved"}),
        (DENIED, {"key": "A" * 86}),
        (DENIED, {"lineage": "A" * 43}),
        (DENIED, {"volume": wire.VOLUME.encode(volume())}),
        *(
            (decision, {"code": code, "grace": {"period": 300, "postpone": 0}})
            for decision, code in (
                (GRANTED, "approved"),
                (CHECKED, "checked"),
                (DENIED, "revoked"),
                (DENIED, "disabled"),
                (DENIED, "quarantined"),
                (DENIED, "unknown_device"),
                (DENIED, "unavailable"),
            )
        ),
        (DENIED, {"grace": {"period": 0, "postpone": 0}}),
        (DENIED, {"grace": {"period": 300}}),
        (DENIED, {"grace": {"period": 300, "postpone": -1}}),
        (DENIED, {"offline": {"period": 300, "boots": 1, "pcrs": [7]}}),
        *(
            (GRANTED, {"offline": {"period": 300, "boots": 1, "pcrs": [7]} | change})
            for change in (
                {"period": 59},
                {"period": 604_801},
                {"period": True},
                {"boots": 0},
                {"boots": 101},
                {"pcrs": []},
                {"pcrs": [7, 7]},
                {"pcrs": [7, 4]},
                {"pcrs": [16]},
                {"pcrs": [-1]},
                {"pcrs": ["7"]},
                {"pcrs": 7},
                {"bank": "sha1"},
            )
        ),
        (GRANTED, {"offline": {"period": 300, "boots": 1}}),
        (GRANTED, {"successor": {"version": GRANTED.key_version, "key": "A" * 86}}),
        (GRANTED, {"successor": {"version": 9, "key": "A" * 43}}),
        (GRANTED, {"successor": {"version": 9}}),
        (CHECKED, {"key_version": 3, "successor": {"version": 4, "key": "A" * 86}}),
        (CHECKED, {"key_version": None, "successor": {"version": 4, "key": None}}),
        (DENIED, {"key_version": 3, "successor": {"version": 4, "key": None}}),
    ],
)
def test_decisions_that_contradict_themselves(
    decision: wire.DeviceDecision, change: dict[str, Any]
) -> None:
    encoded = wire.DEVICE_DECISION.encode(decision) | change
    assert refusal(lambda: wire.DEVICE_DECISION.decode(encoded)) is ErrorCode.MALFORMED


@pytest.mark.parametrize(
    "fact",
    [
        wire.Fact(None, None, None),
        wire.Fact("x", None, None),
        wire.Fact("x", "claimed", "error"),
        wire.Fact("x", None, "error"),
        wire.Fact("x", "observed", None),
        wire.Fact(0.5, "claimed", None),
        wire.Fact("\ud800", "claimed", None),
        wire.Fact(None, None, "two\nlines"),
    ],
    ids=repr,
)
def test_facts_that_no_agent_may_send(fact: wire.Fact) -> None:
    body = replace(evidence_body(), facts={"host_name": fact})
    with pytest.raises(ValueError):
        wire.encode(wire.EVIDENCE_BODY, body)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/srv",
        "/srv/a b",
        "/srv/..data",
        "/srv/data..",
        "/srv/.hidden",
        "/dev/disk/by-id/x",
        "/é",
    ],
)
def test_paths(path: str) -> None:
    assert wire.VOLUME.encode(replace(volume(), source=path))["source"] == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "srv",
        "/..",
        "/../etc",
        "/srv/..",
        "/srv/../etc",
        "/.",
        "/srv/./x",
        "/a\nb",
        "/a\0",
        "/" * 1025,
    ]
    + [f"/a{mark}b" for mark in "\x7f\x85\x9f\u2028\u2029\u202e\u2066\u200f"],
    ids=repr,
)
def test_paths_that_lead_elsewhere_or_forge_lines(path: str) -> None:
    encoded = wire.VOLUME.encode(volume()) | {"source": path}
    assert refusal(lambda: wire.VOLUME.decode(encoded)) is ErrorCode.MALFORMED


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))))
def test_a_line_that_is_taken_is_one_line_in_a_log(text: str) -> None:
    result = {
        "device": "a",
        "key_version": 1,
        "result": "failed",
        "luks_uuid": None,
        "initialised": False,
        "detail": text,
        "header": None,
    }
    ack = {"session_id": "A" * 22, "ack_token": "A" * 64, "results": [result]}
    try:
        decoded: wire.Ack = wire.decode(wire.ACK, json_encode(ack))
    except Exception as error:
        assert getattr(error, "code", None) is ErrorCode.MALFORMED
    else:
        assert len(decoded.results[0].detail.splitlines()) <= 1


def test_which_headers_fit() -> None:
    one, two = bytes(32), bytes(range(32))
    known = wire.LuksHeader(one, one, changing=False)
    changing = replace(known, changing=True)
    for found, fits in (
        (known, (True, True)),
        (changing, (True, True)),
        (wire.LuksHeader(one, None, changing=False), (True, False)),
        (wire.LuksHeader(one, two, changing=False), (True, False)),
        (wire.LuksHeader(two, one, changing=True), (False, True)),
        (wire.LuksHeader(two, None, changing=True), (False, False)),
        (wire.LuksHeader(two, two, changing=False), (False, False)),
    ):
        assert (known.allows(found), changing.allows(found)) == fits
    unknown = replace(changing, volume_key=None)
    assert not unknown.allows(unknown)


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a" * 64, "a/b", "a b", "ä", "a\n", "../a"])
def test_device_names(stage: Stage, name: str) -> None:
    hello: wire.Hello = wire.decode(wire.HELLO, stage.payload("hello"))
    encoded = wire.HELLO.encode(hello) | {"devices": [name]}
    assert refusal(lambda: wire.HELLO.decode(encoded)) is ErrorCode.MALFORMED


def test_lists_name_nothing_twice(stage: Stage) -> None:
    hello: wire.Hello = wire.decode(wire.HELLO, stage.payload("hello"))
    core: wire.ChallengeCore = wire.decode(wire.CHALLENGE_CORE, stage.core())
    body, twice = evidence_body(), ("data", "data")
    release: wire.ReleaseBody = wire.decode(wire.RELEASE_BODY, stage.release_body())
    ack: wire.Ack = wire.decode(wire.ACK, stage.payload("ack"))
    for codec, message in (
        (wire.HELLO, replace(hello, devices=twice)),
        (wire.CHALLENGE_CORE, replace(core, devices=twice)),
        (wire.CHALLENGE_CORE, replace(core, facts=core.facts[:1] * 2)),
        (wire.EVIDENCE_BODY, replace(body, devices=body.devices[:1] * 2)),
        (wire.RELEASE_BODY, replace(release, decisions=release.decisions[:1] * 2)),
        (wire.ACK, replace(ack, results=ack.results[:1] * 2)),
    ):
        with pytest.raises(ValueError, match="twice"):
            wire.encode(codec, message)


def test_no_repr_shows_a_secret(stage: Stage) -> None:
    secret = b"\xaa" * 64
    short = secret[:32]
    session = SessionState(AGENT_ID, BOOT_ID, bytes(32), short, secret, 1, 2, 3)
    ack = AckState(AGENT_ID, bytes(16), bytes(32), *[short] * 6, 1, 0, ())
    claim = wire.DeviceClaim("a", "key", short)
    decision = replace(GRANTED, key=secret, lineage=short)
    shown = [session, ack, claim, decision, stage.world.keys, stage.world.token]
    opened = stage.deliver("evidence", stage.messages["evidence"])
    shown += [opened, stage.deliver("hello", stage.messages["hello"])]
    shown += [Waiting(bytes(16), bytes(32), short, short, short)]
    shown += [stage.deliver("wait", stage.messages["wait"])]
    assert "\\xaa" not in repr(shown)
    secrets = (stage.world.keys.token_key, stage.world.token.secret, opened.state.secret)
    assert not any(repr(each)[2:-1] in repr(shown) for each in secrets)
