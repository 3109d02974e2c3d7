#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device's volume on this machine, encrypted: a new one, or a file system in place."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: encrypted_volume
short_description: Encrypt a disk of this machine, with the data that is on it
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Makes the volume of a registered device an encrypted one. A blank disk gets a new LUKS2 volume
    with the device's file system. An existing ext4 or XFS file system is encrypted in place, and
    its data is kept. Then the volume is opened and mounted.
  - Runs on the machine itself, with the C(securecloud-agent) that is installed and enrolled there.
    The management server must grant the key.
  - Encrypting in place is safe against power cuts at any moment. The agent's service goes on with
    it by itself, also after a reboot.
  - A disk is refused, with the reason, when it is mounted or named in C(/etc/fstab), is the root
    disk or swap, belongs to LVM or a RAID, is divided into partitions, or holds anything else than
    the file system of the device.
  - The file system must have 32 MiB to spare, for the LUKS headers, or end 32 MiB before the disk
    does. XFS cannot be made smaller, so for it the disk must be larger.
extends_documentation_fragment:
  - trend.securecloud.agent_command
  - trend.securecloud.attributes
attributes:
  check_mode:
    support: full
    details:
      - Whether the disk will be refused is not foreseen, for only the server's grant says which
        disk it is.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the device, see M(trend.securecloud.device).
    type: str
    required: true
  wait:
    description:
      - Stay until all is encrypted and the volume is open. With V(false) the running service is
        told to do it, and RV(finished) and RV(progress) say how far it is, see the example.
    type: bool
    default: true
seealso:
  - module: trend.securecloud.encrypted_volume_info
  - module: trend.securecloud.device
"""

EXAMPLES = r"""
- name: Encrypt the data disk and stay until it is done
  trend.securecloud.encrypted_volume:
    name: web1-data

- name: Begin
  trend.securecloud.encrypted_volume:
    name: web1-data
    wait: false

- name: Show how far it is until it is done
  trend.securecloud.encrypted_volume_info:
    name: web1-data
  register: volume
  until: volume.volumes[0].finished
  retries: 1000
  delay: 30
"""

RETURN = r"""
outcome:
  description: Whether the server V(granted) the key. V(pending) when somebody has to approve it.
  returned: success
  type: str
  sample: granted
volume:
  description: What the volume is now.
  returned: success
  type: str
  sample: mounted
finished:
  description: Whether all of it is encrypted and it is open.
  returned: success
  type: bool
  sample: true
progress:
  description: How far encrypting in place is, or how it ended. Not there for a volume that was new.
  returned: when there is one
  type: dict
  sample:
    phase: encrypting
    done: 440401920
    total: 1073741824
    percent: 41.0
    rate: 52428800
    remaining: 12
    detail: ""
    text: "encryption in place: 41.0 % of 1024 MiB, 50.0 MiB/s, 0:00:12 left"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.trend.securecloud.plugins.module_utils._command import Command
from ansible_collections.trend.securecloud.plugins.module_utils._module import finish
from ansible_collections.trend.securecloud.plugins.module_utils._volume import (
    agent_arguments,
    check_names,
    is_finished,
)

_PENDING = 3


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "name": {"type": "str", "required": True},
        "wait": {"type": "bool", "default": True},
        **agent_arguments(),
    }


def encrypt(command: Command, name: str, wait: bool, check: bool) -> dict[str, Any]:
    """Encrypt the device's volume, or foresee it."""
    check_names("name", [name])
    before = volume_of(command.json(["status"]), name)
    flags = [*([] if wait else ["--background"]), *(["--check"] if check else [])]
    told = command.json(["encrypt", *flags, name], accepted=(0, _PENDING))
    after = "mounted" if check and told["changed"] else told["volume"]
    return {
        "changed": told["changed"],
        "outcome": told["outcome"],
        "volume": told["volume"],
        "finished": is_finished(told["volume"]),
        **({"progress": told["progress"]} if told["progress"] else {}),
        "diff": {"before": {"volume": before}, "after": {"volume": after}},
    }


def volume_of(status: dict[str, Any], name: str) -> str:
    """Return what the status says of the device's volume."""
    found = [each["volume"] for each in status["devices"] if each["device"] == name]
    return found[0] if found else "closed"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params

    def work() -> dict[str, Any]:
        command = Command(module.run_command, options["command"], options["config"])
        return encrypt(command, options["name"], options["wait"], module.check_mode)

    finish(module, work)


if __name__ == "__main__":
    main()
