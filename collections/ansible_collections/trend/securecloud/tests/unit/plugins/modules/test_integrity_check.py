# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the module's options to the agent's command line, and back."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.modules.integrity_check import check


class Program:
    """Stands for the agent's command line."""

    def __init__(self, *outcomes):
        self.calls = []
        self.devices = [
            {
                "device": f"d{number}",
                "outcome": outcome,
                "code": "c",
                "detail": "why",
                "volume": "mounted",
                "how": "",
                "retry_after": None,
            }
            for number, outcome in enumerate(outcomes)
        ]

    def json(self, arguments, stdin="", accepted=(0,)):
        self.calls.append((arguments, accepted))
        return {"changed": False, "devices": self.devices}


def test_names_and_check_mode_become_arguments():
    program = Program()
    check(program, [], False)
    check(program, ["d0", "d1"], True)
    assert program.calls == [
        (["check"], (0, 3, 4)),
        (["check", "--check", "d0", "d1"], (0, 3, 4)),
    ]


@pytest.mark.parametrize(
    ("outcomes", "compliant"),
    [
        (["granted", "granted"], True),
        (["granted", "denied"], False),
        (["pending"], False),
        (["failed"], False),
        ([], True),
    ],
)
def test_a_machine_complies_when_all_is_granted(outcomes, compliant):
    found = check(Program(*outcomes), [], False)
    assert found["compliant"] is compliant
    assert [each["outcome"] for each in found["devices"]] == outcomes


@pytest.mark.parametrize("name", ["--check", "-h", "", "A", "a b", "a" * 64])
def test_a_name_is_no_option_of_the_agent(name):
    program = Program()
    with pytest.raises(InvalidOption, match=r"names: .* is no name of a device"):
        check(program, ["d0", name], False)
    assert program.calls == []


def test_what_was_not_asked_is_not_answered():
    assert "compliant" not in check(Program("granted"), [], True)
