# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes as the agent on the machine tells of them. Private."""

from __future__ import annotations

import re
from typing import Any, Iterable

from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_OPEN = ("verified", "opened", "mounted")


def agent_arguments() -> dict[str, Any]:
    """Return the argument spec that the doc fragment trend.securecloud.agent_command describes."""
    return {
        "command": {"type": "path", "default": "/opt/securecloud/agent/bin/securecloud-agent"},
        "config": {"type": "path", "default": "/etc/securecloud/agent.toml"},
    }


def check_names(option: str, names: Iterable[str]) -> None:
    """Raise InvalidOption unless all are names of devices: the agent takes `--check` for a flag."""
    for name in names:
        if not _NAME.fullmatch(name):
            expected = "1 to 63 of a-z, 0-9, '.', '_', '-'; a letter or digit at both ends"
            raise InvalidOption(option, expected, f"{name!r} is no name of a device")


def is_finished(volume: str) -> bool:
    """Say whether a volume that the agent calls this is encrypted as a whole, and open."""
    return volume in _OPEN
