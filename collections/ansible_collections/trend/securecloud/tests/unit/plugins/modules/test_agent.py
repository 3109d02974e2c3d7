# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the module's options to the agent's configuration and enrolment."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._configure import Configured
from ansible_collections.trend.securecloud.plugins.modules.agent import (
    Enrolment,
    argument_spec,
    settings_from,
)

OLD = Configured(changed=False, is_new=False, diff={})
NEW = Configured(changed=True, is_new=True, diff={})


class Program:
    """Stands for the agent's command line."""

    def __init__(self, enrolled):
        self.enrolled = enrolled
        self.calls = []

    def json(self, arguments, stdin=""):
        self.calls.append((arguments, stdin))
        if arguments == ["status"]:
            return {"enrolled": self.enrolled, "agent_id": "a1" if self.enrolled else None}
        return {"changed": not self.enrolled, "agent_id": "a1"}


def options(**given):
    return {**dict.fromkeys(argument_spec()), **given}


def test_only_what_is_given_is_sent():
    settings = settings_from(options(name="web1", servers=["https://h"], region="", deadline=30))
    assert settings == {
        "agent": {"name": "web1", "servers": ["https://h"]},
        "unlock": {"deadline": 30},
        "location": {"region": ""},
        "probes": {},
    }


def test_a_token_goes_in_on_stdin():
    program = Program(enrolled=False)
    found = Enrolment(program, "sce.t", None).act()
    assert (found["changed"], found["enrolled"]) == (True, True)
    assert program.calls == [(["enrol", "--token-file", "-"], "sce.t")]


def test_a_token_file_is_named():
    program = Program(enrolled=False)
    Enrolment(program, None, "/run/token").act()
    assert program.calls == [(["enrol", "--token-file", "/run/token"], "")]


@pytest.mark.parametrize("enrolled", [True, False])
def test_without_a_token_it_only_looks(enrolled):
    program = Program(enrolled)
    found = Enrolment(program, None, None).act()
    assert (found["changed"], found["enrolled"]) == (False, enrolled)
    assert program.calls == [(["status"], "")]


@pytest.mark.parametrize("enrolled", [True, False])
@pytest.mark.parametrize("token", ["sce.t", None])
def test_what_is_foreseen_is_what_happens(enrolled, token):
    foreseen = Enrolment(Program(enrolled), token, None).foresee(OLD)
    happened = Enrolment(Program(enrolled), token, None).act()
    assert [foreseen[key] for key in ("changed", "enrolled")] == [
        happened[key] for key in ("changed", "enrolled")
    ]


def test_before_there_is_a_configuration_the_agent_is_not_asked():
    program = Program(enrolled=False)
    assert Enrolment(program, "sce.t", None).foresee(NEW)["changed"]
    assert not program.calls
