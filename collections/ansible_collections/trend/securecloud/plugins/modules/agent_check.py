#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask machines, through their server, for an integrity check."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: agent_check
short_description: Have machines checked now, through their management server
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Asks a management server for an integrity check of machines, and waits until they have shown
    what they are and were judged. What is granted is opened and mounted, what is denied is locked,
    as with the checks that they make on a schedule.
  - Needs no connection to the machines. Their agents wait at the server and begin within about a
    second. One that is off, or does not reach a server, makes its check when it is back.
  - To check the machine that a play runs on, use M(trend.securecloud.integrity_check).
extends_documentation_fragment:
  - trend.securecloud.connection
  - trend.securecloud.attributes
  - trend.securecloud.attributes.api
attributes:
  check_mode:
    support: full
    details:
      - No check is asked for, and what would come of it is not foreseen. C(changed) is false.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - Each run asks for a check. C(changed) says whether a device is granted now and was not, or
        the other way round.
options:
  names:
    description:
      - Names of the agents to ask.
    type: list
    elements: str
    required: true
  wait:
    description:
      - Seconds to wait until all have been judged. With V(0) it only asks.
    type: int
    default: 30
seealso:
  - module: trend.securecloud.integrity_check
  - module: trend.securecloud.agent_info
  - module: trend.securecloud.key_request_info
"""

EXAMPLES = r"""
- name: Do the web servers still comply after the night's updates?
  trend.securecloud.agent_check:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    names: "{{ groups['web'] }}"
    wait: 60
  register: integrity
  failed_when: not integrity.compliant
"""

RETURN = r"""
agents:
  description:
    - The agents in the order of O(names), with their devices. An agent that has not answered
      (C(answered)) keeps being asked; its devices are shown as they were judged last. How a volume
      is on its machine (C(volume_state)) is told a moment after the judgement.
  returned: success
  type: list
  elements: dict
  sample:
    - name: web1
      answered: true
      check_requested_at: "2026-01-31T12:00:00Z"
      check_answered_at: "2026-01-31T12:00:01Z"
      devices:
        - name: web1-data
          outcome: granted
          code: checked
          volume_state: open
compliant:
  description:
    - Whether all agents have answered and all of their devices were granted.
  returned: when it was waited for, not in check mode
  type: bool
  sample: true
errors:
  description: The fields that were refused, each with what was expected.
  returned: failure
  type: list
  elements: dict
"""

import time
from typing import Any, Callable

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    InvalidOption,
    WrongState,
)
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)

_AGENTS = "agents"
_DEVICES = "devices"
_GRANTED = "granted"
_POLL = 1.0


class Checks:
    """Checks of some agents: what is known before, the asking, and what came of it."""

    def __init__(
        self,
        client: Client,
        names: list[str],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._names = list(dict.fromkeys(names))
        self._clock = clock
        self._pause = pause
        self._agents: dict[str, dict[str, Any]] = {}

    def find(self) -> None:
        """Read the agents; NotFound or WrongState before any of them is asked."""
        for name in self._names:
            self._agents[name] = self._client.get(path_of(_AGENTS, name)).body
        retired = [name for name, agent in self._agents.items() if agent["state"] != "active"]
        if retired:
            raise WrongState(f"cannot be checked, for they are retired: {', '.join(retired)}")

    def ask(self) -> None:
        """Ask each of them."""
        for name in self._names:
            self._agents[name] = self._client.post(path_of(_AGENTS, f"{name}:check"), {}).body

    def wait(self, seconds: float) -> None:
        """Wait until all have answered, at most `seconds`."""
        give_up = self._clock() + seconds
        while missing := [name for name in self._names if not self._has_answered(name)]:
            if self._clock() >= give_up:
                return
            self._pause(_POLL)
            for name in missing:
                self._agents[name] = self._client.get(path_of(_AGENTS, name)).body

    def report(self) -> list[dict[str, Any]]:
        """Return the agents with their devices as they were judged last."""
        return [
            {
                "name": name,
                "answered": self._has_answered(name),
                "check_requested_at": self._agents[name]["check_requested_at"],
                "check_answered_at": self._agents[name]["check_answered_at"],
                "devices": [
                    self._judged(device)
                    for device in self._client.items(path_of(_DEVICES), {"agent": name})
                ],
            }
            for name in self._names
        ]

    def _has_answered(self, name: str) -> bool:
        return self._agents[name]["check_answered_at"] is not None

    def _judged(self, device: dict[str, Any]) -> dict[str, Any]:
        found = {"name": device["name"], "volume_state": device["volume_state"]}
        if device["quarantined"]:
            # Evidence of such a machine is not kept, so the last one is of an earlier time.
            return {**found, "outcome": "denied", "code": "quarantined"}
        history = self._client.items(path_of(_DEVICES, device["name"], "evidence"), limit=1)
        last = next(history, {"outcome": None, "code": None})
        return {**found, "outcome": last["outcome"], "code": last["code"]}


def granted(agents: list[dict[str, Any]]) -> dict[str, bool]:
    """Return for each device whether it was granted when it was judged last."""
    return {
        device["name"]: device["outcome"] == _GRANTED
        for agent in agents
        for device in agent["devices"]
    }


def check(checks: Checks, wait: float, foresee: bool) -> dict[str, Any]:
    """Have the agents checked and return the module's result."""
    checks.find()
    before = checks.report()
    if foresee:
        return {"changed": False, "agents": before}
    checks.ask()
    checks.wait(wait)
    after = checks.report()
    result = {"changed": granted(before) != granted(after), "agents": after}
    if wait:
        answered = all(agent["answered"] for agent in after)
        result["compliant"] = answered and all(granted(after).values())
    return result


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "names": {"type": "list", "elements": "str", "required": True},
            "wait": {"type": "int", "default": 30},
        }
    )

    def work() -> dict[str, Any]:
        options = module.params
        if options["wait"] < 0:
            raise InvalidOption("wait", "seconds, 0 or more", f"{options['wait']} is negative")
        checks = Checks(client_of(module), options["names"])
        return check(checks, options["wait"], module.check_mode)

    finish(module, work)


if __name__ == "__main__":
    main()
