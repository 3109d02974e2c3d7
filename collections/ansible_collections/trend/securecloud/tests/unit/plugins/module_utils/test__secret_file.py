# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file for a secret: nobody else reads it, nobody sees half of it."""

from __future__ import annotations

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.module_utils._secret_file import SecretFile


def test_it_is_readable_by_its_owner_alone(tmp_path):
    path = tmp_path / "token"
    SecretFile(str(path)).write("sce.x")
    assert path.read_text() == "sce.x\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert SecretFile(str(path)).is_private()


def test_it_replaces_what_others_could_read(tmp_path):
    path = tmp_path / "token"
    path.write_text("old")
    path.chmod(0o644)
    SecretFile(str(path)).write("new")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["token"]


def test_a_missing_file_is_empty(tmp_path):
    file = SecretFile(str(tmp_path / "none"))
    assert (file.read(), file.exists()) == ("", False)


def test_a_missing_directory_is_said(tmp_path):
    with pytest.raises(InvalidOption, match=r"dest: cannot write .*No such file"):
        SecretFile(str(tmp_path / "none" / "token")).write("x")
