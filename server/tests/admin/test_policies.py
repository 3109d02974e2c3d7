"""`/policies`: text, versions, and putting back what was read."""

from typing import Any

import pytest

from server.tests.admin.api import TIME, Caller, fields

RULE = {"fact": "host_name", "operator": "matches", "value": "web[0-9]+"}
TEXT = {
    "description": "Web servers\nin Frankfurt",
    "rules": [RULE],
    "on_match": {"action": "approve_after", "delay": 60},
    "on_fail": {"action": "deny"},
    "force": False,
    "grace": {"period": 300, "postpone": 3600},
    "offline": {"period": 0, "boots": 1, "pcrs": [7]},
}


def test_a_policy_is_created_and_read(admin: Caller) -> None:
    answer = admin.call("PUT", "/policies/web", TEXT)
    assert answer.status_code == 201
    policy = admin.get("/policies/web")
    assert policy == answer.json
    digest = policy.pop("digest")
    assert len(bytes.fromhex(digest)) == 32
    assert policy == {
        **TEXT,
        "name": "web",
        "version": 1,
        "default": False,
        "created_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z",
    }


def test_what_is_left_out_gets_its_default(admin: Caller) -> None:
    policy = admin.put("/policies/web", {})
    assert policy["description"] == ""
    assert policy["rules"] == []
    assert policy["on_match"] == policy["on_fail"] == {"action": "manual"}
    assert policy["force"] is False
    assert policy["grace"] == {"period": 0, "postpone": 0}
    assert policy["offline"] == {"period": 0, "boots": 1, "pcrs": [7]}


def test_boots_without_a_server_are_shown_in_one_form(admin: Caller) -> None:
    text = {**TEXT, "on_match": {"action": "approve"}, "offline": {"period": 60, "pcrs": [7, 0]}}
    policy = admin.put("/policies/web", text)
    assert policy["offline"] == {"period": 60, "boots": 1, "pcrs": [0, 7]}
    assert admin.put("/policies/web", {**text, "offline": policy["offline"]})["version"] == 1


def test_replacing_makes_a_version_and_keeps_the_old_ones(
    server: Any, admin: Caller, clock: Any
) -> None:
    first = admin.put("/policies/web", TEXT)
    clock.forward(90)
    answer = admin.call("PUT", "/policies/web", {**TEXT, "description": "Changed"})
    assert answer.status_code == 200
    second = answer.json
    assert (second["version"], second["description"]) == (2, "Changed")
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] == "2027-01-15T08:01:30Z"
    assert second["digest"] != first["digest"]
    page = admin.get("/policies/web/versions")
    assert [policy["version"] for policy in page["items"]] == [2, 1]
    assert page["items"][0] == second
    assert page["items"][1]["description"] == TEXT["description"]
    assert page["next_cursor"] is None
    assert TIME.fullmatch(page["items"][1]["updated_at"])


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [RULE],
        {"all": [RULE, {"jmespath": "length(users) < `5`"}]},
        {"any": [{"not": RULE}, {"all": [RULE]}]},
        {"not": RULE},
        RULE,
        [{"any": [RULE, RULE]}, {**RULE, "minimum_provenance": "observed"}],
    ],
)
def test_what_was_read_can_be_put_again_and_changes_nothing(admin: Caller, rules: Any) -> None:
    read = admin.put("/policies/web", {**TEXT, "rules": rules})
    assert read["rules"] == rules
    text = {name: read[name] for name in TEXT}
    tag = admin.call("GET", "/policies/web").headers["ETag"]
    before = admin.actions()
    answer = admin.call("PUT", "/policies/web", text)
    assert answer.status_code == 200
    assert answer.json == read
    assert answer.headers["ETag"] == tag
    assert admin.actions() == before
    assert len(admin.items("/policies/web/versions")) == 1


def test_the_body_may_name_the_policy_but_no_other(admin: Caller) -> None:
    admin.put("/policies/web", {"name": "web"})
    document = admin.refused("invalid_request", "PUT", "/policies/web", {"name": "db"})
    assert fields(document) == ["name"]


def test_releasing_to_machines_that_fail_needs_force_and_is_audited(admin: Caller) -> None:
    text = {"rules": [RULE], "on_fail": {"action": "approve"}}
    document = admin.refused("invalid_request", "PUT", "/policies/lax", text)
    assert fields(document) == ["on_fail.action"]
    admin.put("/policies/lax", {**text, "force": True})
    assert admin.actions()[-2:] == ["policy.created", "policy.forced"]


def test_a_policy_in_use_stays(machine: Any, admin: Caller) -> None:
    admin.put("/policies/web", TEXT)
    admin.put("/device-groups/shop", {"policy": "web"})
    document = admin.refused("conflict", "DELETE", "/policies/web")
    assert "group:shop" in document["detail"]
    admin.put("/device-groups/shop", {})
    admin.put("/devices/d", {"agent": "web1", "volume": {"source": "/dev/a"}, "policy": "web"})
    assert "device:d" in admin.refused("conflict", "DELETE", "/policies/web")["detail"]
    admin.delete("/devices/d")
    admin.delete("/policies/web")
    admin.refused("not_found", "GET", "/policies/web")
    admin.refused("not_found", "GET", "/policies/web/versions")
    admin.refused("not_found", "DELETE", "/policies/web")


def test_the_default_policy_can_be_changed_but_not_deleted(admin: Caller) -> None:
    assert admin.get("/policies/default")["default"] is True
    admin.refused("conflict", "DELETE", "/policies/default")
    assert admin.put("/policies/default", TEXT)["version"] == 2


def test_a_policy_that_was_deleted_can_be_made_anew(admin: Caller) -> None:
    admin.put("/policies/web", TEXT)
    admin.put("/policies/web", {**TEXT, "rules": []})
    admin.delete("/policies/web")
    answer = admin.call("PUT", "/policies/web", TEXT)
    assert (answer.status_code, answer.json["version"]) == (201, 1)
    assert len(admin.items("/policies/web/versions")) == 1
