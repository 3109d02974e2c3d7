# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the module's options to the server's command line, and back."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import CommandFailed
from ansible_collections.trend.securecloud.plugins.modules.keystore import keep

EVERYTHING = {"all_in": "kmip", "rewrapped": True, "proven": True}
NOTHING = {"all_in": None, "rewrapped": False, "proven": False}


class Program:
    """Stands for the server's command line."""

    def __init__(self, left=2, **failed):
        self.calls = []
        self.left = left
        self.failed = failed

    def json(self, arguments, stdin="", accepted=(0,)):
        self.calls.append(arguments)
        if "--check" in arguments:
            return {"changed": self.left > 0, "left": self.left}
        return {"moved": self.left, "renewed": self.left, "keys": 7, "failed": self.failed}


def test_options_become_arguments():
    program = Program()
    done = keep(program, EVERYTHING, False)
    assert program.calls == [
        ["keystore", "migrate", "--to", "kmip"],
        ["keystore", "rewrap"],
        ["keystore", "prove"],
    ]
    assert done == {"changed": True, "moved": 2, "renewed": 2, "keys": 7}


def test_check_mode_foresees_and_proves_nothing():
    program = Program()
    foreseen = keep(program, EVERYTHING, True)
    assert program.calls == [
        ["keystore", "migrate", "--to", "kmip", "--check"],
        ["keystore", "rewrap", "--check"],
    ]
    assert foreseen == {"changed": True, "moved": 2, "renewed": 2}


def test_where_nothing_is_left_nothing_changes():
    assert not keep(Program(left=0), EVERYTHING, False)["changed"]
    assert not keep(Program(), {**NOTHING, "proven": True}, False)["changed"]


def test_keys_that_are_in_the_way_are_named():
    program = Program(**{"web1-data": "the KMIP server does not have it"})
    with pytest.raises(CommandFailed, match="web1-data: the KMIP server does not have it"):
        keep(program, {**NOTHING, "proven": True}, False)
