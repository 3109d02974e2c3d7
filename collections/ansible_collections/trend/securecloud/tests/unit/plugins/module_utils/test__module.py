# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge: from arguments to a client, from errors to fail_json."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.trend.securecloud.plugins.doc_fragments.connection import (
    ModuleDocFragment,
)
from ansible_collections.trend.securecloud.plugins.module_utils import _module
from ansible_collections.trend.securecloud.plugins.modules import policy
from ansible_collections.trend.securecloud.tests.unit.stub import TOKEN


@pytest.fixture
def run(stub, authority, capsys):
    """Run the module policy with options; return what it printed for Ansible."""

    def run_module(**options):
        given = {"server_url": stub.url, "ca_file": str(authority.ca_file), "name": "web"}
        given.update(options)
        with patch_module_args(given), pytest.raises(SystemExit):
            policy.main()
        return json.loads(capsys.readouterr().out)

    return run_module


def test_a_module_ends_with_what_its_work_returns(run, stub):
    nobody = {"totals": {"devices": 0, "may_lose": 0}, "devices": []}
    created = {"name": "web", "version": 1}
    stub.replies += [(404, {"code": "not_found"}), (200, nobody), (201, created)]
    result = run(token=TOKEN, description="x")
    assert result["changed"]
    assert result["policy"] == {"name": "web", "version": 1}
    assert [request[0] for request in stub.requests] == ["GET", "POST", "PUT"]


def test_the_token_is_read_from_a_file(run, stub, tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    stub.replies += [(404, {"code": "not_found"})]
    assert run(token_file=str(path), state="absent")["changed"] is False


def test_wrong_fields_come_back_by_name(run, stub):
    wrong = {"field": "rules[0].fact", "expected": "one of os.id", "message": "unknown fact 'x'"}
    stub.replies += [(404, {"code": "not_found"}), (422, {"code": "invalid", "errors": [wrong]})]
    result = run(token=TOKEN, rules=[{"fact": "x"}])
    assert result["failed"]
    assert result["errors"] == [wrong]
    assert "unknown fact 'x'" in result["msg"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot read .*No such file"), ("hunter2", "what it holds is not an API token")],
)
def test_a_bad_token_file_is_named_but_not_shown(run, tmp_path, content, words):
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    result = run(token_file=str(path))
    assert result["failed"]
    assert result["errors"][0]["field"] == "token_file"
    assert "hunter2" not in json.dumps(result)
    assert re.search(words, result["msg"])


@pytest.mark.parametrize("tokens", [{}, {"token": TOKEN, "token_file": "/x"}])
def test_exactly_one_of_token_and_token_file_is_taken(run, tokens):
    result = run(**tokens)
    assert result["failed"]
    assert "token, token_file" in result["msg"].replace("|", ", ")


def test_a_timeout_out_of_range_is_refused(run):
    assert run(token=TOKEN, timeout=0)["msg"] == "timeout: 0 is not 1 to 3600 seconds"


def test_rules_of_a_wrong_type_are_refused_before_anything_is_sent(run, stub):
    stub.replies += [(404, {"code": "not_found"})]
    result = run(token=TOKEN, rules="os.id == debian")
    assert result["errors"][0]["field"] == "rules"


def test_the_documented_options_are_those_that_are_taken():
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    declared = _module.connection_arguments()
    assert documented.keys() == declared.keys()
    for name, option in documented.items():
        for key in ("type", "required", "default"):
            assert option.get(key) == declared[name].get(key), name
