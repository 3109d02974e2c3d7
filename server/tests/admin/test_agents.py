"""`/agents`: machines appear by enrolment and are retired."""

from typing import Any

from server.tests.admin.api import VOLUME, Caller, fields


def test_an_agent_appears_by_enrolment(machine: Any, admin: Caller) -> None:
    agent = admin.get("/agents/web1")
    fingerprint = agent.pop("identity_fingerprint")
    assert len(fingerprint) == 43
    assert agent == {
        "name": "web1",
        "agent_id": machine.agent_id,
        "state": "active",
        "enrolled_at": "2027-01-15T08:00:00Z",
        "last_seen_at": None,
        "last_source": None,
        "version": None,
        "check_requested_at": None,
        "check_answered_at": None,
    }
    assert admin.get("/agents")["items"] == [{**agent, "identity_fingerprint": fingerprint}]


def test_what_an_exchange_teaches_is_shown_at_once(machine: Any, admin: Caller, clock: Any) -> None:
    admin.put("/devices/data", {"agent": "web1", "volume": VOLUME})
    tag = admin.call("GET", "/agents/web1").headers["ETag"]
    clock.forward(45)
    machine.ask("data")
    answer = admin.having(if_none_match=tag).call("GET", "/agents/web1")
    assert answer.status_code == 200
    assert answer.json["last_seen_at"] == "2027-01-15T08:00:45Z"
    assert answer.json["last_source"] == "127.0.0.1"
    assert answer.json["version"] == "0.1.0"


def test_a_check_is_asked_for_and_answered(machine: Any, admin: Caller, clock: Any) -> None:
    asked = admin.post("/agents/web1:check", {})
    assert asked["check_requested_at"] == "2027-01-15T08:00:00Z"
    assert asked["check_answered_at"] is None
    assert asked == admin.get("/agents/web1") == admin.get("/agents")["items"][0]
    event = admin.items("/audit-events?action=agent.check_requested")[0]
    assert (event["object"], event["actor"]) == ("agent:web1", "token:account_administrator")
    clock.forward(2)
    machine.ask()
    assert admin.get("/agents/web1")["check_answered_at"] == "2027-01-15T08:00:02Z"
    clock.forward(2)
    again = admin.post("/agents/web1:check", {})
    assert again["check_requested_at"] == "2027-01-15T08:00:04Z"
    assert again["check_answered_at"] is None


def test_a_check_is_asked_of_agents_that_are_there(machine: Any, admin: Caller) -> None:
    admin.refused("not_found", "POST", "/agents/none:check", {})
    admin.delete("/agents/web1")
    assert "retired" in admin.refused("conflict", "POST", "/agents/web1:check", {})["detail"]
    assert "agent.check_requested" not in admin.actions()


def test_a_check_takes_no_options(machine: Any, admin: Caller) -> None:
    document = admin.refused("invalid_request", "POST", "/agents/web1:check", {"device": "data"})
    assert fields(document) == ["device"]
    admin.refused("unsupported_media_type", "POST", "/agents/web1:check")
    assert admin.get("/agents/web1")["check_requested_at"] is None


def test_an_agent_with_devices_is_not_retired(machine: Any, admin: Caller) -> None:
    admin.put("/devices/data", {"agent": "web1", "volume": VOLUME})
    assert "data" in admin.refused("conflict", "DELETE", "/agents/web1")["detail"]
    assert admin.get("/agents/web1")["state"] == "active"
    admin.delete("/devices/data")
    admin.delete("/agents/web1")
    assert admin.get("/agents/web1")["state"] == "retired"
    assert admin.actions()[-1] == "agent.retired"


def test_retiring_twice_is_one_event(machine: Any, admin: Caller) -> None:
    admin.delete("/agents/web1")
    before = admin.actions()
    admin.delete("/agents/web1")
    assert admin.actions() == before
    admin.refused("not_found", "DELETE", "/agents/none")
    admin.refused("not_found", "GET", "/agents/none")


def test_agents_are_filtered_by_state(server: Any, machine: Any, admin: Caller) -> None:
    server.machine("db1")
    admin.delete("/agents/db1")
    assert [agent["name"] for agent in admin.items("/agents?state=active")] == ["web1"]
    assert [agent["name"] for agent in admin.items("/agents?state=retired")] == ["db1"]
    admin.refused("invalid_request", "GET", "/agents?state=asleep")


def test_nobody_makes_an_agent_by_hand(admin: Caller) -> None:
    answer = admin.call("PUT", "/agents/web1", {})
    assert answer.json["code"] == "method_not_allowed"
    assert "DELETE" in answer.headers["Allow"]
