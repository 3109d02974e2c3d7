"""`/key-requests`: what machines asked for, shown rule by rule, and people's decisions."""

from typing import Any

import pytest
from securecloud_server.domain import requests as life

from server.tests.admin.api import ADMINISTRATOR, REASON, TIME, VOLUME, Caller

BY_ME = f"token:{ADMINISTRATOR}"
RULE = {"fact": "host_name", "operator": "equals", "value": "db1"}


@pytest.fixture
def pending(machine: Any, admin: Caller) -> str:
    """The id of a request that waits for a person."""
    admin.put("/policies/web", {"rules": [RULE]})
    admin.put("/devices/data", {"agent": "web1", "volume": VOLUME, "policy": "web"})
    decision = machine.ask("data").decisions[0]
    assert decision.outcome == "pending"
    return str(admin.items("/key-requests")[0]["id"])


def test_a_request_shows_each_rule_beside_the_machine_s_value(admin: Caller, pending: str) -> None:
    request = admin.get(f"/key-requests/{pending}")
    assert request == {
        "id": pending,
        "device": "data",
        "agent": "web1",
        "state": "pending",
        "policy": "web",
        "policy_version": 1,
        "matched": False,
        "decided_by": None,
        "reason": "a person has to decide",
        "rules": [
            {
                "path": "rules[0]",
                "rule": request["rules"][0]["rule"],
                "passed": False,
                "value": "web1",
                "provenance": "claimed",
                "explanation": request["rules"][0]["explanation"],
            }
        ],
        "created_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z",
        "due_at": None,
        "expires_at": None,
        "transitions": [
            {
                "at": "2027-01-15T08:00:00Z",
                "from": None,
                "to": "pending",
                "actor": "policy:web",
                "reason": "a person has to decide",
            }
        ],
    }
    assert request["rules"][0]["explanation"]


def test_an_approved_request_reaches_the_machine(
    server: Any, machine: Any, admin: Caller, pending: str, clock: Any
) -> None:
    clock.forward(10)
    approved = admin.post(f"/key-requests/{pending}:approve", REASON)
    assert approved["state"] == life.APPROVED
    assert (approved["decided_by"], approved["reason"]) == (BY_ME, REASON["reason"])
    assert approved["expires_at"] == "2027-01-15T09:00:10Z"
    assert approved["transitions"][-1] == {
        "at": "2027-01-15T08:00:10Z",
        "from": "pending",
        "to": "approved",
        "actor": BY_ME,
        "reason": REASON["reason"],
    }
    event = admin.items("/audit-events?action=key_request.approved")[0]
    assert event["details"] == {"request": pending, "failing": ["rules[0]"]}
    assert event["reason"] == REASON["reason"]
    decision = machine.unlock("data").decisions[0]
    assert (decision.outcome, len(decision.key)) == ("granted", 64)
    delivered = admin.get(f"/key-requests/{pending}")
    assert delivered["state"] == life.DELIVERED
    assert all(TIME.fullmatch(step["at"]) for step in delivered["transitions"])


def test_a_denied_request_stays_denied(machine: Any, admin: Caller, pending: str) -> None:
    denied = admin.post(f"/key-requests/{pending}:deny", REASON)
    assert (denied["state"], denied["decided_by"]) == (life.DENIED, BY_ME)
    assert denied["expires_at"] is None
    decision = machine.ask("data").decisions[0]
    assert (decision.outcome, decision.code) == ("denied", "rejected")
    assert admin.items("/audit-events?action=key_request.denied")[0]["object"] == "device:data"


@pytest.mark.parametrize("first", ["approve", "deny"])
@pytest.mark.parametrize("second", ["approve", "deny"])
def test_a_request_is_decided_once(admin: Caller, pending: str, first: str, second: str) -> None:
    decided = admin.post(f"/key-requests/{pending}:{first}", REASON)
    before = admin.actions()
    document = admin.refused("conflict", "POST", f"/key-requests/{pending}:{second}", REASON)
    assert document["detail"] == f"key request {pending} is {decided['state']}, not pending"
    assert admin.get(f"/key-requests/{pending}") == decided
    assert admin.actions() == before


def test_the_tag_of_a_request_changes_with_it(admin: Caller, pending: str) -> None:
    path = f"/key-requests/{pending}"
    tag = admin.call("GET", path).headers["ETag"]
    unchanged = admin.having(if_none_match=tag).call("GET", path)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    admin.post(f"{path}:deny", REASON)
    assert admin.having(if_none_match=tag).call("GET", path).status_code == 200


def test_requests_are_listed_newest_first_and_filtered(
    server: Any, machine: Any, admin: Caller, pending: str, clock: Any
) -> None:
    other = server.machine("db1")
    admin.put("/devices/more", {"agent": "db1", "volume": VOLUME, "policy": "web"})
    clock.forward(1)
    other.ask("more")
    admin.post(f"/key-requests/{pending}:deny", REASON)

    def devices(query: str = "") -> list[str]:
        return [request["device"] for request in admin.items(f"/key-requests{query}")]

    assert devices() == ["more", "data"]
    assert devices("?state=pending") == ["more"]
    assert devices("?state=denied") == ["data"]
    assert devices("?device=data") == ["data"]
    assert devices("?agent=db1&state=pending") == ["more"]
    assert devices("?agent=db1&state=denied") == []
    admin.refused("invalid_request", "GET", "/key-requests?state=lost")


def test_a_delayed_approval_says_when_it_is_due(machine: Any, admin: Caller, clock: Any) -> None:
    rule = {**RULE, "value": "web1"}
    action = {"action": "approve_after", "delay": 600}
    admin.put("/policies/slow", {"rules": [rule], "on_match": action})
    admin.put("/devices/data", {"agent": "web1", "volume": VOLUME, "policy": "slow"})
    machine.ask("data")
    request = admin.items("/key-requests")[0]
    assert (request["state"], request["due_at"]) == ("pending", "2027-01-15T08:10:00Z")
    assert request["matched"] is True


def test_unknown_requests_are_not_found(admin: Caller) -> None:
    admin.refused("not_found", "GET", "/key-requests/none")
    for decision in ("approve", "deny"):
        admin.refused("not_found", "POST", f"/key-requests/none:{decision}", REASON)
