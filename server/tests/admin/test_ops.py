"""Health and metrics, for those who run the server."""

from dataclasses import replace
from typing import Any

import pytest
from securecloud_server import app
from securecloud_server.domain.errors import Unavailable

from server.tests.admin.api import VOLUME, Caller


def status(server: Any, path: str, token: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return int(server.http.get(path, headers=headers).status_code)


def test_alive_says_so_to_anyone(server: Any) -> None:
    answer = server.http.get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "alive"})


def test_alive_needs_no_database(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("read", "write", "check"):
        monkeypatch.setattr(server.database, name, None)
    assert status(server, "/healthz") == 200


def test_ready_when_database_and_keystore_are(server: Any) -> None:
    answer = server.http.get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"status": "ready", "reasons": {}})


@pytest.mark.parametrize("part", ["database", "keystore"])
def test_not_ready_says_which_part_and_why(
    server: Any, clock: Any, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(_self: Any) -> None:
        raise Unavailable("it is read-only")

    application = server.application
    owner = application.keystores.active if part == "keystore" else application.database
    with monkeypatch.context() as patch:
        patch.setattr(type(owner), "check", fail)
        server.http = app.web(server.application).test_client()
        answer = server.http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json == {"status": "unavailable", "reasons": {part: "it is read-only"}}


def test_readiness_is_asked_at_most_once_a_second(
    server: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(type(server.database), "check", lambda _self: asked.append(1))
    client = app.web(server.application).test_client()
    for _ in range(5):
        client.get("/readyz")
    assert len(asked) == 1
    clock.forward(1)
    client.get("/readyz")
    assert len(asked) == 2


def test_a_damaged_database_is_not_ready(server: Any) -> None:
    with server.database.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE probe")
    answer = server.http.get("/readyz")
    assert answer.status_code == 503
    assert list(answer.json["reasons"]) == ["database"]


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("account_administrator", 200),
        ("security_administrator", 200),
        ("auditor", 200),
        ("data_analyst", 200),
        ("key_approver", 403),
        (None, 401),
    ],
)
def test_metrics_are_for_those_who_read_the_audit_log(
    server: Any, template: Any, role: str | None, expected: int
) -> None:
    token = template.tokens[role] if role else None
    assert status(server, "/metrics", token) == expected


def test_metrics_refuse_without_saying_why(server: Any, admin: Caller) -> None:
    revoked = admin.post("/tokens", {"name": "scrape", "role": "auditor"})
    assert status(server, "/metrics", revoked["token"]) == 200
    admin.delete(f"/tokens/{revoked['id']}")
    headers = {"Authorization": f"Bearer {revoked['token']}"}
    answer = server.http.get("/metrics", headers=headers)
    assert (answer.status_code, answer.data) == (401, b"")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_metrics_may_be_made_public(server: Any) -> None:
    settings = server.application.settings
    public = replace(settings, server=replace(settings.server, metrics_public=True))
    client = app.web(replace(server.application, settings=public)).test_client()
    assert client.get("/metrics").status_code == 200


def test_metrics_count_decisions_and_name_no_machine(
    server: Any, machine: Any, admin: Caller
) -> None:
    admin.put("/devices/data", {"agent": "web1", "volume": VOLUME})
    machine.ask("data")
    dialogue = machine.begin("data")
    dialogue.challenge()
    dialogue.release(want="check")
    dialogue.ack("suspended")
    headers = {"Authorization": f"Bearer {admin.token}"}
    answer = server.http.get("/metrics", headers=headers)
    assert answer.mimetype == "text/plain"
    line = 'securecloud_decisions_total{code="approval_required",outcome="pending"} 2.0'
    assert line in answer.text
    assert 'securecloud_volumes_acknowledged_total{result="suspended"} 1.0' in answer.text
    assert "web1" not in answer.text
    assert "securecloud_agent_step_seconds_count" in answer.text
