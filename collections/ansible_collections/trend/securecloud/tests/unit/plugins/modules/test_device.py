# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the options of device want."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._client import Reply
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.module_utils._resource import decide_absent
from ansible_collections.trend.securecloud.plugins.modules.device import (
    DEVICE,
    IN_USE,
    check_unused,
    volume_argument,
    wanted_device,
    with_port,
)

VOLUME = dict.fromkeys(DEVICE.defaults["volume"])
OPTIONS = {"agent": None, "group": None, "policy": None, "enabled": None, "volume": None}


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("10.0.0.5", "10.0.0.5:3260"),
        ("10.0.0.5:860", "10.0.0.5:860"),
        ("[2001:db8::5]", "[2001:db8::5]:3260"),
        ("[2001:db8::5]:860", "[2001:db8::5]:860"),
        ("2001:db8::5", "2001:db8::5"),
        ("san.example.org", "san.example.org:3260"),
        ("", ""),
    ],
)
def test_the_port_is_written_as_the_server_does(said, sent):
    assert with_port(said) == sent


def test_only_what_was_given_is_wanted():
    iscsi = {"portal": "10.0.0.5", "target": "iqn.2026-01.org.example:web1", "lun": 0}
    options = {**OPTIONS, "name": "d", "volume": {**VOLUME, "iscsi": iscsi}}
    wanted = {"volume": {"iscsi": {**iscsi, "portal": "10.0.0.5:3260"}}}
    assert wanted_device(options) == wanted
    assert wanted_device({**OPTIONS, "name": "d"}) == {}


@pytest.mark.parametrize("state", IN_USE)
def test_what_a_machine_uses_is_only_removed_with_force(state):
    current = Reply(200, {"agent": "web1", "volume_state": state}, '"1"')
    with pytest.raises(InvalidOption, match=f"device d, which is {state} on agent web1"):
        check_unused(decide_absent(DEVICE, "d", current))
    check_unused(decide_absent(DEVICE, "d", current, force=True))


@pytest.mark.parametrize("state", ["closed", None])
def test_what_no_machine_uses_is_removed(state):
    current = Reply(200, {"agent": "web1", "volume_state": state}, '"1"')
    check_unused(decide_absent(DEVICE, "d", current))
    check_unused(decide_absent(DEVICE, "d", None))


def test_every_member_of_a_volume_is_an_option():
    assert set(volume_argument()["options"]) == set(DEVICE.defaults["volume"])
