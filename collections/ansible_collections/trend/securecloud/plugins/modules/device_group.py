#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of devices that share a policy."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: device_group
short_description: Manage device groups of a SecureCloud management server
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Creates, changes and deletes device groups. The devices of a group have its policy unless they
    name their own.
  - Options that are left out keep their value. With a new group, they get their default.
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
  name:
    description:
      - Name of the group, 1 to 63 of V(a-z), V(0-9), V(.), V(_) and V(-).
    type: str
    required: true
  description:
    description:
      - What the group is for. Empty with a new group.
    type: str
  policy:
    description:
      - Name of the policy of the group's devices. An empty string takes it away, so that the policy
        V(default) applies. None with a new group.
    type: str
  state:
    description:
      - Whether the group exists. The server refuses to delete a group that still has devices.
    type: str
    choices:
      - present
      - absent
    default: present
seealso:
  - module: trend.securecloud.policy
  - module: trend.securecloud.device
"""

EXAMPLES = r"""
- name: Database volumes have the policy of the databases
  trend.securecloud.device_group:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    name: databases
    description: Volumes of the PostgreSQL servers
    policy: database
"""

RETURN = r"""
device_group:
  description:
    - The group as the server has it now. In check mode, as far as it is known.
    - Null when O(state=absent).
  returned: success
  type: dict
  sample:
    name: databases
    description: Volumes of the PostgreSQL servers
    policy: database
errors:
  description: The fields that were refused, each with what was expected.
  returned: failure
  type: list
  elements: dict
"""

from typing import Any

from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)
from ansible_collections.trend.securecloud.plugins.module_utils._resource import (
    Kind,
    converge,
    decide_absent,
    decide_present,
    given,
)

GROUP = Kind(
    label="device_group",
    collection="device-groups",
    defaults={"description": "", "policy": None},
    clearable=("policy",),
)


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "name": {"type": "str", "required": True},
            "description": {"type": "str"},
            "policy": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        }
    )

    def work() -> dict[str, Any]:
        options, client = module.params, client_of(module)
        name = options["name"]
        current = client.find(GROUP.path(name))
        if options["state"] == "absent":
            change = decide_absent(GROUP, name, current)
        else:
            wanted = given({key: options[key] for key in GROUP.defaults})
            change = decide_present(GROUP, name, current, wanted)
        return converge(client, change, module.check_mode)

    finish(module, work)


if __name__ == "__main__":
    main()
