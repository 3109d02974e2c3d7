# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client with everything but the connection; replies come from a recording."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client

RECORDED = json.loads((Path(__file__).parent / "fixtures" / "replies.json").read_text())


class ReplayClient(Client):
    """Answers each request with the reply recorded for it, or with those given.

    `replies` maps "METHOD /path?query" (below /api/v1) to {status, body, etag}, or to a list of
    these, to be used one after the other. `sent` holds what was asked for.
    """

    def __init__(self, replies=None):  # pylint: disable=super-init-not-called
        self._server = "https://recorded.example"
        self._token = "sct.recorded.token"
        self._replies = {**RECORDED, **(replies or {})}
        self.sent = []

    def _exchange(self, method, target, content, headers):
        key = f"{method} {target.removeprefix('/api/v1')}"
        self.sent.append((key, json.loads(content) if content else None, dict(headers)))
        reply = self._replies[key]
        if isinstance(reply, list):
            reply = reply.pop(0)
        status = reply["status"]
        kind = "application/json" if status < 400 else "application/problem+json"
        body = json.dumps(reply.get("body")).encode()
        return status, kind, reply.get("etag"), body

    @property
    def changes(self):
        """What was asked for other than reading: (request, body)."""
        return [(key, body) for key, body, headers in self.sent if not key.startswith("GET ")]
