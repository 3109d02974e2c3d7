# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that ask the agent on the machine."""

from __future__ import annotations


class ModuleDocFragment:
    """`trend.securecloud.agent_command`."""

    DOCUMENTATION = r"""
options:
  command:
    description:
      - Path of C(securecloud-agent).
    type: path
    default: /opt/securecloud/agent/bin/securecloud-agent
  config:
    description:
      - Path of the agent's configuration file.
    type: path
    default: /etc/securecloud/agent.toml
"""
