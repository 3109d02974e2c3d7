"""`/tokens`: API tokens and the names that the audit log knows them by."""

from dataclasses import replace
from typing import Any

import pytest
from securecloud_server.domain.errors import Conflict
from securecloud_server.domain.privileges import ROLES
from securecloud_server.domain.records import Actor

from server.tests.admin.api import Caller

BODY = {"name": "deploy", "role": "auditor"}


@pytest.mark.parametrize("role", ROLES)
def test_a_token_of_each_role_works_at_once(admin: Caller, role: str) -> None:
    answer = admin.call("POST", "/tokens", {"name": "deploy", "role": role, "expires_in": 60})
    assert answer.status_code == 201
    created = answer.json
    text = created.pop("token")
    assert text.split(".")[:2] == ["sct", created["id"]]
    assert created == {
        "id": created["id"],
        "name": "deploy",
        "role": role,
        "state": "active",
        "created_at": "2027-01-15T08:00:00Z",
        "expires_at": "2027-01-15T08:01:00Z",
        "origin": str(admin.token).split(".")[1],
    }
    assert admin.get(f"/tokens/{created['id']}") == created
    Caller(admin.http, text).get("/server")


def test_a_token_without_expiry_stays(admin: Caller, clock: Any) -> None:
    created = admin.post("/tokens", BODY)
    assert created["expires_at"] is None
    clock.forward(10 * 365 * 86400)
    Caller(admin.http, created["token"]).get("/server")


def test_expired_and_revoked_tokens_are_useless_and_shown_as_such(
    admin: Caller, clock: Any
) -> None:
    short = admin.post("/tokens", {**BODY, "expires_in": 60})
    gone = admin.post("/tokens", {**BODY, "name": "other"})
    admin.delete(f"/tokens/{gone['id']}")
    clock.forward(60)
    for created, state in ((short, "expired"), (gone, "revoked")):
        assert admin.get(f"/tokens/{created['id']}")["state"] == state
        Caller(admin.http, created["token"]).refused("not_authenticated", "GET", "/server")


def test_revoking_twice_is_one_event(admin: Caller) -> None:
    token_id = admin.post("/tokens", BODY)["id"]
    admin.delete(f"/tokens/{token_id}")
    before = admin.actions()
    admin.delete(f"/tokens/{token_id}")
    assert admin.actions() == before
    assert before[-2:] == ["api_token.created", "api_token.revoked"]
    admin.refused("not_found", "DELETE", "/tokens/none")
    admin.refused("not_found", "GET", "/tokens/none")


def test_the_name_of_an_active_token_is_taken(admin: Caller) -> None:
    first = admin.post("/tokens", BODY)
    before = admin.items("/tokens")
    document = admin.refused("conflict", "POST", "/tokens", {**BODY, "role": "data_analyst"})
    assert document["detail"] == "there is already an active API token 'deploy'"
    assert admin.items("/tokens") == before
    admin.delete(f"/tokens/{first['id']}")
    admin.post("/tokens", BODY)


def test_the_name_of_an_expired_token_is_free(admin: Caller, clock: Any) -> None:
    admin.post("/tokens", {**BODY, "expires_in": 60})
    clock.forward(59)
    admin.refused("conflict", "POST", "/tokens", BODY)
    clock.forward(1)
    admin.post("/tokens", BODY)


def test_an_active_token_is_found_behind_a_page_of_revoked_ones(server: Any) -> None:
    tokens, actor = server.application.admin.api_tokens, Actor("cli", "test")
    kept, _ = tokens.create(actor, "deploy", "auditor", None)
    revoked = [
        replace(kept, token_id=f"{number:012x}", revoked_at=kept.created_at)
        for number in range(600)
    ]
    tokens.revoke(actor, kept.token_id)
    last = replace(kept, token_id="f" * 12)

    def work(tx: Any) -> None:
        for record in [*revoked, last]:
            tx.api_tokens.add(record)

    server.database.write(work)
    with pytest.raises(Conflict):
        tokens.create(actor, "deploy", "auditor", None)
