#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted devices: whose they are, their policy, and how they are mounted."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: device
short_description: Register encrypted devices with a SecureCloud management server
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Registers, changes and removes devices. A device is one encrypted volume of one machine. The
    server makes its key in the same step.
  - Options that are left out keep their value. With a new device, they get their default.
extends_documentation_fragment:
  - trend.securecloud.connection
  - trend.securecloud.attributes
  - trend.securecloud.attributes.api
attributes:
  check_mode:
    support: full
    details:
      - Whether the agent, the group and the policy exist is not looked up, for an earlier task may
        be about to make them.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the device, 1 to 63 of V(a-z), V(0-9), V(.), V(_) and V(-).
      - On the machine, the open volume is C(/dev/mapper/sc-NAME).
    type: str
    required: true
  agent:
    description:
      - Name of the agent on the machine that has the volume. It must be enrolled.
      - Required with a new device.
    type: str
  group:
    description:
      - Name of the device group. An empty string takes the device out of its group.
    type: str
  policy:
    description:
      - Name of the device's own policy. An empty string takes it away, so that the policy of the
        group applies, or else the policy V(default).
    type: str
  enabled:
    description:
      - Whether the device may have its key. True with a new device.
    type: bool
  volume:
    description:
      - Where the volume is and how it is mounted. Suboptions that are left out keep their value.
    type: dict
    suboptions:
      source:
        description:
          - Absolute path of a block device, best below V(/dev/disk/by-id), or of a file.
          - With a new device, either this or O(volume.iscsi) is required. Giving one of them takes
            the other away.
        type: str
      iscsi:
        description:
          - A disk behind the network, which the agent connects to before it looks at it. All three
            suboptions are replaced together.
          - The machine needs the Debian package C(open-iscsi), which the role
            P(trend.securecloud.agent#role) installs where a device needs it.
        type: dict
        suboptions:
          portal:
            description:
              - IP address of the target as the machine sees it, an IPv6 address in brackets, with
                C(:PORT) or without, which means 3260. Not a host name.
            type: str
            required: true
          target:
            description:
              - Its iSCSI name, which begins with V(iqn.), V(eui.) or V(naa.).
            type: str
            required: true
          lun:
            description:
              - Number of the disk in the target, 0 to 255.
            type: int
            required: true
      filesystem:
        description:
          - Its file system. V(ext4) with a new device.
        type: str
        choices:
          - ext4
          - xfs
      mount_point:
        description:
          - Absolute path at which to mount it. An empty string means that it is only opened.
        type: str
      options:
        description:
          - Mount options. V(defaults) with a new device.
        type: list
        elements: str
      read_only:
        description:
          - Whether it is opened and mounted for reading only. False with a new device.
        type: bool
      initialise:
        description:
          - Whether the agent may encrypt it and make a file system on it if it is blank. V(never)
            with a new device.
        type: str
        choices:
          - never
          - if_blank
  state:
    description:
      - Whether the device is registered.
      - B(Removing a device destroys its key), and with it what is on the volume. Give O(confirm).
        While its machine has it open it is refused without O(force).
    type: str
    choices:
      - present
      - absent
    default: present
  confirm:
    description:
      - The name of the device once more, required when O(state=absent).
    type: str
  force:
    description:
      - Whether O(state=absent) also removes a device that its machine uses. The machine closes it
        at its next exchange, and nothing opens it again.
      - Without, revoke its key first, with M(trend.securecloud.key), and wait until
        its C(volume_state) is V(closed).
    type: bool
    default: false
seealso:
  - module: trend.securecloud.device_info
  - module: trend.securecloud.key
"""

EXAMPLES = r"""
- name: The data volume of web1
  trend.securecloud.device:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    name: web1-data
    agent: web1
    group: web
    volume:
      source: /dev/disk/by-id/virtio-data
      mount_point: /srv/data
      options:
        - noatime
      initialise: if_blank

- name: A volume on a storage server
  trend.securecloud.device:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    name: db1-data
    agent: db1
    volume:
      iscsi:
        portal: 10.0.0.5
        target: iqn.2026-01.org.example:db1
        lun: 1
      mount_point: /srv/db
      initialise: if_blank

- name: Give a device a policy of its own
  trend.securecloud.device:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    name: web1-data
    policy: maintenance

- name: Remove a device and its key for good
  trend.securecloud.device:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    name: web1-data
    state: absent
    confirm: web1-data
"""

RETURN = r"""
device:
  description:
    - The device as the server has it now. In check mode, as far as it is known.
    - Null when O(state=absent).
  returned: success
  type: dict
  sample:
    name: web1-data
    agent: web1
    group: web
    policy: null
    effective_policy: web
    enabled: true
    volume:
      source: /dev/disk/by-id/virtio-data
      iscsi: null
      filesystem: ext4
      mount_point: /srv/data
      options:
        - noatime
      read_only: false
      initialise: if_blank
    key:
      state: pre_active
      version: 1
    volume_state: null
    header: null
errors:
  description: The fields that were refused, each with what was expected.
  returned: failure
  type: list
  elements: dict
"""

from typing import Any

from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)
from ansible_collections.trend.securecloud.plugins.module_utils._resource import (
    Change,
    Kind,
    converge,
    decide_absent,
    decide_present,
    given,
)

DEVICE = Kind(
    label="device",
    collection="devices",
    defaults={
        "agent": None,
        "group": None,
        "policy": None,
        "enabled": True,
        "volume": {
            "source": None,
            "iscsi": None,
            "filesystem": "ext4",
            "mount_point": None,
            "options": ["defaults"],
            "read_only": False,
            "initialise": "never",
        },
    },
    required=("agent", "volume.source"),
    merged=("volume",),
    clearable=("group", "policy", "volume.mount_point"),
    alternatives=(("volume.source", "volume.iscsi"),),
)

IN_USE = ("released", "open", "suspended")
"""The states of a volume in which its machine needs the key, or may."""

_ISCSI_PORT = 3260


def volume_argument() -> dict[str, Any]:
    """Return the argument spec of volume."""
    return {
        "type": "dict",
        "options": {
            "source": {"type": "str"},
            "iscsi": {
                "type": "dict",
                "options": {
                    "portal": {"type": "str", "required": True},
                    "target": {"type": "str", "required": True},
                    "lun": {"type": "int", "required": True},
                },
            },
            "filesystem": {"type": "str", "choices": ["ext4", "xfs"]},
            "mount_point": {"type": "str"},
            "options": {"type": "list", "elements": "str"},
            "read_only": {"type": "bool"},
            "initialise": {"type": "str", "choices": ["never", "if_blank"]},
        },
        "mutually_exclusive": [("source", "iscsi")],
    }


def wanted_device(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that the options want, as the server writes them."""
    wanted = given({key: options[key] for key in DEVICE.defaults})
    iscsi = wanted.get("volume", {}).get("iscsi")
    if iscsi:
        iscsi["portal"] = with_port(iscsi["portal"])
    return wanted


def with_port(portal: str) -> str:
    """Return the iSCSI portal with its port, as the server would write it; bad ones as they are."""
    has_none = portal.endswith("]") or ":" not in portal
    return f"{portal}:{_ISCSI_PORT}" if portal and has_none else portal


def check_confirmed(options: dict[str, Any]) -> None:
    """Raise InvalidOption unless the name was repeated."""
    if options["confirm"] != options["name"]:
        message = f"must be {options['name']} to remove this device and destroy its key"
        raise InvalidOption("confirm", "the name of the device", message)


def check_unused(change: Change) -> None:
    """Raise InvalidOption when the change removes what a machine uses, as the server would."""
    state = change.current.get("volume_state")
    if change.needed and not change.force and state in IN_USE:
        message = (
            f"must be true to remove device {change.name}, which is {state} on agent "
            f"{change.current['agent']}: what is on it would be lost. Revoke its key and wait until"
            " it is closed there"
        )
        raise InvalidOption("force", "true", message)


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "name": {"type": "str", "required": True},
            "agent": {"type": "str"},
            "group": {"type": "str"},
            "policy": {"type": "str"},
            "enabled": {"type": "bool"},
            "volume": volume_argument(),
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "confirm": {"type": "str"},
            "force": {"type": "bool", "default": False},
        },
        required_if=[("state", "absent", ("confirm",))],
    )

    def work() -> dict[str, Any]:
        options, client = module.params, client_of(module)
        name = options["name"]
        if options["state"] == "absent":
            check_confirmed(options)
        current = client.find(DEVICE.path(name))
        if options["state"] == "absent":
            change = decide_absent(DEVICE, name, current, force=options["force"])
            check_unused(change)
        else:
            change = decide_present(DEVICE, name, current, wanted_device(options))
        return converge(client, change, module.check_mode)

    finish(module, work)


if __name__ == "__main__":
    main()
