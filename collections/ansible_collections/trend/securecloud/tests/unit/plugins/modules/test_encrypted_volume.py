# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the module's options to the agent's command line, and back."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.modules.encrypted_volume import encrypt
from ansible_collections.trend.securecloud.plugins.modules.encrypted_volume_info import read

PROGRESS = {"phase": "encrypting", "percent": 41.0}


class Program:
    """Stands for the agent's command line."""

    def __init__(self, **told):
        self.told = {"changed": True, "outcome": "granted", "progress": None, **told}
        self.calls = []

    def json(self, arguments, stdin="", accepted=(0,)):
        self.calls.append((arguments, accepted))
        if arguments == ["status"]:
            return {"devices": [{"device": "data", "volume": "closed"}]}
        return self.told


@pytest.mark.parametrize(
    ("wait", "check", "flags"),
    [(True, False, []), (False, False, ["--background"]), (True, True, ["--check"])],
)
def test_flags(wait, check, flags):
    program = Program(volume="mounted")
    encrypt(program, "data", wait, check)
    assert program.calls[1] == (["encrypt", *flags, "data"], (0, 3))


def test_a_name_is_no_option_of_the_agent():
    program = Program(volume="closed")
    with pytest.raises(InvalidOption, match=r"name: '--check' is no name of a device"):
        encrypt(program, "--check", True, False)
    assert program.calls == []


def test_what_is_foreseen_is_what_is_done():
    foreseen = encrypt(Program(volume="closed"), "data", True, True)
    done = encrypt(Program(volume="mounted"), "data", True, False)
    assert foreseen["diff"] == done["diff"]
    assert (foreseen["finished"], done["finished"]) == (False, True)


def test_progress_is_handed_on():
    found = encrypt(Program(volume="encrypting", progress=PROGRESS), "data", False, False)
    assert (found["finished"], found["progress"]) == (False, PROGRESS)
    assert "progress" not in encrypt(Program(volume="mounted"), "data", True, False)


def test_info_of_one_and_of_all():
    status = {
        "devices": [
            {"device": "b", "volume": "mounted", "held": False, "encryption": None},
            {"device": "a", "volume": "encrypting", "held": False, "encryption": PROGRESS},
        ]
    }
    assert [each["name"] for each in read(status, None)] == ["a", "b"]
    (one,) = read(status, "a")
    assert (one["finished"], one["progress"]) == (False, PROGRESS)
    (unknown,) = read(status, "c")
    assert (unknown["volume"], unknown["finished"], unknown["progress"]) == ("closed", False, None)
