"""When the server itself fails: what the caller learns, and what the log keeps."""

import logging
from typing import Any

import pytest
from securecloud_server.domain.errors import DomainError, Unavailable
from securecloud_server.storage.audit import SqlAuditLog

from server.tests.admin.api import VOLUME, Caller, problem

SECRET = "the secret inside"


def failing(error: Exception) -> Any:
    def fail(*_args: Any, **_options: Any) -> Any:
        raise error

    return fail


def log_of(caplog: pytest.LogCaptureFixture) -> str:
    """Return everything that was logged, with exceptions and extra fields."""
    formatter = logging.Formatter()
    return "\n".join(f"{formatter.format(r)} {r.__dict__}" for r in caplog.records)


@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError, OSError, RecursionError])
def test_an_unexpected_error_is_logged_and_its_cause_not_shown(
    server: Any,
    admin: Caller,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    monkeypatch.setattr(server.database, "write", failing(error(SECRET)))
    document = admin.refused("internal", "PUT", "/policies/web", {})
    assert SECRET not in str(document)
    assert error.__name__ not in str(document)
    assert document["detail"] == "the server's log has the cause"
    assert SECRET in log_of(caplog)


def test_a_refusal_that_no_status_is_chosen_for_is_an_internal_error(
    server: Any, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.database, "write", failing(DomainError("something")))
    admin.refused("internal", "PUT", "/policies/web", {})


@pytest.mark.parametrize("part", ["read", "write"])
def test_a_database_that_cannot_be_used_is_named(
    server: Any,
    admin: Caller,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: str,
) -> None:
    cause = "the disk that holds the database is full"
    monkeypatch.setattr(server.database, part, failing(Unavailable(cause)))
    answer = admin.call("PUT", "/policies/web", {})
    assert problem(answer, "unavailable")["detail"] == cause
    assert int(answer.headers["Retry-After"]) > 0
    assert cause in log_of(caplog)


def test_a_keystore_that_is_away_leaves_no_device(
    server: Any, machine: Any, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore = type(server.application.keystores.active)
    monkeypatch.setattr(keystore, "create", failing(Unavailable("the keystore does not answer")))
    body = {"agent": "web1", "volume": VOLUME}
    document = admin.refused("unavailable", "PUT", "/devices/data", body)
    assert document["detail"] == "the keystore does not answer"
    admin.refused("not_found", "GET", "/devices/data")


def test_a_refusal_that_cannot_be_audited_is_still_a_refusal(
    server: Any,
    admin: Caller,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(server.database, "write", failing(Unavailable("read-only")))
    Caller(admin.http, None).refused("not_authenticated", "GET", "/policies")
    assert "a refusal was not audited" in log_of(caplog)


def test_an_act_that_cannot_be_audited_does_not_happen(
    server: Any, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SqlAuditLog, "append", failing(RuntimeError("no log")))
        admin.refused("internal", "PUT", "/policies/web", {})
    admin.refused("not_found", "GET", "/policies/web")
