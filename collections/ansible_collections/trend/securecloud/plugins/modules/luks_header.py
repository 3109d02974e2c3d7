#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which LUKS header a device is expected to have."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: luks_header
short_description: Accept the LUKS header of a device that was changed
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - A key goes only to a disk whose LUKS header is the one that the device opened with. A machine
    that shows another one is denied with C(header_changed). Either somebody exchanged the disk or
    set it back, or one of you repaired the header or changed it with cryptsetup.
  - When you know that the change was yours, this makes the header that was refused last the
    expected one.
  - A header that is damaged, or that no agent opens, cannot be accepted. Put a backup of it back
    instead.
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
options:
  device:
    description:
      - Name of the device.
    type: str
    required: true
  digest:
    description:
      - The header, as RV(trend.securecloud.device_info#module:devices) has it in C(header.refused),
        64 hexadecimal digits in lower case. Compare it with what you expect; only the one that was
        refused last is accepted.
    type: str
    required: true
  reason:
    description:
      - Why, for the audit log. 3 to 500 characters.
    type: str
    required: true
seealso:
  - module: trend.securecloud.device_info
  - module: trend.securecloud.quarantine
"""

EXAMPLES = r"""
- name: We gave the volume a label with cryptsetup
  trend.securecloud.luks_header:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    device: web1-data
    digest: 5b9c0a2ef3d1f5e38f7c1b1a9be0d2f84c30b7d6a0f6f1f2a85b6d6c3ed04f17
    reason: labelled, ticket 4711
"""

RETURN = r"""
device:
  description:
    - The device as the server has it now. In check mode, as far as it is known.
  returned: success
  type: dict
  sample:
    name: web1-data
    agent: web1
    header:
      digest: 5b9c0a2ef3d1f5e38f7c1b1a9be0d2f84c30b7d6a0f6f1f2a85b6d6c3ed04f17
      changing: false
      refused: null
      acceptable: false
      copy_of: null
errors:
  description: The fields that were refused, each with what was expected.
  returned: failure
  type: list
  elements: dict
"""

import re
from typing import Any

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

_DIGEST = re.compile("[0-9a-f]{64}")


def accept(client: Client, device: str, digest: str, reason: str, foresee: bool) -> dict[str, Any]:
    """Make this header the expected one, unless it is already."""
    if not _DIGEST.fullmatch(digest):
        expected = "64 hexadecimal digits in lower case"
        raise InvalidOption("digest", expected, f"expected {expected}")
    found = client.get(path_of("devices", device)).body
    before = found["header"]
    if before is None:
        raise WrongState(f"no LUKS header of {device} is known yet: the first one is learnt")
    changed = before["digest"] != digest
    if changed and before["refused"] is None:
        raise WrongState(f"no LUKS header of {device} was refused")
    if changed and before["refused"] != digest:
        raise WrongState(
            f"the LUKS header of {device} that was refused last is {before['refused']}"
        )
    if changed and not before["acceptable"]:
        raise WrongState(f"the LUKS header of {device} is damaged, or none that its agent opens")
    after = found
    if changed:
        accepted = {"digest": digest, "refused": None, "acceptable": False}
        after = {**found, "header": {**before, **accepted}}
    if changed and not foresee:
        path = path_of("devices", f"{device}:accept-header")
        after = client.post(path, {"digest": digest, "reason": reason}).body
    return {
        "changed": changed,
        "device": after,
        "diff": diff_of(f"device {device}", {"header": before["digest"]}, {"header": digest}),
    }


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "device": {"type": "str", "required": True},
            "digest": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
        }
    )

    def work() -> dict[str, Any]:
        options = module.params
        return accept(
            client_of(module),
            options["device"],
            options["digest"],
            options["reason"],
            module.check_mode,
        )

    finish(module, work)


if __name__ == "__main__":
    main()
