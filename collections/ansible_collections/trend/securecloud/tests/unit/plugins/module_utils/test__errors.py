# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Problem documents as failures; what a server sends of the wrong type does no harm."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    FieldError,
    InvalidOption,
    from_problem,
)


def test_each_field_is_in_the_message():
    errors = [
        {"field": "rules[0].operator", "expected": "one of equals", "message": "does not fit"},
        {"field": "name", "expected": "", "message": "is taken"},
    ]
    error = from_problem("PUT /policies/x", 422, {"code": "invalid_request", "errors": errors})
    assert str(error) == (
        "the server refused PUT /policies/x (422 invalid_request): "
        "rules[0].operator: does not fit (expected one of equals); name: is taken"
    )


@pytest.mark.parametrize("errors", [None, "x", [1, "y", None], [{}], [{"field": 7}]])
def test_members_of_a_wrong_type_do_no_harm(errors):
    error = from_problem("GET /x", 500, {"errors": errors, "detail": 5, "code": None})
    assert error.result()["code"] == "problem"


def test_an_option_that_is_wrong_is_named():
    result = InvalidOption("ca_file", "a readable file", "cannot read /x").result()
    assert result["msg"] == "ca_file: cannot read /x"
    assert result["errors"] == [
        {"field": "ca_file", "expected": "a readable file", "message": "cannot read /x"}
    ]


def test_a_field_error_without_a_field_is_a_sentence():
    assert str(FieldError("", "JSON", "no object")) == "no object (expected JSON)"


def test_what_was_expected_is_said_once():
    assert str(FieldError("name", "a name", "expected a name")) == "name: expected a name"
