#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices and the states of their keys."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: device_info
short_description: Read devices from a SecureCloud management server
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Returns one device, or all devices that the options choose.
extends_documentation_fragment:
  - trend.securecloud.connection
  - trend.securecloud.attributes.info
  - trend.securecloud.attributes.api
options:
  name:
    description:
      - Name of one device.
    type: str
  agent:
    description:
      - Only devices of this agent.
    type: str
  group:
    description:
      - Only devices of this group.
    type: str
  policy:
    description:
      - Only devices that name this policy as their own.
    type: str
seealso:
  - module: trend.securecloud.device
"""

EXAMPLES = r"""
- name: Which volumes does web1 have?
  trend.securecloud.device_info:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/auditor.token
    agent: web1
"""

RETURN = r"""
devices:
  description: The devices; empty when there is none.
  returned: success
  type: list
  elements: dict
  sample:
    - name: web1-data
      agent: web1
      group: web
      effective_policy: web
      enabled: true
      volume:
        source: null
        iscsi:
          portal: 10.0.0.5:3260
          target: iqn.2026-01.org.example:web1
          lun: 1
        filesystem: ext4
        mount_point: /srv/data
        options:
          - defaults
        read_only: false
        initialise: never
      key:
        state: active
        version: 1
      quarantined: false
      volume_state: open
      volume_state_at: "2026-01-31T12:00:00Z"
      header:
        digest: 5b9c0a2ef3d1f5e38f7c1b1a9be0d2f84c30b7d6a0f6f1f2a85b6d6c3ed04f17
        changing: false
        refused: null
        acceptable: false
        copy_of: 5b9c0a2ef3d1f5e38f7c1b1a9be0d2f84c30b7d6a0f6f1f2a85b6d6c3ed04f17
"""

from typing import Any

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)

FILTERS = ("agent", "group", "policy")


def read(client: Client, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one device, or those that the filters choose."""
    if options["name"] is None:
        return list(client.items(path_of("devices"), {key: options[key] for key in FILTERS}))
    found = client.find(path_of("devices", options["name"]))
    return [found.body] if found else []


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "name": {"type": "str"},
            "agent": {"type": "str"},
            "group": {"type": "str"},
            "policy": {"type": "str"},
        },
        mutually_exclusive=[("name", "agent"), ("name", "group"), ("name", "policy")],
    )

    def work() -> dict[str, Any]:
        options = module.params
        return {"changed": False, "devices": read(client_of(module), options)}

    finish(module, work)


if __name__ == "__main__":
    main()
