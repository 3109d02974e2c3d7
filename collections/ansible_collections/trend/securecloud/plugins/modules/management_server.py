#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The management server on this machine: its settings, its data and its first token."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: management_server
short_description: Configure and initialise a SecureCloud management server on this machine
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Writes the server's configuration file, creates what it needs to start (data directory, master
    key, identity, the policy V(default), the first API token) and brings its database up to date.
  - Runs on the machine itself, with the C(securecloud-server) that is installed there. It neither
    installs nor starts it. The role P(trend.securecloud.management_server#role) does all of it.
  - What is there already is kept. A master key is never replaced.
extends_documentation_fragment:
  - trend.securecloud.attributes
attributes:
  check_mode:
    support: full
    details:
      - While the program is not installed or not configured, a change is foreseen and nothing more
        is said.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  command:
    description:
      - Path of C(securecloud-server).
    type: path
    default: /opt/securecloud/server/bin/securecloud-server
  config:
    description:
      - Path of the configuration file. It is written with mode 0640.
    type: path
    default: /etc/securecloud/server.toml
  group:
    description:
      - Group that may read the configuration file. The group of the writer when left out.
    type: str
  user:
    description:
      - Account that the server runs as and that shall own its data. The one that the module runs as
        when left out.
    type: str
  credentials:
    description:
      - Files with encrypted systemd credentials (C(systemd-creds encrypt)) that are given to the
        program under the files' names, for O(keystore.master_key=credential:NAME).
    type: list
    elements: path
    default: []
  admin_token_file:
    description:
      - File into which the first API token, with the role account_administrator, is written if the
        file does not exist. Its directory must be writable for O(user).
    type: path
  initialise:
    description:
      - Whether to create what the server needs. With V(false) it is only configured, as it
        has to be for M(trend.securecloud.server_restore).
    type: bool
    default: true
  server:
    description:
      - How the server is reached.
    type: dict
    suboptions:
      listen:
        description: Address and port, V(127.0.0.1:8443) when left out.
        type: str
      public_url:
        description: Under which URL agents and people reach it.
        type: str
      tls_certificate:
        description: File with the certificate in PEM form, the leaf first.
        type: path
      tls_key:
        description: File with its private key.
        type: path
      workers:
        description: Number of processes.
        type: int
      threads:
        description: Number of threads in each.
        type: int
      metrics_public:
        description: Whether C(/metrics) can be read without a token.
        type: bool
  storage:
    description:
      - Where the data is.
    type: dict
    suboptions:
      url:
        description:
          - V(sqlite:////absolute/path) or V(postgresql://USER@HOST/NAME). A password belongs into
            the account's C(.pgpass).
        type: str
  keystore:
    description:
      - What keeps the device keys.
    type: dict
    suboptions:
      type:
        description: Kind of keystore.
        type: str
        choices:
          - local
          - kmip
      master_key:
        description:
          - V(file:/absolute/path), V(credential:NAME), of systemd, or V(shares:/absolute/path).
        type: str
      previous_master_key:
        description:
          - The one before, while what it wraps is wrapped anew; else empty.
        type: str
  kmip:
    description:
      - The KMIP server that keeps the device keys with O(keystore.type=kmip).
    type: dict
    suboptions:
      server:
        description: C(host:port).
        type: str
      ca_file:
        description: Path of the certificates that vouch for it.
        type: str
      certificate:
        description: Path of this server's certificate for it.
        type: str
      key:
        description: Path of that certificate's key.
        type: str
      timeout:
        description: Seconds for a connection, and for each answer.
        type: int
      cache:
        description: Seconds for which a key stays in memory, at most 300; V(0) for not at all.
        type: int
  policy:
    description:
      - Times of the exchange with agents, in seconds.
    type: dict
    suboptions:
      session_lifetime:
        description: How long an agent may take for its evidence.
        type: int
      pending_retry:
        description: After how long an agent asks again while its request is pending.
        type: int
      approval_lifetime:
        description: How long an approval waits for its agent.
        type: int
      check_interval:
        description: How often a running agent proves its state.
        type: int
  evidence:
    description:
      - How much of each device's evidence is kept, so that drafts of policies can be replayed on
        it. The last document always is.
    type: dict
    suboptions:
      history:
        description: Number of documents of each device, the last one included.
        type: int
      days:
        description: After how many days the others are forgotten.
        type: int
  log:
    description:
      - The server's log, JSON lines on its standard error.
    type: dict
    suboptions:
      level:
        description: The least level that is logged.
        type: str
        choices:
          - debug
          - info
          - warning
          - error
seealso:
  - ref: ansible_collections.trend.securecloud.management_server_role
    description: Installs, configures and starts a management server.
  - module: trend.securecloud.agent
"""

EXAMPLES = r"""
- name: A server on SQLite
  trend.securecloud.management_server:
    group: securecloud
    user: securecloud
    admin_token_file: /var/lib/securecloud/server/admin.token
    server:
      listen: 0.0.0.0:8443
      public_url: https://keys.example.org:8443
"""

RETURN = r"""
configured:
  description: Whether the configuration file was, or in check mode would be, written.
  returned: success
  type: bool
  sample: true
created:
  description: What was created besides.
  returned: success
  type: list
  elements: str
  sample:
    - master_key
    - schema
    - identity
server_id:
  description: Id of the server.
  returned: when it is initialised
  type: str
fingerprint:
  description: What agents pin, the SHA-256 of the server's identity in base64url.
  returned: when it is initialised
  type: str
schema_version:
  description: Version of the database's schema.
  returned: when it is initialised
  type: int
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.trend.securecloud.plugins.module_utils._command import Command
from ansible_collections.trend.securecloud.plugins.module_utils._configure import (
    configure,
    is_installed,
    settings_of,
)
from ansible_collections.trend.securecloud.plugins.module_utils._module import finish

SECTIONS: dict[str, dict[str, Any]] = {
    "server": {
        "listen": {"type": "str"},
        "public_url": {"type": "str"},
        "tls_certificate": {"type": "path"},
        "tls_key": {"type": "path", "no_log": False},
        "workers": {"type": "int"},
        "threads": {"type": "int"},
        "metrics_public": {"type": "bool"},
    },
    "storage": {"url": {"type": "str"}},
    "keystore": {
        "type": {"type": "str", "choices": ["local", "kmip"]},
        "master_key": {"type": "str", "no_log": False},
        "previous_master_key": {"type": "str", "no_log": False},
    },
    "kmip": {
        "server": {"type": "str"},
        "ca_file": {"type": "str"},
        "certificate": {"type": "str"},
        "key": {"type": "str", "no_log": False},
        "timeout": {"type": "int"},
        "cache": {"type": "int"},
    },
    "policy": {
        "session_lifetime": {"type": "int"},
        "pending_retry": {"type": "int"},
        "approval_lifetime": {"type": "int"},
        "check_interval": {"type": "int"},
    },
    "evidence": {"history": {"type": "int"}, "days": {"type": "int"}},
    "log": {"level": {"type": "str", "choices": ["debug", "info", "warning", "error"]}},
}


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    sections = {
        name: {"type": "dict", "options": spec, "no_log": False} for name, spec in SECTIONS.items()
    }
    return {
        "command": {"type": "path", "default": "/opt/securecloud/server/bin/securecloud-server"},
        "config": {"type": "path", "default": "/etc/securecloud/server.toml"},
        "group": {"type": "str"},
        "user": {"type": "str"},
        "credentials": {"type": "list", "elements": "path", "default": [], "no_log": False},
        "admin_token_file": {"type": "path", "no_log": False},
        "initialise": {"type": "bool", "default": True},
        **sections,
    }


def initialise(command: Command, admin_token_file: str | None, check: bool) -> dict[str, Any]:
    """Create what is missing, then migrate; return what both said as one."""
    flags = ["--check"] if check else []
    token = ["--admin-token-file", admin_token_file] if admin_token_file else []
    created = command.json(["init", *flags, *token])
    migrated = command.json(["db", "upgrade", *flags])
    return {**created, "changed": bool(created["changed"] or migrated["changed"])}


def _can_be_asked(options: dict[str, Any]) -> bool:
    """Say whether the program is there, and the credentials without which it says nothing."""
    return is_installed(options["command"]) and all(map(os.path.exists, options["credentials"]))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    options, check = module.params, module.check_mode

    def work() -> dict[str, Any]:
        if check and not _can_be_asked(options):
            return {"changed": True, "configured": True, "created": []}
        program, config = options["command"], options["config"]
        configured = configure(
            Command(module.run_command, program, config),
            settings_of(options, tuple(SECTIONS)),
            config,
            options["group"],
            check,
        )
        owner = Command(
            module.run_command, program, config, options["user"], options["credentials"]
        )
        init: dict[str, Any] = {"changed": options["initialise"], "created": []}
        if options["initialise"] and not (check and configured.is_new):
            init = initialise(owner, options["admin_token_file"], check)
        known = ("server_id", "fingerprint", "schema_version")
        created = list(init.get("created", []))
        return {
            "changed": bool(configured.changed or init["changed"]),
            "configured": configured.changed,
            "created": created,
            **{key: init[key] for key in known if init.get(key) is not None},
            "diff": [configured.diff, {"before": {}, "after": {"created": created}}],
        }

    finish(module, work)


if __name__ == "__main__":
    main()
