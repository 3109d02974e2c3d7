"""A caller of the admin API, and what its answers must look like."""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from flask.testing import FlaskClient
from securecloud_server.web.problems import STATUS
from werkzeug.test import TestResponse

BASE = "/api/v1"
TIME = re.compile(r"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\dZ")
ADMINISTRATOR = "account_administrator"
REASON = {"reason": "asked for by the owner"}
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
EXPORT = {**REASON, "recipient": RECIPIENT}
VOLUME = {
    "source": "/dev/disk/by-id/virtio-data",
    "iscsi": None,
    "filesystem": "xfs",
    "mount_point": "/srv/data",
    "options": ["noatime", "nodev"],
    "read_only": False,
    "initialise": "if_blank",
}
ISCSI = {"portal": "10.0.0.5:3260", "target": "iqn.2026-01.org.example:db", "lun": 1}


@dataclass(frozen=True)
class Caller:
    """Calls the admin API with one token; `source` is the address it calls from."""

    http: FlaskClient
    token: str | None
    source: str = "192.0.2.7"
    headers: dict[str, str] = field(default_factory=dict)

    def having(self, **headers: str) -> "Caller":
        """Return the same caller who sends these headers too: `if_match` is If-Match."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **named})

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> TestResponse:
        headers = dict(self.headers)
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            options |= {"data": json.dumps(body), "content_type": "application/json"}
        return self.http.open(
            BASE + path,
            method=method,
            headers=headers,
            environ_overrides={"REMOTE_ADDR": self.source},
            **options,
        )

    def get(self, path: str) -> Any:
        return self.ok("GET", path)

    def put(self, path: str, body: Any) -> Any:
        return self.ok("PUT", path, body)

    def post(self, path: str, body: Any) -> Any:
        return self.ok("POST", path, body)

    def delete(self, path: str) -> None:
        self.ok("DELETE", path)

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.call(method, path, body)
        assert answer.status_code < 300, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        if answer.status_code == 204:
            assert answer.data == b""
            return None
        assert answer.mimetype == "application/json"
        return answer.json

    def refused(self, code: str, method: str, path: str, body: Any = None) -> Any:
        """Call, expect the problem `code`, and return its document."""
        return problem(self.call(method, path, body), code)

    def items(self, path: str) -> list[Any]:
        """Return every item of a list, page by page."""
        found, cursor = [], ""
        while True:
            page = self.get(f"{path}{'&' if '?' in path else '?'}limit=500{cursor}")
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def actions(self) -> list[str]:
        return [event["action"] for event in self.items("/audit-events")]


def problem(answer: TestResponse, code: str) -> Any:
    """Check that the answer is the problem document of `code` (RFC 9457) and return it."""
    status, title = STATUS[code]
    document = answer.json
    assert document["code"] == code, document
    assert answer.status_code == document["status"] == status.value
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert document["type"] == f"urn:securecloud:problem:{code}"
    assert document["title"] == title
    assert document["detail"]
    assert sorted(document) == ["code", "detail", "errors", "status", "title", "type"]
    for error in document["errors"]:
        assert sorted(error) == ["expected", "field", "message"]
        assert error["expected"]
        assert error["message"]
    assert bool(document["errors"]) == (code == "invalid_request")
    return document


def fields(document: Any) -> list[str]:
    """Return which fields a problem document names."""
    return [error["field"] for error in document["errors"]]
