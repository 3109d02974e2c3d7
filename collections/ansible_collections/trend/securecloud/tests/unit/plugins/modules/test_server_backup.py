# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the module's options to the server's command line, and back."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.modules.server_backup import back_up


class Program:
    """Stands for the server's command line."""

    def __init__(self):
        self.calls = []

    def json(self, arguments, stdin="", accepted=(0,)):
        self.calls.append(arguments)
        return {"server_id": "s-1", "schema_version": 4, "audit_size": 9, "fingerprint": "f"}


@pytest.fixture
def options(tmp_path):
    return {"dest": str(tmp_path / "b.age"), "recipients": ["age1a", "age1b"], "force": False}


def test_a_backup_is_made_for_all_recipients(options):
    program = Program()
    done = back_up(program, options, False)
    assert program.calls == [
        ["backup", "--to", options["dest"], "--recipient", "age1a", "--recipient", "age1b"]
    ]
    assert done == {"changed": True, "server_id": "s-1", "schema_version": 4, "audit_size": 9}


def test_one_that_is_there_stays_unless_forced(options, tmp_path):
    (tmp_path / "b.age").write_bytes(b"")
    program = Program()
    assert back_up(program, options, False) == {"changed": False}
    assert program.calls == []
    assert back_up(program, {**options, "force": True}, False)["changed"]
    assert program.calls[0][-1] == "--force"


def test_check_mode_only_foresees(options):
    program = Program()
    assert back_up(program, options, True) == {"changed": True}
    assert program.calls == []


@pytest.mark.parametrize("recipients", [[], ["--force"], ["age1a", "ssh-ed25519 A"]])
def test_what_is_no_recipient_is_refused(options, recipients):
    with pytest.raises(InvalidOption, match="recipients"):
        back_up(Program(), {**options, "recipients": recipients}, False)
