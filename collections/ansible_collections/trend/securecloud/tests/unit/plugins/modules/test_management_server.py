# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuring and initialising: in this order, as the right account, and only foreseen in check."""

from __future__ import annotations

import grp
import os

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._configure import (
    configure,
    is_installed,
    settings_of,
)
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.modules import management_server


class Program:
    """Stands for the server's command line."""

    def __init__(self, created=(), migrated=False, before="old"):
        self.answers = {
            "configure": {"changed": before != "new", "diff": {"before": before, "after": "new"}},
            "init": {"changed": bool(created), "created": list(created), "server_id": "s1"},
            "db": {"changed": migrated},
        }
        self.calls = []

    def json(self, arguments, stdin=""):
        self.calls.append(arguments)
        return self.answers[arguments[0]]


def test_what_is_missing_is_created_and_then_migrated():
    program = Program(created=["schema"])
    result = management_server.initialise(program, "/data/token", check=False)
    assert result["changed"]
    assert program.calls == [["init", "--admin-token-file", "/data/token"], ["db", "upgrade"]]


@pytest.mark.parametrize(
    ("created", "migrated", "changed"),
    [((), False, False), (("x",), False, True), ((), True, True)],
)
def test_either_of_both_is_a_change(created, migrated, changed):
    result = management_server.initialise(Program(created, migrated), None, check=False)
    assert result["changed"] is changed


def test_check_mode_only_asks():
    program = Program()
    management_server.initialise(program, None, check=True)
    assert program.calls == [["init", "--check"], ["db", "upgrade", "--check"]]


def test_settings_are_those_that_were_given():
    options = dict.fromkeys(management_server.SECTIONS)
    options["server"] = {"listen": "[::1]:8443", "workers": None}
    settings = settings_of(options, tuple(management_server.SECTIONS))
    assert settings == {"server": {"listen": "[::1]:8443"}}


def test_the_diff_is_that_of_the_configuration_file(tmp_path):
    path = str(tmp_path / "server.toml")
    configured = configure(Program(before=""), {}, path, None, check=False)
    assert (configured.changed, configured.is_new) == (True, True)
    assert configured.diff["before_header"] == path
    assert configured.diff["after"] == "new"


def test_the_file_is_given_to_a_group_once(tmp_path):
    path = tmp_path / "server.toml"
    path.write_text("new")
    group = grp.getgrgid(os.getgid()).gr_name
    assert not configure(Program(before="new"), {}, str(path), group, check=False).changed


def test_a_group_that_does_not_exist(tmp_path):
    path = str(tmp_path / "server.toml")
    with pytest.raises(InvalidOption, match=r"group: there is no group nobody-has-this"):
        configure(Program(), {}, path, "nobody-has-this", check=False)
    assert configure(Program(), {}, path, "nobody-has-this", check=True).changed


def test_a_program_that_is_there(tmp_path):
    program = tmp_path / "securecloud-server"
    assert not is_installed(str(program))
    program.touch(0o755)
    assert is_installed(str(program))
