# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking for checks, waiting for the answers, and what is made of them."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    NotFound,
    WrongState,
)
from ansible_collections.trend.securecloud.plugins.modules.agent_check import Checks, check

NEVER = {"check_requested_at": None, "check_answered_at": None}
ASKED = {"check_requested_at": "2026-01-31T12:00:00Z", "check_answered_at": None}
ANSWERED = {**ASKED, "check_answered_at": "2026-01-31T12:00:01Z"}
DEVICES = "GET /devices?agent=web1&limit=500"
EVIDENCE = "GET /devices/d/evidence?limit=1"
ASK = ("POST /agents/web1:check", {})


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


def ok(**body):
    return {"status": 200, "body": body}


def agent(**members):
    return ok(name="web1", state="active", **members)


def listed(*items):
    return ok(items=list(items), next_cursor=None)


def seen(outcome, code="policy"):
    return listed({"outcome": outcome, "code": code})


def device(**members):
    return {"name": "d", "volume_state": "open", "quarantined": False, **members}


def run(replay, replies, wait=10, foresee=False, names=("web1",)):
    clock = Clock()
    base = {
        "POST /agents/web1:check": agent(**ASKED),
        DEVICES: listed(device()),
        EVIDENCE: seen("granted", "checked"),
    }
    client = replay({**base, **replies})
    checks = Checks(client, list(names), clock, clock.wait)
    return check(checks, wait, foresee), client, clock


def test_it_waits_until_the_machine_was_judged(replay):
    agents = [agent(**NEVER), agent(**ASKED), agent(**ANSWERED)]
    result, client, clock = run(replay, {"GET /agents/web1": agents})
    assert result == {
        "changed": False,
        "compliant": True,
        "agents": [
            {
                "name": "web1",
                "answered": True,
                **ANSWERED,
                "devices": [
                    {"name": "d", "volume_state": "open", "outcome": "granted", "code": "checked"}
                ],
            }
        ],
    }
    assert clock.now == 2
    assert client.changes == [ASK]


def test_a_machine_that_stays_away_is_waited_for_no_longer_than_that(replay):
    agents = [agent(**NEVER), *[agent(**ASKED)] * 3]
    result, client, clock = run(replay, {"GET /agents/web1": agents}, wait=3)
    assert client.changes == [ASK]
    assert (result["compliant"], result["agents"][0]["answered"], clock.now) == (False, False, 3)


def test_without_waiting_nothing_is_said_of_compliance(replay):
    result, client, clock = run(replay, {"GET /agents/web1": agent(**NEVER)}, wait=0)
    assert "compliant" not in result
    assert (client.changes, clock.now) == ([ASK], 0)


@pytest.mark.parametrize(
    ("before", "after", "changed", "compliant"),
    [
        ("granted", "granted", False, True),
        ("granted", "denied", True, False),
        ("denied", "granted", True, True),
        ("denied", "pending", False, False),
    ],
)
def test_what_came_of_it(replay, before, after, changed, compliant):
    replies = {
        "GET /agents/web1": [agent(**NEVER), agent(**ANSWERED)],
        EVIDENCE: [seen(before), seen(after)],
    }
    result = run(replay, replies)[0]
    assert (result["changed"], result["compliant"]) == (changed, compliant)


def test_a_device_that_was_never_judged(replay):
    replies = {
        "GET /agents/web1": [agent(**NEVER), agent(**ANSWERED)],
        EVIDENCE: [listed(), seen("granted")],
    }
    assert run(replay, replies)[0]["changed"]


def test_a_device_in_quarantine_is_denied_whatever_it_showed_before(replay):
    replies = {
        "GET /agents/web1": [agent(**NEVER), agent(**ANSWERED)],
        DEVICES: listed(device(quarantined=True)),
    }
    result = run(replay, replies)[0]
    judged = result["agents"][0]["devices"][0]
    assert (judged["outcome"], judged["code"]) == ("denied", "quarantined")
    assert not result["compliant"]


def test_check_mode_asks_for_nothing(replay):
    result, client, clock = run(replay, {"GET /agents/web1": agent(**NEVER)}, foresee=True)
    assert (result["changed"], client.changes, clock.now) == (False, [], 0)
    assert "compliant" not in result


def test_nobody_is_asked_when_one_is_unknown(replay):
    unknown = {"status": 404, "body": {"code": "not_found", "detail": "there is no agent 'x'"}}
    replies = {"GET /agents/web1": agent(**NEVER), "GET /agents/x": unknown}
    with pytest.raises(NotFound, match=r"there is no agent 'x'"):
        run(replay, replies, names=("web1", "x"))


def test_nobody_is_asked_when_one_is_retired(replay):
    with pytest.raises(WrongState, match=r"retired: web1"):
        run(replay, {"GET /agents/web1": ok(name="web1", state="retired", **NEVER)})


def test_a_name_that_is_given_twice_is_asked_once(replay):
    replies = {"GET /agents/web1": [agent(**NEVER), agent(**ANSWERED)]}
    result, client = run(replay, replies, names=("web1", "web1"))[:2]
    assert client.changes == [ASK]
    assert len(result["agents"]) == 1
