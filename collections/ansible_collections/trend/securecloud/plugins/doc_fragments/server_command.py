# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that run the server's command on its machine."""

from __future__ import annotations


class ModuleDocFragment:
    """`trend.securecloud.server_command`."""

    DOCUMENTATION = r"""
options:
  command:
    description:
      - Path of C(securecloud-server).
    type: path
    default: /opt/securecloud/server/bin/securecloud-server
  config:
    description:
      - Path of the server's configuration file.
    type: path
    default: /etc/securecloud/server.toml
  user:
    description:
      - Account that the server runs as. The one that the module runs as when left out.
    type: str
  credentials:
    description:
      - Files with encrypted systemd credentials that are given to the program under the files'
        names, where the master key is one.
    type: list
    elements: path
    default: []
"""
