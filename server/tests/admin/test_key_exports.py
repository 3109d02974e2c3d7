"""Exports of keys: one asks, another grants, the first collects; nobody gets a key alone."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import pytest
from securecloud_server.domain.errors import NotAuthenticated, Unavailable
from securecloud_server.domain.exports import LIFETIME, PER_REQUESTER, PER_SERVER, WINDOW
from securecloud_server.domain.records import Actor
from securecloud_server.storage.audit import SqlAuditLog

from server.tests.admin.api import ADMINISTRATOR, REASON, VOLUME, Caller
from server.tests.admin.test_failures import failing, log_of
from server.tests.admin.test_secrets import written
from server.tests.exchange.conftest import APPROVE
from tests.support.luks import documented, run, volume

GRANT = {"reason": "she read the recipient to me"}
ALICE = f"token:{ADMINISTRATOR}"
BOB = "token:security_administrator"


@pytest.fixture
def identity() -> Any:
    """Whose secret key no server has."""
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def body(identity: Any) -> dict[str, str]:
    return {**REASON, "recipient": str(identity.to_public())}


@pytest.fixture
def key(machine: Any, admin: Caller) -> bytes:
    """What the agent of `web1` was given for `data`."""
    admin.put("/policies/web", APPROVE)
    admin.put("/devices/data", {"agent": "web1", "volume": VOLUME, "policy": "web"})
    return bytes(machine.unlock("data").decisions[0].key)


@pytest.fixture
def alice(admin: Caller) -> Caller:
    return admin


@pytest.fixture
def bob(as_role: Callable[[str], Caller]) -> Caller:
    return as_role("security_administrator")


@pytest.fixture
def asked(alice: Caller, key: bytes, body: dict[str, str]) -> str:
    """The path of what Alice asked for."""
    return f"/key-exports/{alice.post('/keys/data:request-export', body)['id']}"


@pytest.fixture
def granted(asked: str, bob: Caller) -> str:
    bob.post(f"{asked}:grant", GRANT)
    return asked


def minted(server: Any, name: str) -> Caller:
    """Return a caller with a token from the command line."""
    tokens = server.application.admin.api_tokens
    return Caller(server.http, tokens.create(Actor("cli", "root"), name, ADMINISTRATOR, None)[1])


def events(caller: Caller) -> list[Any]:
    return [
        event
        for event in caller.items("/audit-events")
        if event["action"].startswith(("key.export", "key.exported"))
    ]


def refusal(caller: Caller) -> tuple[str, str, str]:
    """Return what the last event says of whom, when it is of a refusal."""
    event = events(caller)[-1]
    assert event["action"] == "key.export_refused"
    assert event["object"] == "device:data"
    return event["actor"], event["outcome"], event["details"]["step"]


# The whole way


def test_the_key_comes_sealed_exactly_as_the_agent_is_given_it(
    alice: Caller, bob: Caller, key: bytes, body: dict[str, str], identity: Any, clock: Any
) -> None:
    asked = alice.post("/keys/data:request-export", body)
    path = f"/key-exports/{asked['id']}"
    device_id = asked["device_id"]
    assert asked == {
        "id": asked["id"],
        "device": "data",
        "device_id": device_id,
        "version": 1,
        "recipient": body["recipient"],
        "state": "pending",
        "requested_by": ALICE,
        "reason": REASON["reason"],
        "decided_by": None,
        "decided_reason": None,
        "created_at": "2027-01-15T08:00:00Z",
        "expires_at": "2027-01-15T09:00:00Z",
        "decided_at": None,
        "collected_at": None,
    }
    clock.forward(60)
    granted = bob.post(f"{path}:grant", GRANT)
    assert granted == {
        **asked,
        "state": "granted",
        "decided_by": BOB,
        "decided_reason": GRANT["reason"],
        "decided_at": "2027-01-15T08:01:00Z",
        "expires_at": "2027-01-15T09:01:00Z",
    }
    clock.forward(60)
    collected = alice.post(f"{path}:collect", {})
    sealed = collected.pop("sealed")
    assert collected == {
        "device": "data",
        "device_id": device_id,
        "version": 1,
        "recipient": body["recipient"],
    }
    assert pyrage.decrypt(sealed.encode(), [identity]) == key
    assert bob.get(path) == {
        **granted,
        "state": "collected",
        "collected_at": "2027-01-15T08:02:00Z",
    }


def test_with_the_command_of_the_documentation_a_volume_opens(
    alice: Caller, granted: str, key: bytes, identity: Any, tmp_path: Path
) -> None:
    """With the real age and the real cryptsetup, on a volume as the agent formats it."""
    disk = volume(tmp_path / "disk", key)
    (tmp_path / "me.identity").write_text(f"{identity}\n")
    (tmp_path / "sealed.age").write_text(alice.post(f"{granted}:collect", {})["sealed"])
    (command,) = documented("export")
    assert run(command, tmp_path, disk).returncode == 0
    (tmp_path / "me.identity").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    assert run(command, tmp_path, disk).returncode != 0


def test_each_step_is_in_the_audit_log(alice: Caller, granted: str, body: dict[str, str]) -> None:
    alice.post(f"{granted}:collect", {})
    found = events(alice)
    assert [(e["action"], e["actor"], e["reason"]) for e in found] == [
        ("key.export_requested", ALICE, REASON["reason"]),
        ("key.export_granted", BOB, GRANT["reason"]),
        ("key.exported", ALICE, REASON["reason"]),
    ]
    assert found[-1]["details"] == {
        "export": granted.rpartition("/")[2],
        "key_version": 1,
        "recipient": body["recipient"],
        "requested_by": ALICE,
        "decided_by": BOB,
        "token": str(alice.token).split(".")[1],
    }


def test_exports_are_filtered(alice: Caller, bob: Caller, asked: str, body: Any) -> None:
    second = alice.post("/keys/data:request-export", body)["id"]
    bob.post(f"/key-exports/{second}:deny", GRANT)

    def found(query: str) -> list[str]:
        return [f"/key-exports/{each['id']}" for each in alice.items(f"/key-exports?{query}")]

    assert found("state=pending") == found("device=data&state=pending") == [asked]
    assert len(found("device=data")) == 2
    assert found("device=other") == found("state=collected") == []
    alice.refused("invalid_request", "GET", "/key-exports?state=lost")


# Who


def test_nobody_decides_on_what_they_asked_for(alice: Caller, asked: str) -> None:
    for step in ("grant", "deny"):
        document = alice.refused("wrong_person", "POST", f"{asked}:{step}", GRANT)
        assert "this token asked for it" in document["detail"]
        assert refusal(alice) == (ALICE, "refused", step)
    assert alice.get(asked)["state"] == "pending"


def test_tokens_that_descend_from_one_are_one_person(
    server: Any, alice: Caller, asked: str
) -> None:
    """However they were come by: mother, daughter, sister, a daughter's daughter."""

    def child(parent: Caller, name: str) -> Caller:
        body = {"name": name, "role": ADMINISTRATOR}
        return Caller(server.http, parent.post("/tokens", body)["token"])

    daughter = child(alice, "daughter")
    granddaughter = child(daughter, "granddaughter")
    for other in (daughter, granddaughter):
        document = other.refused("wrong_person", "POST", f"{asked}:grant", GRANT)
        assert "descend from one" in document["detail"]
    carol = minted(server, "carol")
    one, two = child(carol, "one"), child(carol, "two")
    body = {**REASON, "recipient": alice.get(asked)["recipient"]}
    theirs = f"/key-exports/{one.post('/keys/data:request-export', body)['id']}"
    for other in (carol, two):
        other.refused("wrong_person", "POST", f"{theirs}:grant", GRANT)
    # Whoever the command line vouched for is another person, and so is who has a token of theirs.
    granddaughter.post(f"{theirs}:grant", GRANT)
    two.post(f"{asked}:grant", GRANT)


def test_tokens_of_unknown_origin_are_one_person_together(
    server: Any, alice: Caller, bob: Caller, asked: str
) -> None:
    """As all are that were there before it was written down."""

    def forget(tx: Any) -> None:
        for token in tx.api_tokens.page(None, 100, {}):
            tx.api_tokens.replace(replace(token, origin=""))
        export = tx.exports.get(asked.rpartition("/")[2])
        tx.exports.replace(replace(export, requester_origin=""))

    server.database.write(forget)
    bob.refused("wrong_person", "POST", f"{asked}:grant", GRANT)
    minted(server, "carol").post(f"{asked}:grant", GRANT)


def test_the_requester_alone_collects(
    server: Any, alice: Caller, bob: Caller, granted: str
) -> None:
    daughter = alice.post("/tokens", {"name": "daughter", "role": ADMINISTRATOR})["token"]
    for other, name in ((bob, BOB), (Caller(server.http, daughter), "token:daughter")):
        other.refused("wrong_person", "POST", f"{granted}:collect", {})
        assert refusal(alice) == (name, "refused", "collect")
    alice.post(f"{granted}:collect", {})


def test_a_token_that_got_the_name_of_another_one_is_another_person(
    server: Any, alice: Caller, bob: Caller, key: bytes, body: Any
) -> None:
    carol = minted(server, "carol")
    path = f"/key-exports/{carol.post('/keys/data:request-export', body)['id']}"
    bob.post(f"{path}:grant", GRANT)
    alice.delete(f"/tokens/{str(carol.token).split('.')[1]}")
    minted(server, "carol").refused("wrong_person", "POST", f"{path}:collect", {})


def test_a_token_that_is_revoked_while_it_is_used_is_no_token(
    server: Any, alice: Caller, asked: str
) -> None:
    """It was looked at before the transaction, and is again in it."""
    service, tokens = server.application.admin.key_exports, server.application.admin.api_tokens
    carol = minted(server, "carol")
    actor = tokens.authenticate(str(carol.token), None)
    tokens.revoke(Actor("cli", "root"), actor.token_id)
    with pytest.raises(NotAuthenticated):
        service.grant(actor, asked.rpartition("/")[2], GRANT["reason"])
    assert alice.get(asked)["state"] == "pending"


@pytest.mark.parametrize("again", [False, True], ids=["revoked", "its name given again"])
def test_with_a_token_that_is_revoked_goes_what_it_granted(
    server: Any, alice: Caller, asked: str, again: bool
) -> None:
    stolen = minted(server, "mallory")
    stolen.post(f"{asked}:grant", GRANT)
    alice.delete(f"/tokens/{str(stolen.token).split('.')[1]}")
    if again:
        minted(server, "mallory")
    problem = alice.refused("conflict", "POST", f"{asked}:collect", {})
    assert "granted by token:mallory, which is not valid any more" in problem["detail"]
    assert refusal(alice) == (ALICE, "refused", "collect")


def test_the_command_line_is_nobody_who_grants(server: Any, asked: str) -> None:
    service = server.application.admin.key_exports
    with pytest.raises(NotAuthenticated):
        service.grant(Actor("cli", "root"), asked.rpartition("/")[2], GRANT["reason"])


# When


@pytest.mark.parametrize("step", ["grant", "deny", "collect"])
def test_what_was_collected_is_over(alice: Caller, bob: Caller, granted: str, step: str) -> None:
    alice.post(f"{granted}:collect", {})
    who, body = (alice, {}) if step == "collect" else (bob, GRANT)
    before = len(events(alice))
    document = who.refused("conflict", "POST", f"{granted}:{step}", body)
    assert "is collected, not" in document["detail"]
    assert alice.get(granted)["state"] == "collected"
    assert len(events(alice)) == before + 1
    assert refusal(alice)[1:] == ("refused", step)


def test_what_was_not_granted_is_not_collected(alice: Caller, bob: Caller, asked: str) -> None:
    document = alice.refused("conflict", "POST", f"{asked}:collect", {})
    assert document["detail"].endswith("is pending, not granted")
    bob.post(f"{asked}:deny", GRANT)
    document = alice.refused("conflict", "POST", f"{asked}:collect", {})
    assert document["detail"].endswith("is denied, not granted")
    bob.refused("conflict", "POST", f"{asked}:grant", GRANT)


def test_a_grant_may_be_thought_better_of(alice: Caller, bob: Caller, granted: str) -> None:
    assert bob.post(f"{granted}:deny", GRANT)["state"] == "denied"
    alice.refused("conflict", "POST", f"{granted}:collect", {})
    assert [event["action"] for event in events(alice)][-2:] == [
        "key.export_denied",
        "key.export_refused",
    ]


def test_a_request_waits_for_an_hour(bob: Caller, asked: str, clock: Any) -> None:
    clock.forward(LIFETIME)
    document = bob.refused("conflict", "POST", f"{asked}:grant", GRANT)
    assert document["detail"].endswith("is expired, not pending")


def test_a_grant_waits_for_an_hour_of_its_own(
    alice: Caller, bob: Caller, asked: str, body: Any, clock: Any
) -> None:
    clock.forward(LIFETIME - 1)
    bob.post(f"{asked}:grant", GRANT)
    clock.forward(LIFETIME - 1)
    second = f"/key-exports/{alice.post('/keys/data:request-export', body)['id']}"
    bob.post(f"{second}:grant", GRANT)
    clock.forward(1)
    document = alice.refused("conflict", "POST", f"{asked}:collect", {})
    assert document["detail"].endswith("is expired, not granted")
    alice.post(f"{second}:collect", {})


def test_what_nobody_came_for_ends_by_itself(
    server: Any, alice: Caller, granted: str, body: Any, clock: Any
) -> None:
    pending = f"/key-exports/{alice.post('/keys/data:request-export', body)['id']}"
    server.application.housekeeping.run()
    assert alice.get(granted)["state"] == "granted"
    clock.forward(LIFETIME)
    server.application.housekeeping.run()
    assert alice.get(granted)["state"] == alice.get(pending)["state"] == "expired"
    ended = [event for event in events(alice) if event["action"] == "key.export_expired"]
    assert sorted(event["reason"] for event in ended) == [
        "the other person did not come in time",
        "the requester did not come in time",
    ]
    size = alice.get("/audit-head")["size"]
    server.application.housekeeping.run()
    assert alice.get("/audit-head")["size"] == size


# Which key


def revoke(admin: Caller, _machine: Any) -> None:
    admin.post("/keys/data:revoke", REASON)


def destroy(admin: Caller, _machine: Any) -> None:
    admin.post("/keys/data:revoke", REASON)
    admin.post("/keys/data:destroy", REASON)


def delete(admin: Caller, _machine: Any) -> None:
    admin.delete("/devices/data?force=true")


def make_anew(admin: Caller, machine: Any) -> None:
    delete(admin, machine)
    admin.put("/devices/data", {"agent": "web1", "volume": VOLUME})


GONE = [
    (revoke, "is deactivated, not active"),
    (destroy, "is destroyed, not active"),
    (delete, "is gone"),
    (make_anew, "is gone"),
]


@pytest.mark.parametrize(("end", "said"), GONE)
def test_a_key_that_ended_is_not_granted(
    alice: Caller, bob: Caller, machine: Any, asked: str, end: Any, said: str
) -> None:
    end(alice, machine)
    assert said in bob.refused("conflict", "POST", f"{asked}:grant", GRANT)["detail"]
    assert refusal(alice) == (BOB, "refused", "grant")


@pytest.mark.parametrize(("end", "said"), GONE)
def test_a_key_that_ended_is_not_handed_out(
    alice: Caller, machine: Any, granted: str, end: Any, said: str
) -> None:
    end(alice, machine)
    assert said in alice.refused("conflict", "POST", f"{granted}:collect", {})["detail"]
    assert refusal(alice) == (ALICE, "refused", "collect")
    assert alice.get(granted)["state"] == "granted"


@pytest.mark.parametrize("end", [revoke, destroy, delete])
def test_a_key_that_ends_while_it_is_fetched_is_not_handed_out(
    server: Any, alice: Caller, machine: Any, granted: str, end: Any, monkeypatch: Any
) -> None:
    """Between the look and the transaction: the transaction looks again."""
    keystore = type(server.application.keystores.active)
    fetch = keystore.fetch

    def slow(*words: Any) -> bytes:
        secret: bytes = fetch(*words)
        end(alice, machine)
        return secret

    monkeypatch.setattr(keystore, "fetch", slow)
    alice.refused("conflict", "POST", f"{granted}:collect", {})
    assert "key.exported" not in alice.actions()


def test_a_key_that_was_replaced_is_not_the_one_that_was_asked_for(
    server: Any, alice: Caller, granted: str
) -> None:
    """The machine has put the second version in the place of the first."""

    def rotated(tx: Any) -> None:
        first = server.key("data")
        tx.keys.put(replace(first, state="deactivated"))
        reference = server.application.keystores.active.create(first.device_id, 2)
        tx.keys.put(replace(first, version=2, reference=reference))

    server.database.write(rotated)
    document = alice.refused("conflict", "POST", f"{granted}:collect", {})
    assert "has another key than was asked for" in document["detail"]


def test_a_key_that_nobody_may_have_is_not_asked_for(alice: Caller, key: bytes, body: Any) -> None:
    alice.post("/keys/data:revoke", REASON)
    document = alice.refused("conflict", "POST", "/keys/data:request-export", body)
    assert "is deactivated, not active" in document["detail"]
    assert refusal(alice) == (ALICE, "refused", "request")


# How often


def test_a_person_asks_so_often(
    server: Any, alice: Caller, key: bytes, body: Any, clock: Any
) -> None:
    for _ in range(PER_REQUESTER - 1):
        alice.post("/keys/data:request-export", body)
        clock.forward(60)
    daughter = alice.post("/tokens", {"name": "daughter", "role": ADMINISTRATOR})["token"]
    Caller(server.http, daughter).post("/keys/data:request-export", body)
    for caller in (alice, Caller(server.http, daughter)):
        caller.refused("too_many", "POST", "/keys/data:request-export", body)
    assert refusal(alice) == ("token:daughter", "refused", "request")
    answer = alice.call("POST", "/keys/data:request-export", body)
    wait = int(answer.headers["Retry-After"])
    assert wait == WINDOW - 60 * (PER_REQUESTER - 1)
    clock.forward(wait - 1)
    alice.refused("too_many", "POST", "/keys/data:request-export", body)
    clock.forward(1)
    alice.post("/keys/data:request-export", body)
    alice.refused("too_many", "POST", "/keys/data:request-export", body)


def test_all_together_ask_so_often(server: Any, alice: Caller, key: bytes, body: Any) -> None:
    people = [minted(server, f"p{number}") for number in range(PER_SERVER // PER_REQUESTER)]
    for person in people:
        for _ in range(PER_REQUESTER):
            person.post("/keys/data:request-export", body)
    document = alice.refused("too_many", "POST", "/keys/data:request-export", body)
    assert document["detail"] == f"all together may ask for {PER_SERVER} exports in 24 hours"


# When something fails


def test_while_the_keystore_is_away_a_grant_is_not_used_up(
    server: Any, alice: Caller, granted: str, key: bytes, identity: Any, monkeypatch: Any
) -> None:
    keystore = type(server.application.keystores.active)
    with monkeypatch.context() as patch:
        patch.setattr(keystore, "fetch", failing(Unavailable("the keystore does not answer")))
        alice.refused("unavailable", "POST", f"{granted}:collect", {})
    assert refusal(alice) == (ALICE, "failed", "collect")
    sealed = alice.post(f"{granted}:collect", {})["sealed"]
    assert pyrage.decrypt(sealed.encode(), [identity]) == key


def test_what_cannot_be_audited_is_not_handed_out(
    alice: Caller, granted: str, monkeypatch: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SqlAuditLog, "append", failing(RuntimeError("no log")))
        alice.refused("internal", "POST", f"{granted}:collect", {})
    assert alice.get(granted)["state"] == "granted"


def test_unknown_exports_are_not_found(alice: Caller, key: bytes, body: Any) -> None:
    alice.refused("not_found", "GET", "/key-exports/none")
    alice.refused("not_found", "POST", "/keys/none:request-export", body)
    for step, sent in (("grant", GRANT), ("deny", GRANT), ("collect", {})):
        alice.refused("not_found", "POST", f"/key-exports/none:{step}", sent)
    assert events(alice) == []


def test_neither_the_key_nor_what_was_sealed_is_kept_or_logged(
    server: Any, alice: Caller, granted: str, key: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sealed = alice.post(f"{granted}:collect", {})["sealed"]
    lines = [line for line in sealed.splitlines() if len(line) == 64]
    assert len(lines) > 2
    path = Path(server.application.settings.storage.url.removeprefix("sqlite:///"))
    content = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    assert b"key.exported" in content
    assert key not in content
    for secret in [*written(key), *lines]:
        assert secret.encode() not in content
        assert secret not in log_of(caplog)
        assert secret not in str(alice.items("/audit-events"))
        assert secret not in str(alice.items("/key-exports"))
