#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key requests and how they were decided."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: key_request_info
short_description: Read key requests from a SecureCloud management server
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - >-
    Returns one key request, or all that the options choose, newest first; each with its rules
    beside the machine's values.
extends_documentation_fragment:
  - trend.securecloud.connection
  - trend.securecloud.attributes.info
  - trend.securecloud.attributes.api
options:
  id:
    description:
      - Id of one request.
    type: str
  state:
    description:
      - Only requests in this state.
    type: str
    choices:
      - pending
      - approved
      - denied
      - delivered
      - revoked
      - expired
  device:
    description:
      - Only requests for the key of this device.
    type: str
  agent:
    description:
      - Only requests of this agent.
    type: str
seealso:
  - module: trend.securecloud.key_request
"""

EXAMPLES = r"""
- name: What waits for a decision?
  trend.securecloud.key_request_info:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/approver.token
    state: pending
"""

RETURN = r"""
key_requests:
  description: The requests; empty when there is none.
  returned: success
  type: list
  elements: dict
  sample:
    - id: 01jf7c2p0q
      device: db1-data
      agent: db1
      state: pending
      matched: false
"""

from typing import Any

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)

FILTERS = ("state", "device", "agent")
STATES = ("pending", "approved", "denied", "delivered", "revoked", "expired")


def read(client: Client, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one request, or those that the filters choose."""
    if options["id"] is None:
        return list(client.items(path_of("key-requests"), {key: options[key] for key in FILTERS}))
    found = client.find(path_of("key-requests", options["id"]))
    return [found.body] if found else []


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "id": {"type": "str"},
            "state": {"type": "str", "choices": list(STATES)},
            "device": {"type": "str"},
            "agent": {"type": "str"},
        },
        mutually_exclusive=[("id", "state"), ("id", "device"), ("id", "agent")],
    )

    def work() -> dict[str, Any]:
        options = module.params
        return {"changed": False, "key_requests": read(client_of(module), options)}

    finish(module, work)


if __name__ == "__main__":
    main()
