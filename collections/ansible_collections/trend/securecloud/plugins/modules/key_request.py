#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Approve or deny key requests."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: key_request
short_description: Approve or deny a key request
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Decides a pending key request, chosen by its id or by the device whose key was asked for.
  - An approval covers the rules that failed when it was asked for and no others. The agent fetches
    the key with its next, fresh proof.
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
    support: full
    details:
      - A request that was approved (and perhaps delivered since) is not approved again, nor is one
        that was denied denied again.
options:
  id:
    description:
      - Id of the request.
      - Exactly one of O(id) and O(device) is required.
    type: str
  device:
    description:
      - Name of the device whose pending request is meant.
      - When none is pending, its newest request counts, provided that it was decided in the same
        way.
    type: str
  state:
    description:
      - The decision.
    type: str
    required: true
    choices:
      - approved
      - denied
  reason:
    description:
      - Why, for the audit log. 3 to 500 characters.
    type: str
    required: true
  wait:
    description:
      - Seconds to wait for a request of O(device) to become pending.
    type: int
    default: 0
seealso:
  - module: trend.securecloud.key_request_info
"""

EXAMPLES = r"""
- name: The new database server may have its key
  trend.securecloud.key_request:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/approver.token
    device: db1-data
    state: approved
    reason: planned installation, change 1234
    wait: 60

- name: Nobody asked for this one
  trend.securecloud.key_request:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/approver.token
    id: 01jf7c2p0q
    state: denied
    reason: unknown machine
"""

RETURN = r"""
key_request:
  description:
    - The request as the server has it now, with each rule beside the machine's value. In check
      mode, as far as it is known.
  returned: success
  type: dict
  sample:
    id: 01jf7c2p0q
    device: db1-data
    agent: db1
    state: approved
    decided_by: token:ops
    reason: planned installation, change 1234
    rules:
      - path: rules[0]
        rule: os.id equals 'debian'
        passed: false
        value: ubuntu
        provenance: claimed
errors:
  description: The fields that were refused, each with what was expected.
  returned: failure
  type: list
  elements: dict
"""

import time
from typing import Any, Callable

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._diff import diff_of
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    InvalidOption,
    WrongState,
)
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)

_PATH = "key-requests"
_ACTIONS = {"approved": "approve", "denied": "deny"}
_SATISFIED = {"approved": ("approved", "delivered"), "denied": ("denied",)}
_STILL_OPEN = ("pending", "approved")
_POLL = 1.0


class Search:
    """Finds the request that is meant; waits for one to become pending when asked to."""

    def __init__(
        self,
        client: Client,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._clock = clock
        self._pause = pause

    def by_id(self, request_id: str) -> dict[str, Any]:
        """Return the request with this id."""
        return self._client.get(path_of(_PATH, request_id)).body

    def by_device(self, device: str, wait: float) -> dict[str, Any]:
        """Return the open request of the device, or else its newest; WrongState without any."""
        give_up = self._clock() + wait
        while True:
            newest = self._newest(device)
            is_open = newest is not None and newest["state"] in _STILL_OPEN
            if is_open or self._clock() >= give_up:
                break
            self._pause(_POLL)
        if newest is None:
            raise WrongState(f"there is no key request of {device}")
        return newest

    def _newest(self, device: str) -> dict[str, Any] | None:
        return next(self._client.items(path_of(_PATH), {"device": device}, limit=1), None)


def decide(request: dict[str, Any], state: str) -> bool:
    """Return whether the request has yet to be decided; WrongState when it cannot be any more."""
    if request["state"] == "pending":
        return True
    if request["state"] in _SATISFIED[state]:
        return False
    raise WrongState(
        f"key request {request['id']} of {request['device']} is {request['state']},"
        f" so it cannot become {state}"
    )


def act(client: Client, request: dict[str, Any], state: str, reason: str) -> dict[str, Any]:
    """Decide the request and return it as it is then."""
    path = path_of(_PATH, f"{request['id']}:{_ACTIONS[state]}")
    return client.post(path, {"reason": reason}).body


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "id": {"type": "str"},
            "device": {"type": "str"},
            "state": {"type": "str", "required": True, "choices": ["approved", "denied"]},
            "reason": {"type": "str", "required": True},
            "wait": {"type": "int", "default": 0},
        },
        mutually_exclusive=[("id", "device")],
        required_one_of=[("id", "device")],
    )

    def work() -> dict[str, Any]:
        options, client = module.params, client_of(module)
        if options["wait"] < 0:
            raise InvalidOption("wait", "seconds, 0 or more", f"{options['wait']} is negative")
        search, state = Search(client), options["state"]
        before = (
            search.by_id(options["id"])
            if options["id"]
            else search.by_device(options["device"], options["wait"])
        )
        needed = decide(before, state)
        after = {**before, "state": state, "reason": options["reason"]} if needed else before
        if needed and not module.check_mode:
            after = act(client, before, state, options["reason"])
        title = f"key request {before['id']} of {before['device']}"
        return {
            "changed": needed,
            "key_request": after,
            "diff": diff_of(title, {"state": before["state"]}, {"state": after["state"]}),
        }

    finish(module, work)


if __name__ == "__main__":
    main()
