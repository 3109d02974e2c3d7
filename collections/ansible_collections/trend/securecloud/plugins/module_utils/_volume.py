# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes as the agent on the machine tells of them. Private."""

from __future__ import annotations

from typing import Any

_OPEN = ("verified", "opened", "mounted")


def agent_arguments() -> dict[str, Any]:
    """Return the argument spec that the doc fragment trend.securecloud.agent_command describes."""
    return {
        "command": {"type": "path", "default": "/opt/securecloud/agent/bin/securecloud-agent"},
        "config": {"type": "path", "default": "/etc/securecloud/agent.toml"},
    }


def is_finished(volume: str) -> bool:
    """Say whether a volume that the agent calls this is encrypted as a whole, and open."""
    return volume in _OPEN
