# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin API over HTTPS, with the standard library alone. Private to this collection.

http.client rather than urllib.request: it follows no redirect, reads no proxy from the
environment and knows no other scheme, so the token goes to the configured server or nowhere.
"""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Iterator, Mapping
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    ApiError,
    InvalidOption,
    NotFound,
    NotSecureCloud,
    from_problem,
)
from ansible_collections.trend.securecloud.plugins.module_utils._tls import explain, tls_context

_BASE = "/api/v1"
_PAGE = 500
_REPLY_LIMIT = 64 * 1024 * 1024
_NO_CONTENT = 204
_FIRST_NOT_OK = 300


@dataclass(frozen=True)
class Reply:
    """A successful answer: its JSON object and, for what can be edited, its ETag."""

    status: int
    body: dict[str, Any]
    etag: str | None = None


def path_of(*segments: str) -> str:
    """Return the path made of these segments, each escaped."""
    return "".join("/" + quote(segment, safe=":") for segment in segments)


class Client:
    """Speaks to one management server. Every request has a TLS connection of its own."""

    def __init__(self, server_url: str, ca_file: str, token: str, timeout: int = 30) -> None:
        parts = _https(server_url)
        self._server = f"https://{parts.netloc}"
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._ca_file = ca_file
        self._context = tls_context(ca_file)
        self._token = token
        self._timeout = timeout

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Reply:
        """Return the object at `path`; NotFound when there is none."""
        return self._request("GET", path, query=query)

    def find(self, path: str) -> Reply | None:
        """Return the object at `path`, or None when there is none."""
        try:
            return self.get(path)
        except NotFound:
            return None

    def items(
        self, path: str, query: Mapping[str, Any] | None = None, limit: int = _PAGE
    ) -> Iterator[dict[str, Any]]:
        """Yield every item of the list at `path`, page by page as they are used."""
        asked = {key: value for key, value in (query or {}).items() if value is not None}
        cursor: str | None = None
        while True:
            page = {**asked, "limit": limit, **({"cursor": cursor} if cursor else {})}
            body = self.get(path, page).body
            yield from body.get("items", [])
            cursor = body.get("next_cursor")
            if not cursor:
                return

    def put(self, path: str, body: Mapping[str, Any], etag: str | None) -> Reply:
        """Replace what had this ETag, or create it (None) if nobody did meanwhile."""
        condition = {"If-Match": etag} if etag else {"If-None-Match": "*"}
        return self._request("PUT", path, body=body, headers=condition)

    def post(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Create an object, or do what the path names."""
        return self._request("POST", path, body=body)

    def delete(self, path: str, etag: str | None = None, *, force: bool = False) -> None:
        """Delete what is at `path`, only while it has this ETag when one is given."""
        query = {"force": "true"} if force else None
        self._request("DELETE", path, query=query, headers={"If-Match": etag} if etag else {})

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        target = _BASE + path + (f"?{urlencode(query)}" if query else "")
        sent = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        status, kind, etag, text = self._exchange(method, target, content, sent)
        document = {} if status == _NO_CONTENT else self._document(text, status)
        if status >= _FIRST_NOT_OK:
            raise self._problem(f"{method} {path}", status, kind, document)
        return Reply(status, document, etag)

    def _exchange(
        self, method: str, target: str, content: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, str, str | None, bytes]:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=self._context
        )
        try:
            with closing(connection):
                connection.request(method, target, body=content, headers=dict(headers))
                response = connection.getresponse()
                text = response.read(_REPLY_LIMIT)
                kind = response.headers.get_content_type()
                return response.status, kind, response.headers.get("ETag"), text
        except (OSError, http.client.HTTPException) as error:
            raise explain(error, self._server, self._ca_file, self._timeout) from None

    def _document(self, text: bytes, status: int) -> dict[str, Any]:
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise NotSecureCloud(
                f"{self._server} answered {status} without a JSON object: no SecureCloud server?"
            )
        return document

    def _problem(
        self, request: str, status: int, kind: str, document: Mapping[str, Any]
    ) -> ApiError:
        """Return the error; a server that echoes the token does not get it into a log."""
        if kind != "application/problem+json":
            document = {"code": "problem", "detail": "the answer is not a problem document"}
        clean = json.loads(json.dumps(document).replace(self._token, "********"))
        return from_problem(request, status, clean)


def _https(server_url: str) -> Any:
    expected = "https://HOST or https://HOST:PORT"
    try:
        parts = urlsplit(server_url)
        sound = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise InvalidOption("server_url", expected, f"{server_url!r} is not {expected}")
    return parts
