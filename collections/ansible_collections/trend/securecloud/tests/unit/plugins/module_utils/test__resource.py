# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deciding what to do with an object, and doing exactly that."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.module_utils._resource import (
    Change,
    Kind,
    converge,
    decide_absent,
    decide_present,
    given,
)
from ansible_collections.trend.securecloud.plugins.modules.device import DEVICE
from ansible_collections.trend.securecloud.plugins.modules.device_group import GROUP
from ansible_collections.trend.securecloud.plugins.modules.policy import POLICY

ISCSI = {"portal": "10.0.0.5:3260", "target": "iqn.2026-01.org.example:web1", "lun": 1}
MOUNTED = {
    "source": "/dev/vdb",
    "iscsi": None,
    "filesystem": "ext4",
    "mount_point": "/srv",
    "options": ["defaults"],
    "read_only": False,
    "initialise": "never",
}


def test_a_new_object_gets_the_defaults_for_what_is_left_out():
    change = decide_present(POLICY, "new", None, {"description": "x"})
    assert change.before is None
    assert change.after == {
        "description": "x",
        "rules": [],
        "on_match": {"action": "manual"},
        "on_fail": {"action": "manual"},
        "force": False,
        "grace": {"period": 0, "postpone": 0},
        "offline": {"period": 0, "boots": 1, "pcrs": [7]},
    }


def test_what_is_left_out_keeps_its_value(replay):
    current = replay().get("/policies/web")
    change = decide_present(POLICY, "web", current, {"description": "Web"})
    assert change.after == {**change.before, "description": "Web"}


def test_what_is_as_wanted_needs_nothing(replay):
    current = replay().get("/policies/web")
    change = decide_present(POLICY, "web", current, {"description": "Web servers"})
    assert not change.needed


def test_an_action_is_replaced_as_a_whole(replay):
    current = replay().get("/policies/web")
    change = decide_present(POLICY, "web", current, {"on_match": {"action": "deny"}})
    assert change.after["on_match"] == {"action": "deny"}


def test_members_of_a_volume_are_edited_one_by_one(replay):
    current = replay().get("/devices/web1-data")
    change = decide_present(DEVICE, "web1-data", current, {"volume": {"mount_point": "/data"}})
    assert change.after["volume"] == {**change.before["volume"], "mount_point": "/data"}
    assert change.before["volume"]["mount_point"] == "/srv/data"


@pytest.mark.parametrize("field", ["group", "policy"])
def test_an_empty_string_takes_an_assignment_away(replay, field):
    current = replay().get("/devices/web1-data")
    change = decide_present(DEVICE, "web1-data", current, {field: ""})
    assert change.after[field] is None


def test_an_empty_mount_point_means_not_mounted(replay):
    current = replay().get("/devices/web1-data")
    change = decide_present(DEVICE, "web1-data", current, {"volume": {"mount_point": ""}})
    assert change.after["volume"]["mount_point"] is None
    assert change.needed


def test_a_group_whose_policy_is_taken_away_needs_it_only_once():
    kind, reply = GROUP, None
    change = decide_present(kind, "g", reply, {"policy": ""})
    assert change.after == {"description": "", "policy": None}


@pytest.mark.parametrize(
    ("wanted", "field"),
    [({"volume": {"source": "/dev/vdb"}}, "agent"), ({"agent": "web1"}, "volume.source")],
)
def test_a_new_object_needs_what_has_no_default(wanted, field):
    with pytest.raises(InvalidOption, match=f"{field}: is required") as raised:
        decide_present(DEVICE, "d", None, wanted)
    assert raised.value.errors[0].field == field


def test_either_of_two_alternatives_is_enough_for_a_new_object():
    change = decide_present(DEVICE, "d", None, {"agent": "web1", "volume": {"iscsi": ISCSI}})
    assert (change.after["volume"]["source"], change.after["volume"]["iscsi"]) == (None, ISCSI)
    with pytest.raises(InvalidOption, match=r"volume\.iscsi in its place"):
        decide_present(DEVICE, "d", None, {"agent": "web1"})


def test_one_alternative_takes_the_place_of_the_other(replay):
    current = replay().get("/devices/web1-data")
    there = decide_present(DEVICE, "web1-data", current, {"volume": {"iscsi": ISCSI}})
    assert there.after["volume"] == {**there.before["volume"], "source": None, "iscsi": ISCSI}
    current.body["volume"] = there.after["volume"]
    again = decide_present(DEVICE, "web1-data", current, {"volume": {"iscsi": ISCSI}})
    assert not again.needed
    back = decide_present(DEVICE, "web1-data", current, {"volume": {"source": "/dev/vdb"}})
    assert (back.after["volume"]["source"], back.after["volume"]["iscsi"]) == ("/dev/vdb", None)
    kept = decide_present(DEVICE, "web1-data", current, {"volume": {"mount_point": "/data"}})
    assert (kept.after["volume"]["source"], kept.after["volume"]["iscsi"]) == (None, ISCSI)


def test_deleting_what_is_not_there_needs_nothing():
    assert not decide_absent(POLICY, "none", None).needed


def test_check_mode_sends_nothing_and_foresees_the_object(replay):
    client = replay()
    current = client.get("/policies/web")
    change = decide_present(POLICY, "web", current, {"description": "new"})
    result = converge(client, change, check_mode=True)
    assert result["changed"]
    assert result["policy"]["description"] == "new"
    assert result["policy"]["version"] == 3
    assert not client.changes


def test_a_change_sends_the_whole_object_with_the_etag_it_was_decided_on(replay):
    client = replay({"PUT /policies/web": {"status": 200, "body": {"name": "web", "version": 4}}})
    current = client.get("/policies/web")
    change = decide_present(POLICY, "web", current, {"description": "new"})
    result = converge(client, change, check_mode=False)
    assert result["policy"] == {"name": "web", "version": 4}
    assert client.changes == [("PUT /policies/web", dict(change.after))]
    assert client.sent[-1][2]["If-Match"] == '"p3"'


def test_check_mode_and_real_run_give_the_same_changed_and_diff(replay):
    answers = []
    for check_mode in (True, False):
        client = replay({"PUT /policies/none": {"status": 201, "body": {"name": "none"}}})
        change = decide_present(POLICY, "none", client.find("/policies/none"), {})
        result = converge(client, change, check_mode)
        answers.append((result["changed"], result["diff"]))
    assert answers[0] == answers[1]


def test_deleting_shows_what_goes(replay):
    client = replay({"DELETE /devices/web1-data": {"status": 204}})
    change = decide_absent(DEVICE, "web1-data", client.get("/devices/web1-data"))
    result = converge(client, change, check_mode=False)
    assert result["device"] is None
    assert result["diff"]["after"] == {}
    assert result["diff"]["before"]["agent"] == "web1"
    assert client.changes == [("DELETE /devices/web1-data", None)]


def test_the_diff_names_the_object():
    diff = Change(Kind("policy", "policies", {}), "web", None, {"description": "x"}).diff()
    assert (diff["before_header"], diff["before"]) == ("policy web", {})


def test_given_leaves_out_what_was_not_given_at_every_depth():
    options = {"a": None, "b": {"c": None, "d": 0}, "e": []}
    assert given(options) == {"b": {"d": 0}, "e": []}
