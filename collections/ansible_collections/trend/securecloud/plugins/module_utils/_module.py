# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge between Ansible and the rest: arguments in, exit_json or fail_json out. Private."""

from __future__ import annotations

import re
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.trend.securecloud.plugins.module_utils._client import Client
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    InvalidOption,
    SecureCloudError,
)

_TOKEN = re.compile(r"sct\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LONGEST_WAIT = 3600


def connection_arguments() -> dict[str, Any]:
    """Return the argument spec that the doc fragment trend.securecloud.connection describes."""
    return {
        "server_url": {"type": "str", "required": True},
        "ca_file": {"type": "path", "required": True},
        "token": {"type": "str", "no_log": True},
        "token_file": {"type": "path", "no_log": False},
        "timeout": {"type": "int", "default": 30},
    }


def api_module(argument_spec: dict[str, Any], **settings: Any) -> AnsibleModule:
    """Return a module with check mode and the connection options besides its own."""
    return AnsibleModule(
        argument_spec={**connection_arguments(), **argument_spec},
        mutually_exclusive=[("token", "token_file"), *settings.pop("mutually_exclusive", [])],
        required_one_of=[("token", "token_file"), *settings.pop("required_one_of", [])],
        supports_check_mode=True,
        **settings,
    )


def client_of(module: AnsibleModule) -> Client:
    """Return a client for the module's connection options."""
    options = module.params
    if not 1 <= options["timeout"] <= _LONGEST_WAIT:
        expected = f"1 to {_LONGEST_WAIT} seconds"
        raise InvalidOption("timeout", expected, f"{options['timeout']} is not {expected}")
    token = options["token"] or _read_token(options["token_file"])
    module.no_log_values.add(token)
    if not _TOKEN.fullmatch(token):
        source = "token" if options["token"] else "token_file"
        expected = "an API token, sct.ID.SECRET"
        raise InvalidOption(source, expected, f"what it holds is not {expected}")
    return Client(options["server_url"], options["ca_file"], token, options["timeout"])


def finish(module: AnsibleModule, work: Callable[[], dict[str, Any]]) -> None:
    """Run `work` and end the module with what it returns or raises."""
    try:
        result = work()
    except SecureCloudError as error:
        module.fail_json(**error.result())
    module.exit_json(**result)


def _read_token(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InvalidOption(
            "token_file", "a readable file", f"cannot read {path}: {reason}"
        ) from None
