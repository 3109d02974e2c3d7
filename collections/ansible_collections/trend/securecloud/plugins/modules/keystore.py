#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a server's device keys are, and that all of them are there."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: keystore
short_description: Move, rewrap and prove the device keys of a management server
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Moves all device keys into one keystore, wraps everything under the present master key, and
    proves that every key can be fetched, while the servers serve. Each of it can be interrupted at
    any moment and run again.
  - Runs on a server's machine, once for all servers that share a database, with the
    C(securecloud-server) that is installed and configured there. Both keystores, or both master
    keys, have to be configured, and the servers restarted since;
    M(trend.securecloud.management_server) and its role do that.
extends_documentation_fragment:
  - trend.securecloud.server_command
  - trend.securecloud.attributes
attributes:
  check_mode:
    support: full
    details:
      - How many keys would be moved and wrapped anew is said, and O(proven) is left out.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  all_in:
    description:
      - The keystore in which all keys shall be.
    type: str
    choices:
      - local
      - kmip
  rewrapped:
    description:
      - Whether everything shall be wrapped under the present master key, so that the previous one
        is not needed any more.
    type: bool
    default: false
  proven:
    description:
      - Whether every key shall be fetched, and forgotten, to know that all can be. The task fails
        when one cannot.
    type: bool
    default: false
seealso:
  - module: trend.securecloud.management_server
  - module: trend.securecloud.key
"""

EXAMPLES = r"""
- name: Move all keys into the KMIP server, and see that they are there
  trend.securecloud.keystore:
    all_in: kmip
    proven: true
    user: securecloud

- name: Give the previous master key up
  trend.securecloud.keystore:
    rewrapped: true
    user: securecloud
    credentials:
      - /etc/credstore.encrypted/master-key-2
      - /etc/credstore.encrypted/master-key-1
"""

RETURN = r"""
moved:
  description: How many keys were moved, or in check mode would be.
  returned: with O(all_in)
  type: int
  sample: 12
renewed:
  description: How many values were wrapped anew, or in check mode would be.
  returned: with O(rewrapped=true)
  type: int
  sample: 13
keys:
  description: How many keys were fetched.
  returned: with O(proven=true), not in check mode
  type: int
  sample: 12
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.trend.securecloud.plugins.module_utils._command import Command
from ansible_collections.trend.securecloud.plugins.module_utils._errors import CommandFailed
from ansible_collections.trend.securecloud.plugins.module_utils._module import finish
from ansible_collections.trend.securecloud.plugins.module_utils._server import (
    server_arguments,
    server_command,
)

_SOME_FAILED = 1


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "all_in": {"type": "str", "choices": ["local", "kmip"]},
        "rewrapped": {"type": "bool", "default": False},
        "proven": {"type": "bool", "default": False},
        **server_arguments(),
    }


def keep(command: Command, options: dict[str, Any], check: bool) -> dict[str, Any]:
    """Do, or foresee, what is wanted; CommandFailed names the devices whose keys are in the way."""
    result: dict[str, Any] = {"changed": False}
    if options["all_in"]:
        result["moved"] = _work(command, ["migrate", "--to", options["all_in"]], "moved", check)
    if options["rewrapped"]:
        result["renewed"] = _work(command, ["rewrap"], "renewed", check)
    if options["proven"] and not check:
        result["keys"] = _told(command, ["prove"])["keys"]
    result["changed"] = bool(result.get("moved") or result.get("renewed"))
    return result


def _work(command: Command, words: list[str], done: str, check: bool) -> int:
    told = _told(command, [*words, "--check"] if check else words)
    return int(told["left"] if check else told[done])


def _told(command: Command, words: list[str]) -> dict[str, Any]:
    told = command.json(["keystore", *words], accepted=(0, _SOME_FAILED))
    failed = told.get("failed") or {}
    if failed:
        said = "; ".join(f"{device}: {reason}" for device, reason in sorted(failed.items()))
        raise CommandFailed(f"keystore {words[0]}: {len(failed)} could not be done: {said}")
    return told


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_one_of=[("all_in", "rewrapped", "proven")],
        supports_check_mode=True,
    )
    finish(module, lambda: keep(server_command(module), module.params, module.check_mode))


if __name__ == "__main__":
    main()
