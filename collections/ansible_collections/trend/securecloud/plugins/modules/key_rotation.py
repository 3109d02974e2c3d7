#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace device keys."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: key_rotation
short_description: Replace the key of a device by a new one
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Has the server make a new key, and the machine put it in the place of the old one. The volume
    stays open and mounted meanwhile, and nothing on it is encrypted anew.
  - The machine adds the new key to the volume, proves that it opens it, and tells the server. From
    then on the server releases the new key, and the machine takes the old one off the volume.
    Whatever is interrupted, a key that the server releases opens the volume.
  - A machine that is off does so when it gets its key at its next boot.
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
      - A key that is younger than O(older_than) is left as it is, and so is one that is being
        replaced already.
options:
  device:
    description:
      - Name of the device.
    type: str
    required: true
  state:
    description:
      - V(replaced) has a key replaced that is older than O(older_than). A key that was never
        released has nothing to be replaced on any machine, and is left as it is.
      - V(cancelled) gives up a replacement that has not ended. The key stays the one that it is.
    type: str
    choices:
      - replaced
      - cancelled
    default: replaced
  older_than:
    description:
      - How old a key has to be to be replaced, as a number with one of the units V(s), V(m), V(h),
        V(d) and V(w); counted from when it was put into use. V(0s) has it replaced each time.
    type: str
    default: 90d
  wait:
    description:
      - Seconds to wait until the machine has replaced the key. With V(0) it is not waited for.
    type: int
    default: 0
  reason:
    description:
      - Why, for the audit log. 3 to 500 characters.
    type: str
    required: true
seealso:
  - module: trend.securecloud.key
"""

EXAMPLES = r"""
- name: Replace a key that is older than a quarter of a year, and see that it is done
  trend.securecloud.key_rotation:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    device: web1-data
    older_than: 90d
    wait: 120
    reason: quarterly rotation

- name: Somebody may have seen the key
  trend.securecloud.key_rotation:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    device: web1-data
    older_than: 0s
    reason: an administrator left, ticket 4711
"""

RETURN = r"""
key:
  description:
    - The key as the server has it now, without its secret. C(successor) is the one that is to
      replace it, V(null) when it is not being replaced. In check mode, as far as it is known.
  returned: success
  type: dict
  sample:
    device: web1-data
    version: 2
    state: active
    successor: null
errors:
  description: The fields that were refused, each with what was expected.
  returned: failure
  type: list
  elements: dict
"""

import re
import time
from datetime import datetime, timezone
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

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGE = re.compile(r"([0-9]{1,9})([smhdw])")
_POLL = 1.0

Key = dict[str, Any]


def seconds_of(text: str) -> int:
    """Return the age in seconds."""
    found = _AGE.fullmatch(text)
    if found is None:
        expected = "a number with one of the units s, m, h, d and w, such as 90d"
        raise InvalidOption("older_than", expected, f"{text!r} is no age; use {expected}")
    return int(found[1]) * _UNITS[found[2]]


def decide(key: Key, wanted: str, older_than: int, now: float) -> str | None:
    """Return the step to take, None where there is nothing to do."""
    if wanted == "cancelled":
        return "cancel-rotation" if key["successor"] else None
    if key["state"] in ("deactivated", "destroyed"):
        raise WrongState(f"the key of {key['device']} is {key['state']} and cannot be replaced")
    if key["state"] == "pre_active" or key["successor"] or _age(key, now) < older_than:
        return None
    return "rotate"


def _age(key: Key, now: float) -> float:
    at = datetime.strptime(key["activated_at"], "%Y-%m-%dT%H:%M:%SZ")
    # A controller whose clock is behind sees no key from the future.
    return max(0.0, now - at.replace(tzinfo=timezone.utc).timestamp())


def foreseen(key: Key, step: str | None) -> Key:
    """Return the key as it will be after the step, as far as that is known."""
    if step == "rotate":
        return {**key, "successor": {"version": key["version"] + 1}}
    return {**key, "successor": None} if step else key


class Rotation:
    """The rotation of one device's key."""

    def __init__(
        self,
        client: Client,
        device: str,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._device = device
        self._clock = clock
        self._pause = pause

    def read(self) -> Key:
        """Return the key."""
        return self._client.get(path_of("keys", self._device)).body

    def act(self, step: str, reason: str) -> Key:
        """Take the step and return the key as it is then."""
        path = path_of("keys", f"{self._device}:{step}")
        return self._client.post(path, {"reason": reason}).body

    def wait(self, key: Key, seconds: float) -> Key:
        """Wait until the key is replaced; WrongState when it still is not, or will not be."""
        give_up = self._clock() + seconds
        awaited = key["successor"]
        while key["successor"]:
            if self._clock() >= give_up:
                raise WrongState(
                    f"the machine of {self._device} has not replaced the key within {seconds} s;"
                    " it does so when it is reachable and its policy grants it the key"
                )
            self._pause(_POLL)
            key = self.read()
        if awaited and (key["version"] < awaited["version"] or key["state"] != "active"):
            raise WrongState(
                f"the rotation of the key of {self._device} was given up meanwhile: it is version"
                f" {key['version']}, {key['state']}"
            )
        return key


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "device": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["replaced", "cancelled"], "default": "replaced"},
            "older_than": {"type": "str", "default": "90d"},
            "wait": {"type": "int", "default": 0},
            "reason": {"type": "str", "required": True},
        }
    )

    def work() -> dict[str, Any]:
        options = module.params
        older_than = seconds_of(options["older_than"])
        if options["wait"] < 0:
            raise InvalidOption("wait", "seconds, 0 or more", f"{options['wait']} is negative")
        rotation = Rotation(client_of(module), options["device"])
        before = rotation.read()
        step = decide(before, options["state"], older_than, time.time())
        after = foreseen(before, step)
        if not module.check_mode:
            if step:
                after = rotation.act(step, options["reason"])
            if options["wait"] and options["state"] == "replaced":
                after = rotation.wait(after, options["wait"])
        # Which version it gets, and when, is for the server and the machine to say.
        shown = "replaced by a new version" if step == "rotate" else _shown(after)
        return {
            "changed": step is not None,
            "key": after,
            "diff": diff_of(f"key of {options['device']}", {"key": _shown(before)}, {"key": shown}),
        }

    finish(module, work)


def _shown(key: Key) -> str:
    return f"version {key['version']}{', being replaced' if key['successor'] else ''}"


if __name__ == "__main__":
    main()
