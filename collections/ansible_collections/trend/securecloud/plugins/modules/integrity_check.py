#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have this machine judged now."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: integrity_check
short_description: Check a machine's integrity now
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Has the agent on this machine ask its management server, at once, whether the machine still
    complies with the policies of its devices, as its service does on a schedule and when a fact
    changes. What is granted is opened and mounted, what is denied is locked.
  - What somebody locked with C(securecloud-agent lock) is judged, and stays locked.
  - Runs on the machine itself, with the C(securecloud-agent) that is installed and enrolled there.
extends_documentation_fragment:
  - trend.securecloud.agent_command
  - trend.securecloud.attributes
attributes:
  check_mode:
    support: full
    details:
      - What the server would answer is not foreseen. C(changed) says whether there is a closed
        volume whose key would be asked for.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  names:
    description:
      - Names of the devices to check. All devices of this machine when left out.
    type: list
    elements: str
    default: []
seealso:
  - module: trend.securecloud.agent_check
  - module: trend.securecloud.encrypted_volume_info
  - module: trend.securecloud.key_request_info
"""

EXAMPLES = r"""
- name: Does this machine still comply after the update?
  trend.securecloud.integrity_check:
  register: integrity
  failed_when: not integrity.compliant
"""

RETURN = r"""
compliant:
  description:
    - Whether the server granted every device that was asked for. Not returned in check mode, in
      which it is not asked.
  returned: when it was asked
  type: bool
  sample: true
devices:
  description: What the server answered for each device, and what the volume is now.
  returned: success
  type: list
  elements: dict
  sample:
    - name: web1-data
      outcome: granted
      code: checked
      detail: the check passed
      volume: mounted
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.trend.securecloud.plugins.module_utils._command import Command
from ansible_collections.trend.securecloud.plugins.module_utils._module import finish
from ansible_collections.trend.securecloud.plugins.module_utils._volume import (
    agent_arguments,
    check_names,
)

_PENDING = 3
_DENIED = 4
_KEPT = ("outcome", "code", "detail", "volume")


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {"names": {"type": "list", "elements": "str", "default": []}, **agent_arguments()}


def check(command: Command, names: list[str], foresee: bool) -> dict[str, Any]:
    """Have the devices checked, or foresee it."""
    check_names("names", names)
    flags = ["--check"] if foresee else []
    told = command.json(["check", *flags, *names], accepted=(0, _PENDING, _DENIED))
    devices = [
        {"name": each["device"], **{key: each[key] for key in _KEPT}} for each in told["devices"]
    ]
    answered = {} if foresee else {"compliant": all(d["outcome"] == "granted" for d in devices)}
    return {"changed": told["changed"], "devices": devices, **answered}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params

    def work() -> dict[str, Any]:
        command = Command(module.run_command, options["command"], options["config"])
        return check(command, options["names"], module.check_mode)

    finish(module, work)


if __name__ == "__main__":
    main()
