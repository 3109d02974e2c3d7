#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent on this machine: its settings and its enrolment."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: agent
short_description: Configure and enrol a SecureCloud agent on this machine
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Writes the agent's configuration file, and enrols the agent with its management server when a
    token is given. Enrolling makes the machine's identity key, on the machine, and pins the server.
  - Runs on the machine itself, with the C(securecloud-agent) that is installed there. It neither
    installs nor starts it. The role P(trend.securecloud.agent#role) does all of it.
  - An agent that is enrolled stays enrolled as it is. Its identity is never replaced.
extends_documentation_fragment:
  - trend.securecloud.attributes
attributes:
  check_mode:
    support: full
    details:
      - While the program is not installed, a change is foreseen and nothing more is said.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  command:
    description:
      - Path of C(securecloud-agent).
    type: path
    default: /opt/securecloud/agent/bin/securecloud-agent
  config:
    description:
      - Path of the configuration file. It is written with mode 0640.
    type: path
    default: /etc/securecloud/agent.toml
  name:
    description:
      - Name of the agent, 1 to 63 of V(a-z), V(0-9), V(.), V(_) and V(-).
    type: str
    required: true
  servers:
    description:
      - URLs of the management servers. They are tried in parallel.
    type: list
    elements: str
    required: true
  ca_file:
    description:
      - File with the certificates of the authorities that may vouch for the servers. The agent's
        default, V(/etc/securecloud/ca.pem), when left out.
    type: path
  state_dir:
    description:
      - Directory for the agent's identity and state. V(/var/lib/securecloud/agent) when left out.
    type: path
  run_dir:
    description:
      - Directory for what ends with a boot. V(/run/securecloud) when left out.
    type: path
  deadline:
    description:
      - Seconds for one exchange, over all servers. V(60) when left out.
    type: int
  mounts:
    description:
      - Who is told of mounts. With V(systemd) the agent writes a mount unit for each volume, starts
        the units that require it, and stops them before it locks the volume. V(direct) when left
        out.
    type: str
    choices:
      - direct
      - systemd
  provider:
    description:
      - Provider plugin that knows this kind of machine. V(plain) when left out.
    type: str
  region:
    description:
      - Region that the plain provider claims. Empty when left out.
    type: str
  zone:
    description:
      - Zone that the plain provider claims. Empty when left out.
    type: str
  datacenter:
    description:
      - Data centre that the plain provider claims. Empty when left out.
    type: str
  probe_timeout:
    description:
      - Seconds for each fact. V(10) when left out.
    type: int
  enrollment_token:
    description:
      - Token to enrol with, see M(trend.securecloud.enrollment_token). It is not used when the
        agent is enrolled already.
    type: str
  enrollment_token_file:
    description:
      - File on this machine that holds the token, instead of O(enrollment_token).
    type: path
seealso:
  - ref: ansible_collections.trend.securecloud.agent_role
    description: Installs, configures, enrols and starts an agent.
  - module: trend.securecloud.enrollment_token
"""

EXAMPLES = r"""
- name: Configure and enrol web1
  trend.securecloud.agent:
    name: web1
    servers:
      - https://keys1.example.org:8443
      - https://keys2.example.org:8443
    region: eu-central
    enrollment_token: "{{ enrolment.token | default(omit) }}"
"""

RETURN = r"""
configured:
  description: Whether the configuration file was, or in check mode would be, written.
  returned: success
  type: bool
  sample: false
enrolled:
  description: Whether the agent is enrolled now. In check mode, whether it would be.
  returned: success
  type: bool
  sample: true
agent_id:
  description: Id of the agent.
  returned: when it is enrolled
  type: str
server_id:
  description: Id of the server that it is enrolled with.
  returned: when it is enrolled
  type: str
fingerprint:
  description: The server's identity as the agent has pinned it.
  returned: when it is enrolled
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.trend.securecloud.plugins.module_utils._command import Command
from ansible_collections.trend.securecloud.plugins.module_utils._configure import (
    Configured,
    configure,
    is_installed,
)
from ansible_collections.trend.securecloud.plugins.module_utils._module import finish
from ansible_collections.trend.securecloud.plugins.module_utils._resource import given

# From this module's options to the sections and keys of agent.toml.
SETTINGS = {
    "agent": {
        "name": "name",
        "servers": "servers",
        "ca_file": "ca_file",
        "state_dir": "state_dir",
        "run_dir": "run_dir",
    },
    "unlock": {"deadline": "deadline", "mounts": "mounts"},
    "location": {
        "provider": "provider",
        "region": "region",
        "zone": "zone",
        "datacenter": "datacenter",
    },
    "probes": {"timeout": "probe_timeout"},
}
_ENROLLED = ("agent_id", "server_id", "fingerprint")


def argument_spec() -> dict[str, Any]:
    """Return the module's options."""
    return {
        "command": {"type": "path", "default": "/opt/securecloud/agent/bin/securecloud-agent"},
        "config": {"type": "path", "default": "/etc/securecloud/agent.toml"},
        "name": {"type": "str", "required": True},
        "servers": {"type": "list", "elements": "str", "required": True},
        "ca_file": {"type": "path"},
        "state_dir": {"type": "path"},
        "run_dir": {"type": "path"},
        "deadline": {"type": "int"},
        "mounts": {"type": "str", "choices": ["direct", "systemd"]},
        "provider": {"type": "str"},
        "region": {"type": "str"},
        "zone": {"type": "str"},
        "datacenter": {"type": "str"},
        "probe_timeout": {"type": "int"},
        "enrollment_token": {"type": "str", "no_log": True},
        "enrollment_token_file": {"type": "path", "no_log": False},
    }


def settings_from(options: dict[str, Any]) -> dict[str, Any]:
    """Return the tree for `securecloud-agent configure`."""
    return given(
        {
            section: {key: options[option] for key, option in keys.items()}
            for section, keys in SETTINGS.items()
        }
    )


class Enrolment:
    """Enrols the agent; in check mode, foresees whether it would."""

    def __init__(self, command: Command, token: str | None, token_file: str | None) -> None:
        self._command = command
        self._token = token or ""
        self._token_file = token_file

    @property
    def _wanted(self) -> bool:
        return bool(self._token or self._token_file)

    def foresee(self, configured: Configured) -> dict[str, Any]:
        """Return what `act` would, without using the token."""
        status = {} if configured.is_new else self._status()
        enrolled = bool(status.get("enrolled"))
        changed = self._wanted and not enrolled
        return {**status, "changed": changed, "enrolled": enrolled or changed}

    def act(self) -> dict[str, Any]:
        """Enrol if there is a token and the agent is not enrolled yet; say how it stands."""
        if not self._wanted:
            status = self._status()
            return {**status, "changed": False, "enrolled": bool(status.get("enrolled"))}
        where = self._token_file or "-"
        return {
            **self._command.json(["enrol", "--token-file", where], self._token),
            "enrolled": True,
        }

    def _status(self) -> dict[str, Any]:
        return self._command.json(["status"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("enrollment_token", "enrollment_token_file")],
        supports_check_mode=True,
    )
    options, check = module.params, module.check_mode

    def work() -> dict[str, Any]:
        if check and not is_installed(options["command"]):
            return {"changed": True, "configured": True, "enrolled": False}
        command = Command(module.run_command, options["command"], options["config"])
        configured = configure(command, settings_from(options), options["config"], None, check)
        token, token_file = options["enrollment_token"], options["enrollment_token_file"]
        enrolment = Enrolment(command, token, token_file)
        found = enrolment.foresee(configured) if check else enrolment.act()
        return {
            "changed": bool(configured.changed or found["changed"]),
            "configured": configured.changed,
            "enrolled": found["enrolled"],
            **{key: found[key] for key in _ENROLLED if found.get(key)},
            "diff": [
                configured.diff,
                {
                    "before": {"enrolled": found["enrolled"] and not found["changed"]},
                    "after": {"enrolled": found["enrolled"]},
                },
            ],
        }

    finish(module, work)


if __name__ == "__main__":
    main()
