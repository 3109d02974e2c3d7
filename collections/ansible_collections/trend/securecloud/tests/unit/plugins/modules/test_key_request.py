# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding the request that is meant, and deciding it once."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import WrongState
from ansible_collections.trend.securecloud.plugins.modules import key_request

LIST = "GET /key-requests?device=d&limit=1"


def request(state):
    return {"id": "r1", "device": "d", "state": state}


def listed(*states):
    return {"status": 200, "body": {"items": [request(s) for s in states], "next_cursor": None}}


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


def find(client, wait, clock):
    return key_request.Search(client, clock, clock.wait).by_device("d", wait)


@pytest.mark.parametrize(
    ("current", "wanted", "needed"),
    [
        ("pending", "approved", True),
        ("pending", "denied", True),
        ("approved", "approved", False),
        ("delivered", "approved", False),
        ("denied", "denied", False),
    ],
)
def test_only_a_pending_request_is_decided(current, wanted, needed):
    assert key_request.decide(request(current), wanted) is needed


@pytest.mark.parametrize(
    ("current", "wanted"),
    [
        ("denied", "approved"),
        ("expired", "approved"),
        ("revoked", "denied"),
        ("approved", "denied"),
        ("delivered", "denied"),
    ],
)
def test_a_decision_is_not_turned_round(current, wanted):
    with pytest.raises(WrongState, match=rf"r1 of d is {current}, so it cannot become {wanted}"):
        key_request.decide(request(current), wanted)


def test_a_pending_request_is_found_at_once(replay):
    clock = Clock()
    assert find(replay({LIST: listed("pending")}), 60, clock)["state"] == "pending"
    assert clock.now == 0


def test_an_approval_that_waits_for_its_agent_is_not_waited_for(replay):
    clock = Clock()
    assert find(replay({LIST: listed("approved")}), 60, clock)["state"] == "approved"
    assert clock.now == 0


def test_it_waits_until_one_is_pending(replay):
    clock = Clock()
    client = replay({LIST: [listed(), listed("delivered"), listed("pending")]})
    assert find(client, 60, clock)["state"] == "pending"
    assert clock.now == 2


def test_when_the_time_is_over_the_newest_counts(replay):
    clock = Clock()
    assert find(replay({LIST: listed("delivered")}), 3, clock)["state"] == "delivered"
    assert clock.now == 3


def test_without_any_request_it_says_so(replay):
    with pytest.raises(WrongState, match=r"there is no key request of d"):
        find(replay({LIST: listed()}), 0, Clock())


@pytest.mark.parametrize(("state", "verb"), [("approved", "approve"), ("denied", "deny")])
def test_the_decision_is_sent_with_its_reason(replay, state, verb):
    client = replay({f"POST /key-requests/r1:{verb}": {"status": 200, "body": request(state)}})
    assert key_request.act(client, request("pending"), state, "why")["state"] == state
    assert client.changes == [(f"POST /key-requests/r1:{verb}", {"reason": "why"})]
