#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The encrypted volumes of this machine."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: encrypted_volume_info
short_description: Read the encrypted volumes of this machine
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Reads what the agent on this machine knows of its volumes, without asking the server; among it
    how far one is that is being encrypted in place.
extends_documentation_fragment:
  - trend.securecloud.agent_command
  - trend.securecloud.attributes
  - trend.securecloud.attributes.info
options:
  name:
    description:
      - Name of one device. All devices of this machine when left out.
    type: str
seealso:
  - module: trend.securecloud.encrypted_volume
  - module: trend.securecloud.device_info
"""

EXAMPLES = r"""
- name: Is the volume open?
  trend.securecloud.encrypted_volume_info:
    name: web1-data
  register: found
  failed_when: not found.volumes[0].finished
"""

RETURN = r"""
volumes:
  description:
    - The volumes. One that was asked for by name and that the machine does not know is V(closed).
  returned: success
  type: list
  elements: dict
  sample:
    - name: web1-data
      volume: mounted
      finished: true
      outcome: granted
      code: checked
      detail: the check passed
      at: "2026-01-31T12:00:00Z"
      held: false
      progress: null
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.trend.securecloud.plugins.module_utils._command import Command
from ansible_collections.trend.securecloud.plugins.module_utils._module import finish
from ansible_collections.trend.securecloud.plugins.module_utils._volume import (
    agent_arguments,
    is_finished,
)

_UNKNOWN = {"volume": "closed", "held": False}
_KEPT = ("volume", "outcome", "code", "detail", "at", "held")


def read(status: dict[str, Any], name: str | None) -> list[dict[str, Any]]:
    """Return one volume or all of them, from the agent's status."""
    known = {each["device"]: each for each in status["devices"]}
    names = sorted(known) if name is None else [name]
    return [_one(each, known.get(each, _UNKNOWN)) for each in names]


def _one(name: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        **{key: found.get(key) for key in _KEPT},
        "finished": is_finished(found["volume"]),
        "progress": found.get("encryption"),
    }


def main() -> None:
    """Run the module."""
    spec = {
        "name": {"type": "str"},
        **agent_arguments(),
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    options = module.params

    def work() -> dict[str, Any]:
        command = Command(module.run_command, options["command"], options["config"])
        return {"changed": False, "volumes": read(command.json(["status"]), options["name"])}

    finish(module, work)


if __name__ == "__main__":
    main()
