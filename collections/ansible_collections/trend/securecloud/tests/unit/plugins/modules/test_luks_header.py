# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The header that was refused last becomes the expected one, and no other."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    InvalidOption,
    WrongState,
)
from ansible_collections.trend.securecloud.plugins.modules.luks_header import accept

OLD, NEW, OTHER = "a" * 64, "b" * 64, "c" * 64
ACCEPT = "POST /devices/d:accept-header"


def device(digest=OLD, refused=NEW, acceptable=True):
    header = {"digest": digest, "changing": False, "refused": refused, "copy_of": OLD}
    header["acceptable"] = refused is not None and acceptable
    return {"name": "d", "agent": "web1", "header": header}


def shows(body):
    return {"GET /devices/d": {"status": 200, "body": body}}


@pytest.mark.parametrize("foresee", [True, False])
def test_what_was_refused_is_accepted(replay, foresee):
    after = device(NEW, None)
    client = replay({**shows(device()), ACCEPT: {"status": 200, "body": after}})
    found = accept(client, "d", NEW, "ours", foresee)
    assert (found["changed"], found["device"]) == (True, after)
    assert (found["diff"]["before"], found["diff"]["after"]) == ({"header": OLD}, {"header": NEW})
    assert client.changes == ([] if foresee else [(ACCEPT, {"digest": NEW, "reason": "ours"})])


@pytest.mark.parametrize("refused", [None, OTHER])
def test_what_is_expected_already_is_left_alone(replay, refused):
    client = replay(shows(device(NEW, refused)))
    found = accept(client, "d", NEW, "ours", False)
    assert (found["changed"], found["device"], client.changes) == (False, device(NEW, refused), [])


@pytest.mark.parametrize("foresee", [True, False])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (device(refused=OTHER), "refused last is " + OTHER),
        (device(acceptable=False), "is damaged"),
        (device(refused=None), "no LUKS header of d was refused"),
        ({"name": "d", "agent": "web1", "header": None}, "known yet"),
    ],
)
def test_no_other_is(replay, body, said, foresee):
    client = replay(shows(body))
    with pytest.raises(WrongState, match=said):
        accept(client, "d", NEW, "ours", foresee)
    assert client.changes == []


@pytest.mark.parametrize("digest", ["", "b" * 63, "B" * 64, "b" * 64 + "\n"])
def test_what_is_no_digest(replay, digest):
    with pytest.raises(InvalidOption, match="digest: expected 64 hexadecimal digits"):
        accept(replay({}), "d", digest, "ours", False)
