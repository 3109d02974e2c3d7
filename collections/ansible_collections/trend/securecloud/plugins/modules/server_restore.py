#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A management server made of a backup."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: server_restore
short_description: Make a management server of a backup, where there is none
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Puts database and master key of a backup (M(trend.securecloud.server_backup)) into a server that
    is configured and not initialised, and verifies its audit log.
  - What is there is never overwritten. If it is the server of the backup nothing is done, and if it
    is another one the module fails.
  - The playbook C(trend.securecloud.restore) installs the server as well, and tells the agents of
    it.
extends_documentation_fragment:
  - trend.securecloud.server_command
  - trend.securecloud.attributes
attributes:
  check_mode:
    support: full
    details:
      - While the program, its configuration or the backup is not there yet, a change is foreseen.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  src:
    description:
      - Path of the backup on the server's machine.
    type: path
    required: true
  identity:
    description:
      - A secret key of age, C(AGE-SECRET-KEY-1...), to which the backup is encrypted; the text of
        the file that C(age-keygen) wrote will do. It goes to the program through a pipe. With
        Ansible's pipelining it is on no disk of that machine.
    type: str
    required: true
  master_key_to:
    description:
      - New file for the master key, where it is to become a systemd credential; best in memory
        (C(/run)). Otherwise the key goes where the configuration says.
    type: path
  keep_lineages:
    description:
      - Whether no machine got a key after the backup was made. With V(false), each device begins a
        new lineage at its next release, since that in the backup may be behind the machine's.
    type: bool
    default: false
seealso:
  - module: trend.securecloud.server_backup
  - module: trend.securecloud.management_server
"""

EXAMPLES = r"""
- name: Make a server of the backup
  trend.securecloud.server_restore:
    src: /var/lib/securecloud/server/securecloud.age
    identity: "{{ lookup('ansible.builtin.file', '/media/vault/securecloud.identity') }}"
    user: securecloud
  no_log: true
"""

RETURN = r"""
server_id:
  description: Id of the server.
  returned: unless it is foreseen before the backup is there
  type: str
fingerprint:
  description: Fingerprint of its identity, which agents know.
  returned: unless it is foreseen before the backup is there
  type: str
audit_size:
  description: How many records its audit log has, for C(securecloud-agent accept-log).
  returned: when it was restored
  type: int
audit_root:
  description: Root of its audit log in hexadecimal, for the same.
  returned: when it was restored
  type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.trend.securecloud.plugins.module_utils._command import Command
from ansible_collections.trend.securecloud.plugins.module_utils._configure import is_installed
from ansible_collections.trend.securecloud.plugins.module_utils._module import finish
from ansible_collections.trend.securecloud.plugins.module_utils._server import (
    server_arguments,
    server_command,
)

_SERVER = ("server_id", "fingerprint")
_HEAD = ("audit_size", "audit_root")


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "src": {"type": "path", "required": True},
        "identity": {"type": "str", "required": True, "no_log": True},
        "master_key_to": {"type": "path", "no_log": False},
        "keep_lineages": {"type": "bool", "default": False},
        **server_arguments(),
    }


def restore(command: Command, options: dict[str, Any], check: bool) -> dict[str, Any]:
    """Restore, or foresee it; raise CommandFailed where another server is."""
    words = ["restore", "--from", options["src"], "--identity", "-"]
    told = command.json([*words, "--check"], options["identity"])
    server = {key: told[key] for key in _SERVER}
    if check or not told["changed"]:
        return {"changed": bool(told["changed"]), **server}
    if options["master_key_to"]:
        words += ["--master-key-to", options["master_key_to"]]
    if options["keep_lineages"]:
        words += ["--keep-lineages"]
    done = command.json(words, options["identity"])
    return {"changed": True, **{key: done[key] for key in (*_SERVER, *_HEAD)}}


def _can_be_asked(options: dict[str, Any]) -> bool:
    there = (options["config"], options["src"], *options["credentials"])
    return is_installed(options["command"]) and all(map(os.path.exists, there))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)

    def work() -> dict[str, Any]:
        if module.check_mode and not _can_be_asked(module.params):
            return {"changed": True}
        return restore(server_command(module), module.params, module.check_mode)

    finish(module, work)


if __name__ == "__main__":
    main()
