# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the module's options to the server's command line, and back."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.modules.server_restore import restore

SERVER = {"server_id": "s-1", "fingerprint": "f"}
WORDS = ["restore", "--from", "/b.age", "--identity", "-"]


class Program:
    """Stands for the server's command line, where the backup's server is or is not."""

    def __init__(self, absent=True):
        self.absent = absent
        self.calls = []

    def json(self, arguments, stdin="", accepted=(0,)):
        assert stdin == "secret"
        self.calls.append(arguments)
        if "--check" in arguments:
            return {"changed": self.absent, "audit_size": 7, **SERVER}
        return {"changed": True, "audit_size": 9, "audit_root": "ab", **SERVER}


@pytest.fixture
def options():
    return {"src": "/b.age", "identity": "secret", "master_key_to": None, "keep_lineages": False}


def test_a_backup_is_restored_where_no_server_is(options):
    program = Program()
    done = restore(program, options, False)
    assert program.calls == [[*WORDS, "--check"], WORDS]
    assert done == {"changed": True, "audit_size": 9, "audit_root": "ab", **SERVER}


def test_options_become_flags_and_the_identity_none(options):
    program = Program()
    restore(program, {**options, "master_key_to": "/run/k", "keep_lineages": True}, False)
    assert program.calls[1] == [*WORDS, "--master-key-to", "/run/k", "--keep-lineages"]
    assert "secret" not in str(program.calls)


def test_its_server_is_left_alone(options):
    program = Program(absent=False)
    assert restore(program, options, False) == {"changed": False, **SERVER}
    assert program.calls == [[*WORDS, "--check"]]


@pytest.mark.parametrize("absent", [True, False])
def test_check_mode_only_foresees(options, absent):
    program = Program(absent)
    assert restore(program, options, True) == {"changed": absent, **SERVER}
    assert program.calls == [[*WORDS, "--check"]]
