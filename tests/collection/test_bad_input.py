"""Bad input through the modules: a specific message, the field by name, and nothing half-done."""

import re
from pathlib import Path
from typing import Any

import pytest

from demo.ca import ensure_certificates
from tests.collection.conftest import Play
from tests.support.live import BIN, AgentMachine

# What is wrong, the code of the failure, and what its message says.
CASES = {
    "wrong_ca": ("certificate_untrusted", r"was not issued by the authority in .*ca\.pem"),
    "no_server": ("server_unreachable", r"nothing listens at https://127\.0\.0\.1:1 "),
    "wrong_token": ("not_authenticated", r"401"),
    "no_token": ("invalid_option", r"token_file: what it holds is not an API token"),
    "unknown_fact": ("invalid_request", r"rules\[0\]\.fact: unknown fact 'hostname'"),
    "wrong_operator": ("invalid_request", r"rules\[0\]\.any\[0\]\.operator: .*at_least"),
    "wrong_pattern": ("invalid_request", r"rules\[0\]\.value: "),
    "unforced": ("invalid_request", r"on_fail\.action: .*needs force: true"),
    "stray_delay": ("invalid_request", r"on_match\.delay: .*approve_after"),
    "wrong_name": ("invalid_request", r"name: "),
    "default_policy": ("conflict", r"default"),
    "too_large": ("too_large", r"413"),
    "no_such_policy": ("invalid_request", r"no-such-policy"),
    "no_such_agent": ("invalid_request", r"no-such-agent"),
    "no_source": ("invalid_option", r"volume\.source: is required"),
    "relative_source": ("invalid_request", r"volume\.source: "),
    "named_portal": ("invalid_request", r"volume\.iscsi\.portal: expected an IPv4 address"),
    "no_target": ("invalid_request", r"volume\.iscsi\.target: expected an iSCSI name"),
    "unconfirmed": ("invalid_option", r"confirm: must be quartet-data"),
    "no_such_key": ("not_found", r"no-such-device"),
    "short_reason": ("invalid_request", r"reason: "),
    "no_request": ("wrong_state", r"there is no key request of no-such-device"),
    "short_lifetime": ("invalid_request", r"expires_in: "),
    "wrong_agent_name": ("command_failed", r"agent\.name: expected .*, got 'Bad Name'"),
    "used": ("command_failed", r"enrol failed with status 1: "),
    "not_installed": ("command_failed", r"cannot run /nowhere/securecloud-agent"),
    "vague_time": ("invalid_request", r"since: expected a time such as"),
    "no_limit": ("invalid_option", r"limit: 0 is not 1 to 100000"),
    "wrong_setting": ("command_failed", r"server\.listen.*server\.workers"),
}


@pytest.fixture(scope="module")
def failures(
    play: Play, machine: AgentMachine, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("bad")
    ensure_certificates(directory / "other")
    return play(
        "bad_input.yml",
        other_ca_file=str(directory / "other/ca.pem"),
        directory=str(directory),
        agent_command=str(BIN / "securecloud-agent"),
        server_command=str(BIN / "securecloud-server"),
        used_token=_used_token(machine, directory),
    )


def _used_token(machine: AgentMachine, directory: Path) -> str:
    """A token with which another machine has enrolled already."""
    first = AgentMachine(directory / "first", machine.server, "quartet-first")
    first.directory.mkdir()
    first.configure()
    body = {"agent_name": first.name, "expires_in": 600}
    token = str(machine.server.ok("POST", "/enrollment-tokens", body)["token"])
    assert first.cli("enrol", "--token-file", "-", "--json", stdin=token).returncode == 0
    return token


@pytest.mark.parametrize("case", CASES)
def test_the_failure_says_what_is_wrong(failures: dict[str, Any], case: str) -> None:
    code, message = CASES[case]
    failure = failures[case]
    assert failure["failed"], failure
    assert failure["code"] == code, failure
    assert re.search(message, failure["msg"], re.DOTALL), failure["msg"]


def test_every_wrong_field_is_named_at_once(failures: dict[str, Any]) -> None:
    errors = failures["several_fields"]["errors"]
    fields = {error["field"] for error in errors}
    assert {"rules[0].value", "rules[1].operator", "rules[1].operater"} <= fields
    assert all(error["message"] for error in errors)


def test_nothing_half_done_is_left(failures: dict[str, Any]) -> None:
    assert failures["left_policies"]["policies"] == []
    assert failures["left_devices"]["devices"] == []


def test_no_secret_is_in_a_failure(failures: dict[str, Any], machine: AgentMachine) -> None:
    text = str({case: failures[case] for case in CASES})
    assert machine.server.token not in text
    assert "c2VjcmV0" not in text
