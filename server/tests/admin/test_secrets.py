"""No secret leaves the server but once: tokens in the answer that made them, keys never."""

import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from securecloud_protocol.encoding import b64u_encode

from server.tests.admin.api import REASON, VOLUME, Caller
from server.tests.admin.test_failures import log_of
from server.tests.admin.test_lists import LISTS

USER_DATA = "a password in the user data"


def written(secret: bytes) -> list[str]:
    """Return how a secret might be written."""
    return [secret.hex(), b64u_encode(secret), b64encode(secret).decode(), repr(secret)[2:-1]]


@pytest.fixture
def busy(server: Any, machine: Any, admin: Caller) -> list[str]:
    """Use everything; return the secrets that this made."""
    secrets = [str(admin.token).split(".")[2]]
    rule = {"fact": "instance.user_data", "operator": "equals", "value": "x"}
    admin.put("/policies/many", {"rules": [rule], "description": "x"})
    admin.put("/devices/data", {"agent": "web1", "volume": VOLUME, "policy": "many"})
    logs = {"source": "/dev/b"}
    admin.put("/devices/many", {"agent": "web1", "volume": logs, "policy": "many"})
    for path, body in (
        ("/tokens", {"name": "new", "role": "auditor"}),
        ("/enrollment-tokens", {"agent_name": "new"}),
    ):
        created = admin.post(path, body)
        secrets.append(created["token"].split(".")[2])
    key, device = server.key("data"), server.read(lambda tx: tx.devices.get("data"))
    secrets += written(
        server.application.keystores.active.fetch(key.reference, device.device_id, 1)
    )
    secrets += written(key.reference)
    machine.facts["instance"] = {"id": "i", "user_data": USER_DATA}
    machine.ask("data", "many")
    secrets.append(USER_DATA)
    request = admin.items("/key-requests?device=data")[0]["id"]
    admin.post(f"/key-requests/{request}:approve", REASON)
    machine.unlock("data")
    admin.post("/keys/data:revoke", REASON)
    return secrets


def test_no_answer_shows_a_secret(busy: list[str], admin: Caller) -> None:
    shown = [str(admin.items(path)) for path in LISTS]
    for collection in ("tokens", "enrollment-tokens"):
        for item in admin.items(f"/{collection}"):
            assert "token" not in item
            shown.append(str(admin.get(f"/{collection}/{item['id']}")))
    shown += [str(admin.get(path)) for path in ("/devices/data", "/keys/data", "/audit-head")]
    shown.append(str(admin.post("/policies/many:evaluate", {"draft": {}})))
    for text in shown:
        assert not [secret for secret in busy if secret in text]


def test_no_log_holds_a_secret(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = request.getfixturevalue("busy")
    admin: Caller = request.getfixturevalue("admin")
    Caller(admin.http, f"{admin.token}x").refused("not_authenticated", "GET", "/policies")
    logged = log_of(caplog)
    assert not [secret for secret in secrets if secret in logged]


def test_the_database_holds_no_token(server: Any, busy: list[str], admin: Caller) -> None:
    path = Path(server.application.settings.storage.url.removeprefix("sqlite:///"))
    content = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    assert b"key_request.approved" in content
    assert not [secret for secret in busy[:7] if secret.encode() in content]


def test_an_error_document_repeats_no_token(admin: Caller) -> None:
    secret = str(admin.token)
    for answer in (
        admin.call("GET", f"/tokens/{'x' * 300}"),
        Caller(admin.http, f"{secret}x").call("GET", "/server"),
        admin.call("POST", "/tokens", {"name": [secret], "role": secret, "token": secret}),
        admin.call("POST", "/enrollment-tokens", {"agent_name": secret, "expires_in": secret}),
    ):
        assert answer.status_code >= 400
        assert secret not in answer.text
