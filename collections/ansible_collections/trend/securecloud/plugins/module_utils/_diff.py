# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences as Ansible shows them. Private to this collection."""

from __future__ import annotations

from typing import Any


def diff_of(title: str, before: Any, after: Any) -> dict[str, Any]:
    """Return what `--diff` shows of one object: maps, or texts."""
    return {"before_header": title, "after_header": title, "before": before, "after": after}
