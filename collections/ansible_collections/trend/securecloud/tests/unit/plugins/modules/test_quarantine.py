# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device leaves quarantine once, and with a reason."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.modules.quarantine import clear

DEVICE = {"name": "d", "agent": "web1", "quarantined": True}
CLEAR = "POST /devices/d:clear-quarantine"


@pytest.mark.parametrize("foresee", [True, False])
def test_what_is_in_quarantine_is_let_out(replay, foresee):
    after = {**DEVICE, "quarantined": False}
    client = replay(
        {
            "GET /devices/d": {"status": 200, "body": DEVICE},
            CLEAR: {"status": 200, "body": after},
        }
    )
    found = clear(client, "d", "restored", foresee)
    assert (found["changed"], found["device"]) == (True, after)
    assert found["diff"]["before"] == {"quarantined": True}
    assert client.changes == ([] if foresee else [(CLEAR, {"reason": "restored"})])


def test_what_is_not_is_left_alone(replay):
    body = {**DEVICE, "quarantined": False}
    client = replay({"GET /devices/d": {"status": 200, "body": body}})
    found = clear(client, "d", "restored", False)
    assert (found["changed"], client.changes) == (False, [])
