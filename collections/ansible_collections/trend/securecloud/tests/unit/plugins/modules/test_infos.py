# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that only read."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.modules import (
    agent_info,
    audit_info,
    device_info,
    key_request_info,
    policy_info,
)


def page(*names):
    items = [{"name": name} for name in names]
    return {"status": 200, "body": {"items": items, "next_cursor": None}}


def names(items):
    return [item["name"] for item in items]


def test_one_policy_all_policies_or_all_versions(replay):
    client = replay(
        {
            "GET /policies?limit=500": page("default", "web"),
            "GET /policies/web/versions?limit=500": page("web", "web", "web"),
        }
    )
    assert names(policy_info.read(client, "web", False)) == ["web"]
    assert names(policy_info.read(client, "web", True)) == ["web", "web", "web"]
    assert names(policy_info.read(client, None, False)) == ["default", "web"]


def test_what_does_not_exist_is_an_empty_list(replay):
    client = replay()
    assert policy_info.read(client, "none", False) == []
    assert agent_info.read(client, "new") == []
    assert device_info.read(client, {"name": "none"}) == []


def test_filters_go_to_the_server(replay):
    client = replay(
        {
            "GET /devices?agent=web1&limit=500": page("a"),
            "GET /key-requests?state=pending&limit=500": page("r"),
        }
    )
    chosen = {"name": None, "agent": "web1", "group": None, "policy": None}
    assert names(device_info.read(client, chosen)) == ["a"]
    waiting = {"id": None, "state": "pending", "device": None, "agent": None}
    assert names(key_request_info.read(client, waiting)) == ["r"]


OPTIONS = {
    "since": None,
    "until": None,
    "actor": None,
    "action": None,
    "target": None,
    "outcome": None,
    "limit": 1000,
}


def test_events_are_chosen_by_the_server(replay):
    query = (
        "since=2026-01-01T00%3A00%3A00Z&until=2026-02-01T00%3A00%3A00Z&actor=token%3Aci"
        "&action=key.released&outcome=success&object=device%3Aweb1-data&limit=500"
    )
    client = replay({"GET /audit-events?" + query: page("a", "b")})
    options = {
        "since": "2026-01-01T00:00:00Z",
        "until": "2026-02-01T00:00:00Z",
        "actor": "token:ci",
        "action": "key.released",
        "target": "device:web1-data",
        "outcome": "success",
        "limit": 1000,
    }
    events, truncated = audit_info.read(client, options)
    assert (names(events), truncated) == (["a", "b"], False)


@pytest.mark.parametrize(("limit", "kept"), [(1, ["a"]), (2, ["a", "b"]), (3, ["a", "b", "c"])])
def test_no_more_events_than_asked_for(replay, limit, kept):
    client = replay({"GET /audit-events?limit=%d" % (limit + 1): page("a", "b", "c")})
    events, truncated = audit_info.read(client, {**OPTIONS, "limit": limit})
    assert (names(events), truncated) == (kept, limit < 3)


@pytest.mark.parametrize("limit", [0, -1, 100_001])
def test_a_limit_that_cannot_be(replay, limit):
    with pytest.raises(InvalidOption) as raised:
        audit_info.read(replay(), {**OPTIONS, "limit": limit})
    assert [error.field for error in raised.value.errors] == ["limit"]


@pytest.mark.parametrize("name", ["web1", "old"])
def test_an_agent_is_there_whatever_its_state(replay, name):
    assert names(agent_info.read(replay(), name)) == [name]
