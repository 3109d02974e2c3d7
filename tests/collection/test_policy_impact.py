"""A policy that would take a live machine's key: what the playbook says before it does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.collection.conftest import ROOT, Play
from tests.end_to_end.conftest import APPROVING
from tests.support.live import BIN, AgentMachine, LiveServer

DEVICE = "impact-data"


@pytest.fixture(scope="module")
def granted(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> AgentMachine:
    """A machine that has got its key under the policy `impact`."""
    live_server.ok("PUT", "/policies/impact", APPROVING)
    agent = AgentMachine(tmp_path_factory.mktemp("impact"), live_server, "impact")
    agent.configure()
    agent.enrol()
    agent.register(DEVICE, "impact")
    code, device = agent.unlock()
    assert (code, device["outcome"]) == (0, "granted")
    return agent


@pytest.fixture(scope="module")
def results(granted: AgentMachine, play: Play) -> dict[str, Any]:
    return play("impact.yml")


def effects(result: dict[str, Any]) -> dict[str, str]:
    return {each["device"]: each["effect"] for each in result["impact"]["devices"]}


def test_check_mode_tells_who_would_lose_the_key_and_by_which_rule(results: Any) -> None:
    foreseen = results["foreseen"]
    assert foreseen["changed"]
    assert effects(foreseen) == {DEVICE: "lose"}
    (device,) = foreseen["impact"]["devices"]
    assert (device["before"]["outcome"], device["after"]["outcome"]) == ("granted", "denied")
    (rule,) = device["rules"]
    assert (rule["path"], rule["value"], rule["provenance"]) == (
        "rules[0]",
        os.uname().machine,
        "claimed",
    )
    text, machines = foreseen["diff"]
    assert text["before"] != text["after"]
    assert (
        f"lose: {DEVICE} (agent impact): granted (approved) -> denied (policy)"
        in (machines["prepared"])
    )
    assert "kernel.machine equals 'none'" in machines["prepared"]
    assert any("1 of 1 devices may lose their key" in said for said in foreseen["warnings"])


@pytest.mark.parametrize("name", ["refused_check", "refused"])
def test_who_asks_to_be_sure_is_refused_before_anything_changes(results: Any, name: str) -> None:
    refused = results[name]
    assert refused["failed"]
    assert refused["code"] == "would_lose_keys"
    assert f"1 of 1 devices may lose their key: {DEVICE}" in refused["msg"]
    assert "Nothing was changed" in refused["msg"]
    assert refused["impact"]["totals"]["lose"] == 1
    assert results["untouched"]["policies"][0]["version"] == 1


def test_what_was_never_asked_for_is_no_assurance(results: Any) -> None:
    untold = results["untold"]
    assert untold["failed"]
    assert effects(untold) == {DEVICE: "unknown"}
    assert "not recorded: users" in untold["msg"]


def test_a_harmless_change_goes_through(results: Any) -> None:
    harmless = results["harmless"]
    assert harmless["changed"]
    assert (harmless["policy"]["version"], harmless["impact"]["totals"]["unchanged"]) == (2, 1)


def test_a_warning_does_not_stop_and_the_second_time_there_is_nothing_to_ask(results: Any) -> None:
    assert results["pushed"]["changed"]
    assert effects(results["pushed"]) == {DEVICE: "lose"}
    assert not results["again"]["changed"]
    assert results["again"]["impact"] is None


def test_the_way_back_is_foreseen_as_well(results: Any) -> None:
    assert effects(results["way_back"]) == {DEVICE: "gain"}


def test_nobody_is_asked_where_that_is_wanted(results: Any) -> None:
    assert results["ignored"]["changed"]
    assert results["ignored"]["impact"] is None


def test_what_was_foreseen_comes_true(results: Any, granted: AgentMachine) -> None:
    _, device = granted.unlock()
    assert device["outcome"] == "denied"


def test_the_playbook_site_passes_the_choice_on_and_prints_what_would_happen(
    live_server: LiveServer, results: Any, tmp_path: Path
) -> None:
    live_server.ok("PUT", "/policies/impact", APPROVING)
    done = check_site(live_server, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "machines under policy impact: 1, of these 1 lose" in done.stdout
    assert f"lose: {DEVICE} (agent impact): granted (approved) -> denied (policy)" in done.stdout
    refused = check_site(live_server, tmp_path, securecloud_policy_impact="fail")
    assert refused.returncode != 0
    assert "may lose their key" in refused.stdout
    wrong = check_site(live_server, tmp_path, securecloud_policy_impact="never")
    assert "value of policy_impact must be one of" in wrong.stdout


def check_site(
    server: LiveServer, directory: Path, **variables: Any
) -> subprocess.CompletedProcess[str]:
    """Run the part of `site` that pushes policies, in check mode with diff."""
    rule = {"fact": "kernel.machine", "operator": "equals", "value": "none"}
    given = {
        "ansible_python_interpreter": sys.executable,
        "ansible_connection": "local",
        "ansible_become": False,
        "securecloud_api_url": server.url,
        "securecloud_api_ca_file": str(server.ca_file),
        "securecloud_api_token_file": str(server.token_file),
        "securecloud_policies": [{"name": "impact", "rules": [rule]}],
        **variables,
    }
    inventory = directory / "hosts"
    inventory.write_text("[management_servers]\nhere\n[agents]\n")
    return subprocess.run(
        [
            *(BIN / "ansible-playbook", "-i", inventory, "--check", "--diff"),
            *("--start-at-task", "Push the policies"),
            *("-e", json.dumps(given), ROOT / "playbooks/site.yml"),
        ],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(directory / "ansible"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
