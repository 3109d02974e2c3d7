#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup of a management server, in one encrypted file."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: server_backup
short_description: Back up a management server into one encrypted file
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Writes the database, as it is at one moment while the servers serve, and the master key into a
    file that only the recipients can read (age). Whoever has that file and a recipient's secret key
    has every device key.
  - Runs on a server's machine, with the C(securecloud-server) that is installed there. To restore,
    see C(docs/server.md).
extends_documentation_fragment:
  - trend.securecloud.server_command
  - trend.securecloud.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - A file that is there stays as it is, unless O(force=true).
options:
  dest:
    description:
      - Path of the file, in a directory in which O(user) may write.
    type: path
    required: true
  recipients:
    description:
      - Public keys of age, C(age1...), as C(age-keygen) prints them.
    type: list
    elements: str
    required: true
  force:
    description:
      - Whether to replace a file that is there.
    type: bool
    default: false
seealso:
  - module: trend.securecloud.management_server
"""

EXAMPLES = r"""
- name: Back up what there is now
  trend.securecloud.server_backup:
    dest: "/var/lib/securecloud/server/backup-{{ now().strftime('%Y%m%d') }}.age"
    recipients:
      - age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
    user: securecloud
"""

RETURN = r"""
server_id:
  description: Id of the server.
  returned: when it was made
  type: str
schema_version:
  description: Version of the database's schema.
  returned: when it was made
  type: int
audit_size:
  description: How many audit events the log had before that of the backup.
  returned: when it was made
  type: int
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.trend.securecloud.plugins.module_utils._command import Command
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.module_utils._module import finish
from ansible_collections.trend.securecloud.plugins.module_utils._server import (
    server_arguments,
    server_command,
)

_TOLD = ("server_id", "schema_version", "audit_size")


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "dest": {"type": "path", "required": True},
        "recipients": {"type": "list", "elements": "str", "required": True, "no_log": False},
        "force": {"type": "bool", "default": False},
        **server_arguments(),
    }


def back_up(command: Command, options: dict[str, Any], check: bool) -> dict[str, Any]:
    """Make the backup, or foresee it."""
    recipients = options["recipients"]
    if not recipients or not all(each.startswith("age1") for each in recipients):
        expected = "public keys of age, age1..."
        raise InvalidOption("recipients", expected, f"what it holds are not {expected}")
    there = os.path.exists(options["dest"])
    if there and not options["force"]:
        return {"changed": False}
    if check:
        return {"changed": True}
    words = [word for each in recipients for word in ("--recipient", each)]
    force = ["--force"] if there else []
    told = command.json(["backup", "--to", options["dest"], *words, *force])
    return {"changed": True, **{key: told[key] for key in _TOLD}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    finish(module, lambda: back_up(server_command(module), module.params, module.check_mode))


if __name__ == "__main__":
    main()
