# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's command on its machine. Private."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.trend.securecloud.plugins.module_utils._command import Command


def server_arguments() -> dict[str, Any]:
    """Return the argument spec that the doc fragment trend.securecloud.server_command describes."""
    return {
        "command": {"type": "path", "default": "/opt/securecloud/server/bin/securecloud-server"},
        "config": {"type": "path", "default": "/etc/securecloud/server.toml"},
        "user": {"type": "str"},
        "credentials": {"type": "list", "elements": "path", "default": [], "no_log": False},
    }


def server_command(module: AnsibleModule) -> Command:
    """Return the command, run as the server runs: with its account and its credentials."""
    options = module.params
    return Command(
        module.run_command,
        options["command"],
        options["config"],
        options["user"],
        options["credentials"],
    )
