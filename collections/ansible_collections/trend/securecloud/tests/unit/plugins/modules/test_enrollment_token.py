# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One good token at a time, and none for a machine that is enrolled."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.module_utils._secret_file import SecretFile
from ansible_collections.trend.securecloud.plugins.modules.enrollment_token import (
    Tokens,
    result_of,
)


@pytest.fixture
def file(tmp_path):
    return SecretFile(str(tmp_path / "token"))


def test_an_enrolled_agent_needs_no_token(replay):
    tokens = Tokens(replay(), "web1")
    plan = tokens.decide_present()
    result = result_of(plan, tokens)
    assert (result["changed"], result["enrolled"]) == (False, True)
    assert "token" not in result


def test_a_retired_agent_is_not_enrolled(replay):
    assert Tokens(replay(), "old").decide_present().mint


def test_a_new_agent_gets_a_token_and_loses_the_one_it_did_not_use(replay):
    client = replay()
    tokens = Tokens(client, "new")
    plan = tokens.decide_present()
    tokens.act(plan, 900)
    result = result_of(plan, tokens)
    assert result["token"] == "sce.t4.secret.fingerprint"
    assert (result["id"], result["revoked"]) == ("t4", ["t2"])
    assert client.changes == [
        ("POST /enrollment-tokens", {"agent_name": "new", "expires_in": 900}),
        ("DELETE /enrollment-tokens/t2", None),
    ]


def test_deciding_changes_nothing(replay, file):
    client = replay()
    tokens = Tokens(client, "new", file)
    assert result_of(tokens.decide_present(), tokens)["changed"]
    assert not client.changes
    assert not file.exists()


def test_with_a_file_the_token_is_in_it_and_not_in_the_result(replay, file):
    tokens = Tokens(replay(), "new", file)
    plan = tokens.decide_present()
    tokens.act(plan, 900)
    assert file.read() == "sce.t4.secret.fingerprint"
    assert file.is_private()
    assert "secret" not in str(result_of(plan, tokens))


def test_a_good_token_in_the_file_is_kept(replay, file):
    file.write("sce.t2.secret.fingerprint")
    tokens = Tokens(replay(), "new", file)
    plan = tokens.decide_present()
    result = result_of(plan, tokens)
    assert (result["changed"], result["id"]) == (False, "t2")


@pytest.mark.parametrize(
    "record",
    [
        {"status": 404, "body": {"code": "not_found"}},
        {"status": 200, "body": {"id": "t2", "agent_name": "new", "state": "expired"}},
        {"status": 200, "body": {"id": "t2", "agent_name": "other", "state": "unused"}},
    ],
)
def test_a_token_that_is_not_good_any_more_is_replaced(replay, file, record):
    file.write("sce.t2.secret.fingerprint")
    client = replay({"GET /enrollment-tokens/t2": record})
    assert Tokens(client, "new", file).decide_present().mint


@pytest.mark.parametrize("text", ["", "no token", "sct.t2.s.f", "sce.t2.s"])
def test_something_else_in_the_file_is_replaced(replay, file, text):
    file.write(text)
    assert Tokens(replay(), "new", file).decide_present().mint


def test_a_kept_token_that_others_could_read_is_made_private(replay, file, tmp_path):
    file.write("sce.t2.secret.fingerprint")
    (tmp_path / "token").chmod(0o644)
    tokens = Tokens(replay(), "new", file)
    plan = tokens.decide_present()
    assert plan.needed
    tokens.act(plan, 900)
    assert file.is_private()


def test_a_token_that_cannot_be_written_is_revoked(replay, tmp_path):
    client = replay()
    tokens = Tokens(client, "new", SecretFile(str(tmp_path / "none" / "token")))
    with pytest.raises(InvalidOption, match=r"dest: cannot write"):
        tokens.act(tokens.decide_present(), 900)
    assert ("DELETE /enrollment-tokens/t4", None) in client.changes


def test_absent_revokes_what_was_not_used_and_removes_the_file(replay, file):
    file.write("sce.t2.secret.fingerprint")
    client = replay()
    tokens = Tokens(client, "new", file)
    plan = tokens.decide_absent()
    tokens.act(plan, 900)
    assert client.changes == [("DELETE /enrollment-tokens/t2", None)]
    assert not file.exists()
