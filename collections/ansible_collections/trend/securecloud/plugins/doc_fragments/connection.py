# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of all modules that speak to a management server."""

from __future__ import annotations


class ModuleDocFragment:
    """The options, as module_utils/_module.py's connection_arguments declares them."""

    DOCUMENTATION = r"""
options:
  server_url:
    description:
      - Address of the management server, V(https://HOST) or V(https://HOST:PORT).
    type: str
    required: true
  ca_file:
    description:
      - File with the certificates, in PEM form, of the authorities that may vouch for the server.
        No other authority is trusted, and the host name is always checked.
    type: path
    required: true
  token:
    description:
      - API token. Give it from a vault, or use O(token_file).
      - Exactly one of O(token) and O(token_file) is required.
    type: str
  token_file:
    description:
      - File that holds the API token, on the machine where the module runs.
      - Exactly one of O(token) and O(token_file) is required.
    type: path
  timeout:
    description:
      - Seconds to wait for the connection and for each part of an answer, 1 to 3600.
    type: int
    default: 30
notes:
  - The connection uses TLS 1.3, no proxy and no redirection. Set the options once for all modules
    with C(module_defaults) for the action group C(trend.securecloud.securecloud).
"""
