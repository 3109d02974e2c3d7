# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of this collection that would otherwise have to be remembered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

COLLECTION = Path(__file__).parents[2]
MODULES = {path.stem: path.read_text() for path in (COLLECTION / "plugins/modules").glob("*.py")}
ROLES = ("agent", "management_server")
LOCAL_MODULES = {
    "encrypted_volume",
    "encrypted_volume_info",
    "agent",
    "management_server",
    "integrity_check",
    "keystore",
    "server_backup",
    "server_restore",
}


def load(path: str) -> dict:
    return yaml.safe_load((COLLECTION / path).read_text())


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_and_defaults_say_the_same(role):
    options = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    specified = {name: spec["default"] for name, spec in options.items() if "default" in spec}
    assert specified == load(f"roles/{role}/defaults/main.yml")


@pytest.mark.parametrize("role", ROLES)
def test_an_option_without_a_default_is_required(role):
    options = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert all(spec.get("required") for spec in options.values() if "default" not in spec)


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_of_a_role_is_used(role):
    names = load(f"roles/{role}/defaults/main.yml")
    text = "".join(
        path.read_text()
        for folder in ("tasks", "vars", "templates", "handlers", "defaults")
        for path in (COLLECTION / "roles" / role / folder).iterdir()
    )
    unused = [name for name in names if len(re.findall(rf"\b{name}\b", text)) < 2]
    assert unused == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_the_usual_steps(role):
    steps = {path.stem for path in (COLLECTION / "roles" / role / "tasks").iterdir()}
    assert {"main", "preflight", "install", "configure", "service", "verify"} <= steps


def test_the_action_group_holds_the_modules_that_share_the_connection():
    group = load("meta/runtime.yml")["action_groups"]["securecloud"]
    assert group == sorted(group)
    assert set(group) == MODULES.keys() - LOCAL_MODULES


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_leaves_reporting_to_the_edge(name):
    assert not re.findall(r"\b(fail_json|exit_json|urllib|http\.client)\b", MODULES[name])


def test_utilities_are_private_and_raise():
    for path in (COLLECTION / "plugins/module_utils").glob("*.py"):
        assert path.stem.startswith("_")
        if path.stem != "_module":
            assert not re.search(r"\.(fail_json|exit_json)\(", path.read_text()), path
