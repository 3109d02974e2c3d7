#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One-use rights to enrol an agent."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: enrollment_token
short_description: Mint and revoke enrolment tokens
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Mints the token with which the agent of one machine enrols, once. The server shows a token only
    at that moment.
  - Nothing is minted for an agent that is enrolled already.
  - At most one token of an agent is good at a time. Minting one revokes those that were not used.
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
    support: partial
    details:
      - Without O(dest), every run before the agent has enrolled mints another token, for the last
        one cannot be shown again. With O(dest), a token there that is still good is kept.
options:
  agent_name:
    description:
      - Name of the agent that may enrol with the token.
    type: str
    required: true
  expires_in:
    description:
      - Seconds until the token expires, 60 to 2592000.
    type: int
    default: 3600
  dest:
    description:
      - File for the token, on the machine where the module runs. It is readable by its owner alone.
        The token is then not part of the result.
      - With O(state=absent), the file is removed.
    type: path
  state:
    description:
      - V(present) mints a token unless the agent is enrolled. V(absent) revokes those of the
        agent's tokens that were not used.
    type: str
    choices:
      - present
      - absent
    default: present
seealso:
  - module: trend.securecloud.agent
  - module: trend.securecloud.agent_info
"""

EXAMPLES = r"""
- name: Mint a token for web1 unless it is enrolled
  trend.securecloud.enrollment_token:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    agent_name: web1
    expires_in: 900
  delegate_to: localhost
  register: enrolment

- name: Enrol web1 with it
  trend.securecloud.agent:
    name: web1
    servers:
      - https://keys.example.org:8443
    enrollment_token: "{{ enrolment.token | default(omit) }}"

- name: The machine will not be installed after all
  trend.securecloud.enrollment_token:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    agent_name: web1
    state: absent
"""

RETURN = r"""
token:
  description: The token. Keep the task's result secret.
  returned: when one was minted and O(dest) is not given
  type: str
  sample: sce.01jf7c2p0q.SECRET.FINGERPRINT
id:
  description: Id of the token that was minted or kept.
  returned: when there is one
  type: str
  sample: 01jf7c2p0q
expires_at:
  description: When it expires, RFC 3339.
  returned: when there is one
  type: str
  sample: "2026-01-31T12:00:00Z"
enrolled:
  description: Whether the agent is enrolled already.
  returned: success
  type: bool
  sample: false
revoked:
  description: Ids of the tokens that were, or in check mode would be, revoked.
  returned: success
  type: list
  elements: str
  sample: []
errors:
  description: The fields that were refused, each with what was expected.
  returned: failure
  type: list
  elements: dict
"""

import os
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._errors import SecureCloudError
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)
from ansible_collections.trend.securecloud.plugins.module_utils._secret_file import SecretFile

_PATH = "enrollment-tokens"
_TOKEN_PARTS = 4


@dataclass(frozen=True)
class Plan:
    """What is to be done: mint or not, which tokens to revoke, and what becomes of the file."""

    enrolled: bool
    mint: bool = False
    kept: dict[str, Any] | None = None
    revoke: tuple[str, ...] = ()
    remove_file: bool = False
    fix_mode: bool = False

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return self.mint or bool(self.revoke) or self.remove_file or self.fix_mode


@dataclass
class Tokens:
    """The enrolment tokens of one agent, and the file that one of them may be in."""

    client: Client
    agent_name: str
    file: SecretFile | None = None
    minted: dict[str, Any] = field(default_factory=dict)

    def decide_present(self) -> Plan:
        """Return what it takes to have a good token, if the agent needs one."""
        if self._is_enrolled():
            return Plan(enrolled=True)
        kept = self._token_in_file()
        if kept is not None and self.file is not None:
            return Plan(enrolled=False, kept=kept, fix_mode=not self.file.is_private())
        return Plan(enrolled=False, mint=True, revoke=self._unused())

    def decide_absent(self) -> Plan:
        """Return what it takes to have no unused token, here and on the server."""
        return Plan(
            enrolled=self._is_enrolled(),
            revoke=self._unused(),
            remove_file=self.file is not None and self.file.exists(),
        )

    def act(self, plan: Plan, expires_in: int) -> None:
        """Mint first and revoke then, so that a failure between leaves a good token."""
        if plan.mint:
            wish = {"agent_name": self.agent_name, "expires_in": expires_in}
            self.minted = dict(self.client.post(path_of(_PATH), wish).body)
            self._store()
        for token_id in plan.revoke:
            self.client.delete(path_of(_PATH, token_id))
        if plan.fix_mode and self.file is not None:
            self.file.make_private()
        if plan.remove_file and self.file is not None:
            self.file.remove()

    def _store(self) -> None:
        """Put the new token into the file, if there is one; a token that got lost is revoked."""
        if self.file is None:
            return
        try:
            self.file.write(self.minted.pop("token"))
        except SecureCloudError:
            self.client.delete(path_of(_PATH, self.minted["id"]))
            raise

    def _is_enrolled(self) -> bool:
        agent = self.client.find(path_of("agents", self.agent_name))
        return agent is not None and agent.body.get("state") == "active"

    def _unused(self) -> tuple[str, ...]:
        tokens = self.client.items(path_of(_PATH))
        return tuple(token["id"] for token in tokens if self._is_good(token))

    def _is_good(self, token: dict[str, Any]) -> bool:
        return token.get("agent_name") == self.agent_name and token.get("state") == "unused"

    def _token_in_file(self) -> dict[str, Any] | None:
        """Return the server's record of the token in the file while that is still good."""
        parts = (self.file.read() if self.file else "").split(".")
        if len(parts) != _TOKEN_PARTS or parts[0] != "sce":
            return None
        record = self.client.find(path_of(_PATH, parts[1]))
        return record.body if record is not None and self._is_good(record.body) else None


def result_of(plan: Plan, tokens: Tokens) -> dict[str, Any]:
    """Return the module's result after deciding, and acting where that was done."""
    shown = {**(plan.kept or {}), **tokens.minted}
    word = "enrolled" if plan.enrolled else "no token"
    before = f"token {plan.kept['id']}" if plan.kept else word
    return {
        "changed": plan.needed,
        "enrolled": plan.enrolled,
        "revoked": list(plan.revoke),
        **{key: shown[key] for key in ("id", "expires_at", "token") if key in shown},
        "diff": {
            "before": {"enrolment": before, "unused_tokens": len(plan.revoke)},
            "after": {
                "enrolment": "a new token" if plan.mint else before,
                "unused_tokens": int(plan.mint),
            },
        },
    }


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "agent_name": {"type": "str", "required": True},
            "expires_in": {"type": "int", "default": 3600},
            "dest": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        }
    )

    def work() -> dict[str, Any]:
        options = module.params
        dest = options["dest"]
        file = SecretFile(os.path.abspath(dest)) if dest else None
        tokens = Tokens(client_of(module), options["agent_name"], file)
        absent = options["state"] == "absent"
        plan = tokens.decide_absent() if absent else tokens.decide_present()
        if plan.needed and not module.check_mode:
            tokens.act(plan, options["expires_in"])
        return result_of(plan, tokens)

    finish(module, work)


if __name__ == "__main__":
    main()
