#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a device out of quarantine."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: quarantine
short_description: Let a device out of quarantine
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - With each key a machine gets a secret that only it can show the next time. When the wrong one is
    shown, there are two of this machine, or it was set back to an earlier state, and the server
    releases the key of the device to neither of them.
  - When you know which one is right, and the other one is off, this lets the next machine that asks
    start anew. An honest restore from a backup is such a case.
extends_documentation_fragment:
  - trend.securecloud.connection
  - trend.securecloud.attributes
  - trend.securecloud.attributes.api
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  device:
    description:
      - Name of the device.
    type: str
    required: true
  reason:
    description:
      - Why, for the audit log. 3 to 500 characters.
    type: str
    required: true
seealso:
  - module: trend.securecloud.device_info
  - module: trend.securecloud.key
"""

EXAMPLES = r"""
- name: The machine was restored from last night's backup
  trend.securecloud.quarantine:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    device: web1-data
    reason: restored after the disk failure, ticket 4711
"""

RETURN = r"""
device:
  description:
    - The device as the server has it now. In check mode, as far as it is known.
  returned: success
  type: dict
  sample:
    name: web1-data
    agent: web1
    quarantined: false
errors:
  description: The fields that were refused, each with what was expected.
  returned: failure
  type: list
  elements: dict
"""

from typing import Any

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._diff import diff_of
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)


def clear(client: Client, device: str, reason: str, foresee: bool) -> dict[str, Any]:
    """Let the device out of quarantine if it is in it."""
    found = client.get(path_of("devices", device)).body
    after = {**found, "quarantined": False}
    if found["quarantined"] and not foresee:
        path = path_of("devices", f"{device}:clear-quarantine")
        after = client.post(path, {"reason": reason}).body
    return {
        "changed": found["quarantined"],
        "device": after,
        "diff": diff_of(
            f"device {device}",
            {"quarantined": found["quarantined"]},
            {"quarantined": False},
        ),
    }


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "device": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
        }
    )

    def work() -> dict[str, Any]:
        options = module.params
        return clear(client_of(module), options["device"], options["reason"], module.check_mode)

    finish(module, work)


if __name__ == "__main__":
    main()
