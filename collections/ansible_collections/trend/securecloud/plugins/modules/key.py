#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revoke, restore and destroy device keys."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: key
short_description: Revoke, restore or destroy the key of a device
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Brings the key of a device into a state. States are those of KMIP.
  - A revoked (deactivated) key is kept but not released any more. The agent closes the volume at
    its next check. It can be restored.
  - A destroyed key is gone for good, and with it what is on the volume.
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
  state:
    description:
      - V(active) restores a revoked key. A key that was never released yet (pre-active) counts as
        active, for it can be released.
      - V(deactivated) revokes it.
      - V(destroyed) destroys it, after revoking it where that was not done yet.
    type: str
    required: true
    choices:
      - active
      - deactivated
      - destroyed
  reason:
    description:
      - Why, for the audit log. 3 to 500 characters.
    type: str
    required: true
  confirm:
    description:
      - The name of the device once more, required when O(state=destroyed).
    type: str
seealso:
  - module: trend.securecloud.device
"""

EXAMPLES = r"""
- name: A disk was stolen
  trend.securecloud.key:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    device: web1-data
    state: deactivated
    reason: disk missing after the move, ticket 4711

- name: It was found again
  trend.securecloud.key:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    device: web1-data
    state: active
    reason: disk found, seal intact, ticket 4711
"""

RETURN = r"""
key:
  description:
    - The key as the server has it now, without its secret. In check mode, as far as it is known.
  returned: success
  type: dict
  sample:
    device: web1-data
    version: 1
    state: deactivated
errors:
  description: The fields that were refused, each with what was expected.
  returned: failure
  type: list
  elements: dict
"""

from typing import Any

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._diff import diff_of
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    InvalidOption,
    WrongState,
)
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)

_REVOKE = "revoke"
_RESTORE = "restore"
_DESTROY = "destroy"

# From what is there and what is wanted to the steps between them. What is missing cannot be done.
STEPS: dict[tuple[str, str], tuple[str, ...]] = {
    ("pre_active", "active"): (),
    ("active", "active"): (),
    ("deactivated", "active"): (_RESTORE,),
    ("pre_active", "deactivated"): (_REVOKE,),
    ("active", "deactivated"): (_REVOKE,),
    ("deactivated", "deactivated"): (),
    ("pre_active", "destroyed"): (_REVOKE, _DESTROY),
    ("active", "destroyed"): (_REVOKE, _DESTROY),
    ("deactivated", "destroyed"): (_DESTROY,),
    ("destroyed", "destroyed"): (),
}


def decide(device: str, current: str, wanted: str) -> tuple[str, ...]:
    """Return the steps from the current state to the wanted one."""
    steps = STEPS.get((current, wanted))
    if steps is None:
        raise WrongState(f"the key of {device} is {current} and cannot become {wanted} any more")
    return steps


def act(client: Client, device: str, steps: tuple[str, ...], reason: str) -> dict[str, Any]:
    """Take the steps and return the key as it is then."""
    for step in steps:
        client.post(path_of("keys", f"{device}:{step}"), {"reason": reason})
    return client.get(path_of("keys", device)).body


def foreseen(key: dict[str, Any], steps: tuple[str, ...]) -> dict[str, Any]:
    """Return the key as it will be after the steps, as far as that is known."""
    last = {_REVOKE: "deactivated", _RESTORE: "active", _DESTROY: "destroyed"}
    return {**key, "state": last[steps[-1]]} if steps else key


def check_confirmed(options: dict[str, Any]) -> None:
    """Raise InvalidOption unless the name was repeated before destroying."""
    if options["state"] == "destroyed" and options["confirm"] != options["device"]:
        message = f"must be {options['device']} to destroy its key"
        raise InvalidOption("confirm", "the name of the device", message)


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "device": {"type": "str", "required": True},
            "state": {
                "type": "str",
                "required": True,
                "choices": ["active", "deactivated", "destroyed"],
            },
            "reason": {"type": "str", "required": True},
            "confirm": {"type": "str"},
        },
        required_if=[("state", "destroyed", ("confirm",))],
    )

    def work() -> dict[str, Any]:
        options, client = module.params, client_of(module)
        device = options["device"]
        check_confirmed(options)
        before = client.get(path_of("keys", device)).body
        steps = decide(device, before["state"], options["state"])
        after = foreseen(before, steps)
        if steps and not module.check_mode:
            after = act(client, device, steps, options["reason"])
        return {
            "changed": bool(steps),
            "key": after,
            "diff": diff_of(
                f"key of {device}", {"state": before["state"]}, {"state": after["state"]}
            ),
        }

    finish(module, work)


if __name__ == "__main__":
    main()
