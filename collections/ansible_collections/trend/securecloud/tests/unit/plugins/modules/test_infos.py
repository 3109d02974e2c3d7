# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules that only read."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.modules import (
    agent_info,
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


@pytest.mark.parametrize("name", ["web1", "old"])
def test_an_agent_is_there_whatever_its_state(replay, name):
    assert names(agent_info.read(replay(), name)) == [name]
