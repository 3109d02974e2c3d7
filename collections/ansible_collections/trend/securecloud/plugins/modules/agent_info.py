#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enrolled agents."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: agent_info
short_description: Read agents from a SecureCloud management server
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Returns one agent, or all agents. An agent is there once it has enrolled.
extends_documentation_fragment:
  - trend.securecloud.connection
  - trend.securecloud.attributes.info
  - trend.securecloud.attributes.api
options:
  name:
    description:
      - Name of one agent. All agents when left out.
    type: str
seealso:
  - module: trend.securecloud.enrollment_token
  - module: trend.securecloud.agent
"""

EXAMPLES = r"""
- name: Is web1 enrolled?
  trend.securecloud.agent_info:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/auditor.token
    name: web1
  register: web1
  failed_when: web1.agents | length == 0
"""

RETURN = r"""
agents:
  description: The agents; empty when there is none.
  returned: success
  type: list
  elements: dict
  sample:
    - name: web1
      agent_id: 01jf7c2p0q
      state: active
      last_seen_at: "2026-01-31T12:00:00Z"
      last_source: 192.0.2.17
      version: 0.1.0
      check_requested_at: "2026-01-31T11:59:58Z"
      check_answered_at: "2026-01-31T12:00:00Z"
"""

from typing import Any

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)


def read(client: Client, name: str | None) -> list[dict[str, Any]]:
    """Return one agent or all agents."""
    if name is None:
        return list(client.items(path_of("agents")))
    found = client.find(path_of("agents", name))
    return [found.body] if found else []


def main() -> None:
    """Run the module."""
    module = api_module({"name": {"type": "str"}})

    def work() -> dict[str, Any]:
        options = module.params
        return {"changed": False, "agents": read(client_of(module), options["name"])}

    finish(module, work)


if __name__ == "__main__":
    main()
