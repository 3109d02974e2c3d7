# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what the roles must know of a machine before they touch it, as one JSON object.

Arguments are the programs to look for. Runs with any Python 3, for its version is one of the
things to find out.
"""

import importlib.util
import json
import os
import shutil
import sys

SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"


def os_release():
    """Return the members of os-release."""
    with open("/etc/os-release") as file:
        pairs = [line.strip().split("=", 1) for line in file if "=" in line]
    return {key: value.strip("\"'") for key, value in pairs}


def has_module(name):
    """Return whether this Python has a module; Debian ships venv without ensurepip."""
    return importlib.util.find_spec(name) is not None


release = os_release()
print(
    json.dumps(
        {
            "python": "%d.%d.%d" % sys.version_info[:3],
            "ensurepip": has_module("venv") and has_module("ensurepip"),
            "os": release.get("ID", "unknown"),
            "os_version": release.get("VERSION_ID", "0"),
            "systemd": os.path.isdir("/run/systemd/system"),
            "uid": os.geteuid(),
            "missing": [name for name in sys.argv[1:] if not shutil.which(name, path=SEARCH)],
        }
    )
)
