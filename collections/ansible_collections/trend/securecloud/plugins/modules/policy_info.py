#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies and their versions."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: policy_info
short_description: Read policies from a SecureCloud management server
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Returns one policy, all policies, or all versions of one policy.
extends_documentation_fragment:
  - trend.securecloud.connection
  - trend.securecloud.attributes.info
  - trend.securecloud.attributes.api
options:
  name:
    description:
      - Name of one policy. All policies when left out.
    type: str
  versions:
    description:
      - Return every version of the policy O(name), newest first, not just the present one.
    type: bool
    default: false
seealso:
  - module: trend.securecloud.policy
"""

EXAMPLES = r"""
- name: What does the policy say, and since when?
  trend.securecloud.policy_info:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/auditor.token
    name: web
    versions: true
"""

RETURN = r"""
policies:
  description: The policies; empty when there is none of that name.
  returned: success
  type: list
  elements: dict
  sample:
    - name: web
      version: 3
      rules: []
      on_match:
        action: approve
      on_fail:
        action: manual
"""

from typing import Any

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)


def read(client: Client, name: str | None, versions: bool) -> list[dict[str, Any]]:
    """Return one policy, its versions, or all policies."""
    if name is None:
        return list(client.items(path_of("policies")))
    found = client.find(path_of("policies", name))
    if found is None:
        return []
    return list(client.items(path_of("policies", name, "versions"))) if versions else [found.body]


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "name": {"type": "str"},
            "versions": {"type": "bool", "default": False},
        }
    )

    def work() -> dict[str, Any]:
        options = module.params
        if options["versions"] and options["name"] is None:
            raise InvalidOption("name", "the name of a policy", "is required with versions")
        return {
            "changed": False,
            "policies": read(client_of(module), options["name"], options["versions"]),
        }

    finish(module, work)


if __name__ == "__main__":
    main()
