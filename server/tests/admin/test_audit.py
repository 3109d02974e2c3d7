"""`/audit-events`: who did what, and how it is searched."""

import re
from typing import Any

import pytest

from server.tests.admin.api import ADMINISTRATOR, Caller, fields


def test_an_act_is_logged_with_who_from_where_and_when(admin: Caller, clock: Any) -> None:
    clock.forward(0.25)
    admin.put("/policies/web", {})
    event = admin.items("/audit-events")[-1]
    digest = event["details"].pop("digest")
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert event == {
        "seq": event["seq"],
        "at": "2027-01-15T08:00:00.250Z",
        "actor": f"token:{ADMINISTRATOR}",
        "role": ADMINISTRATOR,
        "source": "192.0.2.7",
        "action": "policy.created",
        "object": "policy:web",
        "outcome": "success",
        "reason": "",
        "details": {"version": 1},
    }


def test_events_are_numbered_without_a_gap_and_oldest_first(admin: Caller) -> None:
    for name in ("a", "b", "c"):
        admin.put(f"/policies/{name}", {})
    numbers = [event["seq"] for event in admin.items("/audit-events")]
    assert numbers == list(range(len(numbers)))
    assert admin.get("/audit-head")["size"] == len(numbers)


def test_events_are_filtered(admin: Caller, clock: Any) -> None:
    admin.put("/policies/a", {})
    clock.forward(60)
    admin.put("/policies/b", {})
    admin.put("/policies/a", {"description": "Changed"})

    def found(query: str) -> list[tuple[str, str]]:
        events = admin.items(f"/audit-events?{query}")
        return [(event["action"], event["object"]) for event in events]

    created = [("policy.created", f"policy:{name}") for name in ("default", "a", "b")]
    assert found("action=policy.created") == created
    assert found("object=policy:a") == [created[1], ("policy.updated", "policy:a")]
    assert len(found(f"actor=token:{ADMINISTRATOR}")) == 3
    assert found("since=2027-01-15T08:01:00Z") == [created[2], ("policy.updated", "policy:a")]
    assert found("since=2027-01-15T09:01:00%2B01:00") == found("since=2027-01-15T08:01:00Z")
    assert found("since=2027-01-15T08:01:00.001Z") == []
    assert found("action=policy.created&until=2027-01-15T08:01:00Z") == created[:2]
    assert found("since=2027-01-15T08:01:00Z&until=2027-01-15T08:01:00Z") == []
    assert found("action=policy.created&outcome=success") == created
    assert found("outcome=refused") == []
    assert found("object=policy:a&action=policy.updated") == [("policy.updated", "policy:a")]


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize(
    "moment",
    ["", "yesterday", "1800000000", "2027-01-15", "2027-01-15T08:00:00", "2027-13-01T00:00:00Z"],
)
def test_bounds_are_times_with_their_zone(admin: Caller, name: str, moment: str) -> None:
    document = admin.refused("invalid_request", "GET", f"/audit-events?{name}={moment}")
    assert fields(document) == [name]
    assert document["errors"][0]["expected"] == "a time such as 2026-01-31T12:00:00Z"


def test_a_read_is_no_event(admin: Caller) -> None:
    before = admin.actions()
    for path in ("/policies", "/policies/default", "/tokens", "/audit-head", "/server"):
        admin.get(path)
    assert admin.actions() == before
