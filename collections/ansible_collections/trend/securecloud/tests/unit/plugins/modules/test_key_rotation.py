# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a key is replaced, and how long it is waited for."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    InvalidOption,
    WrongState,
)
from ansible_collections.trend.securecloud.plugins.modules import key_rotation

DAY = 86400
ACTIVATED = 1_800_000_000
KEY = {
    "device": "d",
    "version": 1,
    "state": "active",
    "activated_at": "2027-01-15T08:00:00Z",
    "successor": None,
}
REPLACED = {**KEY, "successor": {"version": 2, "created_at": "2027-02-15T08:00:00Z"}}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90m", 5400), ("24h", DAY), ("90d", 90 * DAY), ("2w", 14 * DAY)],
)
def test_ages(text, seconds):
    assert key_rotation.seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5d", "90 d", "1y", "9999999999s", "1d "])
def test_what_is_no_age(text):
    with pytest.raises(InvalidOption, match=r"older_than: .* is no age; use a number with one of"):
        key_rotation.seconds_of(text)


@pytest.mark.parametrize(
    ("key", "wanted", "days", "step"),
    [
        (KEY, "replaced", 90, "rotate"),
        (KEY, "replaced", 89, None),
        (REPLACED, "replaced", 90, None),
        ({**KEY, "state": "pre_active", "activated_at": None}, "replaced", 90, None),
        (KEY, "cancelled", 90, None),
        (REPLACED, "cancelled", 0, "cancel-rotation"),
    ],
)
def test_the_step(key, wanted, days, step):
    assert key_rotation.decide(key, wanted, 90 * DAY, ACTIVATED + days * DAY) == step
    after = key_rotation.foreseen(key, step)
    if step:
        assert bool(after["successor"]) is (step == "rotate")
        assert key_rotation.decide(after, wanted, 90 * DAY, ACTIVATED + days * DAY) is None
    else:
        assert after == key


@pytest.mark.parametrize("state", ["deactivated", "destroyed"])
def test_a_key_that_is_out_of_use_is_not_replaced(state):
    with pytest.raises(WrongState, match=f"the key of d is {state} and cannot be replaced"):
        key_rotation.decide({**KEY, "state": state}, "replaced", 0, ACTIVATED)


class Time:
    def __init__(self):
        self.now = 0.0

    def clock(self):
        return self.now

    def pause(self, seconds):
        self.now += seconds


def test_a_controller_whose_clock_is_behind_replaces_all_the_same():
    assert key_rotation.decide(KEY, "replaced", 0, ACTIVATED - 60) == "rotate"


def rotation(replay, answers):
    time = Time()
    client = replay({"GET /keys/d": [{"status": 200, "body": each} for each in answers]})
    return key_rotation.Rotation(client, "d", time.clock, time.pause), time


def test_it_waits_until_the_machine_is_done(replay):
    done = {**KEY, "version": 2}
    waiting, time = rotation(replay, [REPLACED, REPLACED, done])
    assert waiting.wait(REPLACED, 10) == done
    assert time.now == 3


def test_what_is_done_already_is_not_waited_for(replay):
    waiting, time = rotation(replay, [])
    assert waiting.wait(KEY, 10) == KEY
    assert time.now == 0


@pytest.mark.parametrize("after", [KEY, {**KEY, "version": 2, "state": "deactivated"}])
def test_what_was_given_up_meanwhile_is_no_success(replay, after):
    waiting = rotation(replay, [REPLACED, after])[0]
    with pytest.raises(WrongState, match=r"was given up meanwhile: it is version"):
        waiting.wait(REPLACED, 10)


def test_a_machine_that_does_not_answer_in_time_is_told(replay):
    waiting, time = rotation(replay, [REPLACED] * 10)
    with pytest.raises(WrongState, match=r"the machine of d has not replaced the key within 3 s"):
        waiting.wait(REPLACED, 3)
    assert time.now == 3
