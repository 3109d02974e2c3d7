# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of a key, and the steps between them."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    InvalidOption,
    WrongState,
)
from ansible_collections.trend.securecloud.plugins.modules import key


@pytest.mark.parametrize(
    ("current", "wanted", "steps"),
    [
        ("pre_active", "active", ()),
        ("active", "active", ()),
        ("deactivated", "active", ("restore",)),
        ("active", "deactivated", ("revoke",)),
        ("deactivated", "deactivated", ()),
        ("active", "destroyed", ("revoke", "destroy")),
        ("deactivated", "destroyed", ("destroy",)),
        ("destroyed", "destroyed", ()),
    ],
)
def test_the_steps_to_a_state(current, wanted, steps):
    assert key.decide("d", current, wanted) == steps


@pytest.mark.parametrize("wanted", ["active", "deactivated"])
def test_a_destroyed_key_does_not_come_back(wanted):
    with pytest.raises(WrongState, match=r"the key of d is destroyed and cannot become"):
        key.decide("d", "destroyed", wanted)


def test_each_step_is_taken_with_its_reason(replay):
    client = replay(
        {
            "POST /keys/d:revoke": {"status": 200, "body": {}},
            "POST /keys/d:destroy": {"status": 200, "body": {}},
            "GET /keys/d": {"status": 200, "body": {"device": "d", "state": "destroyed"}},
        }
    )
    after = key.act(client, "d", ("revoke", "destroy"), "gone for good")
    assert after["state"] == "destroyed"
    assert client.changes == [
        ("POST /keys/d:revoke", {"reason": "gone for good"}),
        ("POST /keys/d:destroy", {"reason": "gone for good"}),
    ]


@pytest.mark.parametrize("current", ["pre_active", "active", "deactivated", "destroyed"])
@pytest.mark.parametrize("wanted", ["deactivated", "destroyed"])
def test_what_is_foreseen_satisfies_the_wish(current, wanted):
    if (current, wanted) not in key.STEPS:
        return
    steps = key.decide("d", current, wanted)
    foreseen = key.foreseen({"state": current}, steps)
    assert key.decide("d", foreseen["state"], wanted) == ()


@pytest.mark.parametrize("confirm", [None, "", "other"])
def test_destroying_takes_the_name_twice(confirm):
    with pytest.raises(InvalidOption, match=r"confirm: must be d to destroy its key"):
        key.check_confirmed({"state": "destroyed", "device": "d", "confirm": confirm})


def test_revoking_takes_it_once():
    key.check_confirmed({"state": "deactivated", "device": "d", "confirm": None})
