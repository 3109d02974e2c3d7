# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `configure` command that server and agent have in common. Private to this collection."""

from __future__ import annotations

import grp
import os
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.trend.securecloud.plugins.module_utils._command import Command
from ansible_collections.trend.securecloud.plugins.module_utils._diff import diff_of
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.module_utils._resource import given


@dataclass(frozen=True)
class Configured:
    """What became, or would become, of the configuration file."""

    changed: bool
    is_new: bool
    diff: dict[str, Any]


def is_installed(program: str) -> bool:
    """Return whether there is such a program; check mode comes before its installation, too."""
    return os.access(program, os.X_OK)


def settings_of(options: Mapping[str, Any], sections: Sequence[str]) -> dict[str, Any]:
    """Return the settings given in the options that are named as sections."""
    return given({name: options[name] for name in sections})


def configure(
    command: Command, settings: Mapping[str, Any], config: str, group: str | None, check: bool
) -> Configured:
    """Write the settings; with `check`, say only what would be written."""
    flags = ["--check"] if check else []
    said = command.json(["configure", *flags], settings)
    texts = said.get("diff") or {}
    before, after = texts.get("before", ""), texts.get("after", "")
    regrouped = _give_to(group, config, check) if group else False
    return Configured(
        changed=bool(said["changed"] or regrouped),
        is_new=not os.path.exists(config) if check else not before,
        diff=diff_of(config, before, after),
    )


def _give_to(group: str, config: str, check: bool) -> bool:
    """Give the file to a group; return whether it was another's."""
    try:
        wanted = grp.getgrnam(group).gr_gid
    except KeyError:
        if check:
            return True
        message = f"there is no group {group} on this machine"
        raise InvalidOption("group", "a group of this machine", message) from None
    if not os.path.exists(config) or os.stat(config).st_gid == wanted:
        return False
    if not check:
        os.chown(config, -1, wanted)
    return True
