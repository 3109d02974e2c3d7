#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events of the audit log."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: audit_info
short_description: Read the audit log of a SecureCloud management server
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - >-
    Returns the events of the audit log that the options choose, oldest first. Every option narrows
    the choice. An event holds who did what to what, when, from where, how it ended and why; never a
    secret.
  - >-
    To hand events to an auditor together with the proof that none was changed or left out, run
    C(securecloud-server audit export) on the server.
extends_documentation_fragment:
  - trend.securecloud.connection
  - trend.securecloud.attributes.info
  - trend.securecloud.attributes.api
options:
  since:
    description:
      - Only events from this moment on, such as V(2026-01-31T12:00:00Z); a time zone is required.
    type: str
  until:
    description:
      - Only events before this moment, written like O(since).
    type: str
  actor:
    description:
      - >-
        Only what this actor did; its kind and name, such as V(token:ci), V(agent:web1) or
        V(cli:root).
    type: str
  action:
    description:
      - Only this action, such as V(key.released) or V(policy.updated).
    type: str
  target:
    description:
      - >-
        Only what was done to this object; its kind and name, such as V(device:web1-data) or
        V(policy:web).
    type: str
  outcome:
    description:
      - Only events that ended like this.
    type: str
    choices:
      - success
      - refused
      - failed
  limit:
    description:
      - >-
        At most so many events. RV(truncated) says whether there are more; then ask again with a
        later O(since).
    type: int
    default: 1000
seealso:
  - module: trend.securecloud.key_request_info
"""

EXAMPLES = r"""
- name: What was refused in January?
  trend.securecloud.audit_info:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/auditor.token
    since: "2026-01-01T00:00:00Z"
    until: "2026-02-01T00:00:00Z"
    outcome: refused

- name: Who got the key of web1-data?
  trend.securecloud.audit_info:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/auditor.token
    target: device:web1-data
    action: key.released
"""

RETURN = r"""
events:
  description: The events; empty when there is none.
  returned: success
  type: list
  elements: dict
  sample:
    - seq: 4711
      at: "2026-01-31T12:00:00.250Z"
      actor: agent:web1
      role: null
      source: 192.0.2.7
      action: key.released
      object: device:web1-data
      outcome: success
      reason: the policy approves
      details:
        policy: web
        policy_version: 3
        request_id: 01jf7c2p0q
truncated:
  description: Whether there are more events than O(limit).
  returned: success
  type: bool
  sample: false
"""

from itertools import islice
from typing import Any

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)

FILTERS = ("since", "until", "actor", "action", "outcome")
MOST = 100_000
_PAGE = 500


def read(client: Client, options: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """Return the events that the options choose, and whether there are more."""
    limit = options["limit"]
    if not 1 <= limit <= MOST:
        expected = f"1 to {MOST}"
        raise InvalidOption("limit", expected, f"{limit} is not {expected}")
    query = {**{key: options[key] for key in FILTERS}, "object": options["target"]}
    wanted = limit + 1
    found = list(islice(client.items(path_of("audit-events"), query, min(wanted, _PAGE)), wanted))
    return found[:limit], len(found) > limit


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "since": {"type": "str"},
            "until": {"type": "str"},
            "actor": {"type": "str"},
            "action": {"type": "str"},
            "target": {"type": "str"},
            "outcome": {"type": "str", "choices": ["success", "refused", "failed"]},
            "limit": {"type": "int", "default": 1000},
        }
    )

    def work() -> dict[str, Any]:
        events, truncated = read(client_of(module), module.params)
        return {"changed": False, "events": events, "truncated": truncated}

    finish(module, work)


if __name__ == "__main__":
    main()
