"""`/devices/{name}/evidence`: what a machine said last, and before."""

from typing import Any

from server.tests.admin.api import TIME, VOLUME, Caller
from server.tests.exchange.conftest import APPROVE, HOST_RULE, Machine

SECRET = "hunter2 of the user data"
DATA = {"fact": "instance.user_data", "operator": "equals", "value": "x"}


def register(admin: Caller, **policy: Any) -> None:
    admin.put("/policies/web", {**APPROVE, **policy})
    admin.put("/devices/data", {"agent": "web1", "policy": "web", "volume": VOLUME})


def test_what_a_machine_said_is_listed_newest_first(
    machine: Machine, admin: Caller, clock: Any
) -> None:
    register(admin)
    assert admin.items("/devices/data/evidence") == []
    machine.ask("data")
    clock.forward(300)
    machine.ask("data", want="check")
    machine.facts["host_name"] = "db1"
    machine.ask("data", want="check")
    second, first = admin.items("/devices/data/evidence")
    assert second["facts"]["host_name"] == {"value": "db1", "provenance": "claimed"}
    assert first["facts"]["host_name"] == {"value": "web1", "provenance": "claimed"}
    assert first["facts"]["request"]["value"]["time"] == first["seen_at"]
    assert (first["since"], first["seen_at"]) == ("2027-01-15T08:00:00Z", "2027-01-15T08:05:00Z")
    assert (first["outcome"], first["code"], second["outcome"]) == ("granted", "checked", "pending")
    assert (first["asked"], first["withheld"]) == ({"host_name": []}, {})
    assert all(TIME.fullmatch(each["seen_at"]) for each in (first, second))
    assert second["audit_event"] > first["audit_event"]
    assert second["key_request"] == admin.items("/key-requests")[0]["id"]


def test_it_is_read_page_by_page(machine: Machine, admin: Caller) -> None:
    register(admin)
    for number in range(5):
        machine.facts["host_name"] = f"web{number}"
        machine.ask("data")
    seen, cursor = [], ""
    while True:
        page = admin.get(f"/devices/data/evidence?limit=2{cursor}")
        seen += [each["facts"]["host_name"]["value"] for each in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ["web4", "web3", "web2", "web1", "web0"]


def test_what_may_be_secret_is_named_and_not_shown(machine: Machine, admin: Caller) -> None:
    register(admin, rules=[HOST_RULE, {"not": DATA}])
    machine.facts["instance"] = {"id": "i", "user_data_digest": None, "user_data": SECRET}
    machine.ask("data")
    (kept,) = admin.items("/devices/data/evidence")
    assert kept["withheld"] == {"instance": ["user_data"]}
    assert SECRET not in str(kept)


def test_bad_requests_are_named(machine: Machine, admin: Caller) -> None:
    register(admin)
    admin.refused("not_found", "GET", "/devices/none/evidence")
    for query in ("limit=0", "cursor=eA", "cursor=!", "device=data"):
        admin.refused("invalid_request", "GET", f"/devices/data/evidence?{query}")
