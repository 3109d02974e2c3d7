# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running our programs: what goes in where, and what their failures become."""

from __future__ import annotations

import json

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._command import Command
from ansible_collections.trend.securecloud.plugins.module_utils._errors import CommandFailed


class Recorder:
    """Stands for AnsibleModule.run_command."""

    def __init__(self, status=0, output="{}", messages=""):
        self.answer = (status, output, messages)
        self.calls = []

    def __call__(self, argv, data, handle_exceptions):
        self.calls.append((argv, data))
        return self.answer


def test_settings_go_in_as_json_on_stdin():
    run = Recorder(output='{"changed": true}')
    command = Command(run, "/opt/x/securecloud-agent", "/etc/agent.toml")
    assert command.json(["configure", "--check"], {"agent": {"name": "web1"}}) == {"changed": True}
    ((argv, data),) = run.calls
    assert argv == [
        "/opt/x/securecloud-agent",
        "--config",
        "/etc/agent.toml",
        "configure",
        "--check",
        "--json",
    ]
    assert json.loads(data) == {"agent": {"name": "web1"}}


def test_a_secret_is_on_stdin_and_in_no_argument():
    run = Recorder()
    Command(run, "a", "c").json(["enrol", "--token-file", "-"], "sce.id.secret.fp")
    ((argv, data),) = run.calls
    assert data == "sce.id.secret.fp"
    assert not any("secret" in word for word in argv)


def test_another_account_runs_it_when_one_is_named():
    run = Recorder()
    Command(run, "server", "c", "securecloud").json(["init"])
    assert run.calls[0][0][:5] == ["runuser", "--user", "securecloud", "--", "server"]


def test_a_failure_repeats_the_last_lines():
    run = Recorder(1, "", "one\n\nserver.listen: expected host:port\n")
    with pytest.raises(
        CommandFailed, match=r"a configure failed with status 1: one / server.listen"
    ):
        Command(run, "a", "c").json(["configure"])


def test_a_failure_without_words_says_so():
    with pytest.raises(CommandFailed, match=r"status 2: it said nothing"):
        Command(Recorder(2, "", ""), "a", "c").json(["init"])


@pytest.mark.parametrize("output", ["", "done", "[1]"])
def test_something_else_than_an_object_is_refused(output):
    with pytest.raises(CommandFailed, match=r"a init did not print a JSON object"):
        Command(Recorder(output=output), "a", "c").json(["init"])


def test_a_program_that_is_missing():
    def run(*_arguments, **_options):
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(CommandFailed, match=r"cannot run /opt/none: No such file"):
        Command(run, "/opt/none", "c").json(["init"])
