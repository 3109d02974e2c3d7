# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy would do to machines: asked for, told, and refused where that was asked for."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    ApiError,
    NotSecureCloud,
)
from ansible_collections.trend.securecloud.plugins.module_utils._impact import (
    CannotForesee,
    WouldLoseKeys,
)
from ansible_collections.trend.securecloud.plugins.module_utils._resource import Change
from ansible_collections.trend.securecloud.plugins.modules import policy

EVALUATE = "POST /policies/web:evaluate"
BEFORE = {"description": "", "rules": []}
AFTER = {"description": "", "rules": [{"fact": "os.id"}]}
CHANGE = Change(policy.POLICY, "web", BEFORE, AFTER)
GRANTED = {"outcome": "granted", "code": "approved", "stays_open": True}
PENDING = {"outcome": "pending", "code": "approval_required", "stays_open": False}
APPROVED = {"outcome": "pending", "code": "approval_required", "stays_open": True}
UNKNOWN = {"outcome": "unknown", "code": None, "stays_open": None}
RULE = {
    "policy": "draft",
    "path": "rules[0]",
    "rule": "os.id equals 'debian'",
    "passed": False,
    "value": "ubuntu",
    "provenance": "claimed",
    "explanation": "is 'ubuntu'",
}
UNTOLD = {
    **RULE,
    "passed": None,
    "value": None,
    "provenance": None,
    "explanation": "not recorded: os.id",
}
NEW = {**RULE, "passed": True, "explanation": ""}
KINDS = ("lose", "unknown", "no_evidence", "changed", "gain", "unchanged")


def device(name, effect, before=None, after=None, rules=()):
    before, after = before or GRANTED, after or GRANTED
    return {
        "device": name,
        "agent": f"agent of {name}",
        "group": None,
        "effect": effect,
        "may_lose": effect == "lose" or (effect == "unknown" and before["outcome"] == "granted"),
        "before": None if effect == "no_evidence" else before,
        "after": None if effect == "no_evidence" else after,
        "rules": list(rules),
        "evidence": None,
    }


LOSES = device("a", "lose", after=PENDING, rules=[RULE])
STAYS = device("b", "unchanged")
SILENT = device("c", "no_evidence")
GAINS = device("d", "gain", before=PENDING, rules=[NEW])
UNTELLABLE = device("e", "unknown", after=UNKNOWN, rules=[UNTOLD])
CLOSES = device("f", "lose", before=APPROVED, after=PENDING)


def answer(*devices):
    totals = {kind: sum(each["effect"] == kind for each in devices) for kind in KINDS}
    lost = sum(each["may_lose"] for each in devices)
    body = {"totals": {"devices": len(devices), "may_lose": lost, **totals}}
    return {"status": 200, "body": {**body, "devices": list(devices)}}


def refusal(status, code, *fields):
    errors = [{"field": f, "expected": "else", "message": "is wrong"} for f in fields]
    return {"status": status, "body": {"code": code, "detail": code, "errors": errors}}


class Foreseen(NamedTuple):
    impact: object
    warnings: list
    client: object


def impact(replay, *devices, wanted="warn", change=CHANGE):
    """Return what the change does, the warnings, and the client."""
    client, warnings = replay({EVALUATE: answer(*devices)}), []
    return Foreseen(policy.impact_of(client, change, wanted, warnings.append), warnings, client)


def test_the_whole_draft_is_sent(replay):
    assert impact(replay, STAYS).client.changes == [(EVALUATE, {"draft": AFTER})]


@pytest.mark.parametrize(
    ("wanted", "change"),
    [
        ("ignore", CHANGE),
        ("fail", Change(policy.POLICY, "web", BEFORE, BEFORE)),
        ("fail", Change(policy.POLICY, "web", BEFORE, None)),
    ],
)
def test_nobody_asks_without_need(replay, wanted, change):
    found, warnings, client = impact(replay, LOSES, wanted=wanted, change=change)
    assert (client.sent, found, warnings) == ([], None, [])


def test_it_warns_of_machines_that_may_lose_their_key_and_says_why(replay):
    found, (warning,), client = impact(replay, LOSES, STAYS, UNTELLABLE)
    assert client.changes
    assert found.may_lose == 2
    assert warning == (
        "policy web: 2 of 3 devices may lose their key: "
        "a (agent agent of a): granted (approved) -> pending (approval_required) "
        "by draft rules[0]: os.id equals 'debian': is 'ubuntu' (claimed); "
        "e (agent agent of e): granted (approved) -> unknown "
        "by draft rules[0]: os.id equals 'debian': not recorded: os.id"
    )


def test_it_is_silent_when_nobody_loses(replay):
    for wanted in ("warn", "fail"):
        foreseen = impact(replay, STAYS, SILENT, GAINS, wanted=wanted)
        assert (foreseen.impact.may_lose, foreseen.warnings) == (0, [])


def test_only_the_first_are_named_in_a_sentence(replay):
    (warning,) = impact(replay, *[{**LOSES, "device": f"d{n}"} for n in range(12)]).warnings
    assert warning.endswith("; and 2 more")
    assert warning.count("agent of a") == 10


@pytest.mark.parametrize("loser", [LOSES, UNTELLABLE, CLOSES])
def test_it_fails_where_that_is_wanted_with_the_impact(replay, loser):
    with pytest.raises(WouldLoseKeys, match=r"1 of 2 .* Nothing was changed") as caught:
        impact(replay, loser, STAYS, wanted="fail")
    result = caught.value.result()
    assert result["code"] == "would_lose_keys"
    assert result["impact"]["devices"] == [loser]
    assert result["impact"]["totals"]["may_lose"] == 1


def test_the_text_beside_the_difference_names_each_machine_with_its_rule(replay):
    found = impact(replay, LOSES, STAYS, SILENT, GAINS, CLOSES).impact
    assert found.text().splitlines() == [
        "machines under policy web: 5, of these 2 lose, 1 gain, 1 no evidence, 1 unchanged",
        "lose: a (agent agent of a): granted (approved) -> pending (approval_required)",
        "    draft rules[0]: os.id equals 'debian': is 'ubuntu' (claimed)",
        "gain: d (agent agent of d): pending (approval_required) -> granted (approved)",
        "    draft rules[0]: os.id equals 'debian': holds for \"ubuntu\" (claimed)",
        "lose: f (agent agent of f): pending (approval_required), stays open until then -> "
        "pending (approval_required)",
    ]


def test_the_difference_stays_as_it_is_where_nothing_happens(replay):
    found = impact(replay, STAYS, SILENT).impact
    result = {"changed": True, "diff": CHANGE.diff()}
    assert policy.with_impact(result, found)["diff"] == CHANGE.diff()
    assert policy.with_impact(result, found)["impact"]["devices"] == []
    assert policy.with_impact(result, None) == {**result, "impact": None}


def test_the_impact_stands_behind_the_difference(replay):
    found = impact(replay, LOSES).impact
    result = policy.with_impact({"changed": True, "diff": CHANGE.diff()}, found)
    assert result["diff"] == [CHANGE.diff(), {"prepared": found.text()}]


def test_a_wrong_draft_is_named_as_a_push_would(replay):
    client = replay({EVALUATE: refusal(422, "invalid_request", "draft.rules[0].fact", "draft")})
    with pytest.raises(ApiError, match=r"rules\[0\]\.fact: is wrong") as caught:
        policy.impact_of(client, CHANGE, "warn", pytest.fail)
    assert [error.field for error in caught.value.errors] == ["rules[0].fact", "draft"]
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize("body", [{}, {"totals": {}, "devices": []}, {"totals": {"may_lose": 0}}])
def test_an_answer_to_another_question_stops_everybody(replay, body):
    client = replay({EVALUATE: {"status": 200, "body": body}})
    with pytest.raises(NotSecureCloud, match="does not say what policy web would do"):
        policy.impact_of(client, CHANGE, "warn", pytest.fail)


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (405, "method_not_allowed")])
def test_a_server_that_cannot_tell_stops_only_who_asked_to_be_sure(replay, status, code):
    replies, warnings = {EVALUATE: refusal(status, code)}, []
    assert policy.impact_of(replay(replies), CHANGE, "warn", warnings.append) is None
    assert "cannot say which machines" in warnings[0]
    with pytest.raises(CannotForesee, match=r"upgrade it"):
        policy.impact_of(replay(replies), CHANGE, "fail", pytest.fail)


@pytest.mark.parametrize(("status", "code"), [(403, "not_authorized"), (503, "unavailable")])
def test_any_other_refusal_stops_everybody(replay, status, code):
    client = replay({EVALUATE: refusal(status, code)})
    with pytest.raises(ApiError, match=code):
        policy.impact_of(client, CHANGE, "warn", pytest.fail)
