"""`/policies/{name}:evaluate`: what a draft would change."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.tests.admin.api import ADMINISTRATOR, REASON, TIME, VOLUME, Caller, fields
from server.tests.admin.conftest import Template
from server.tests.exchange.conftest import Clock, Machine, Server

SECRET = "hunter2 of the user data"
WEB = {"fact": "host_name", "operator": "matches", "value": "web[0-9]+"}
DB = {"fact": "host_name", "operator": "matches", "value": "db[0-9]+"}
NO_EVE = {"fact": "users", "operator": "excludes", "value": ["eve"]}
APPROVE, DENY, MANUAL = ({"action": action} for action in ("approve", "deny", "manual"))
STORED = {"rules": [WEB], "on_match": APPROVE, "on_fail": MANUAL}


def volume(name: str) -> dict[str, Any]:
    return {**VOLUME, "source": f"/dev/{name}", "mount_point": f"/srv/{name}"}


@pytest.fixture
def device(machine: Machine, admin: Caller) -> str:
    """A device of web1 that the policy `web` approves, and that has got its key."""
    admin.put("/policies/web", STORED)
    body = {"agent": "web1", "policy": "web", "volume": VOLUME}
    admin.put("/devices/web1-data", body)
    machine.unlock("web1-data")
    return "web1-data"


def evaluate(admin: Caller, draft: Any = None, **selection: Any) -> Any:
    body = {} if draft is None else {"draft": draft}
    return admin.post("/policies/web:evaluate", {**body, **selection})


def only(impact: Any) -> Any:
    """Return the only device of an impact, after a look at the totals."""
    (found,) = impact["devices"]
    assert impact["totals"]["devices"] == 1
    assert impact["totals"][found["effect"]] == 1
    assert impact["totals"]["may_lose"] == int(found["may_lose"])
    return found


def told(fate: Any) -> tuple[str, str | None, bool | None]:
    return fate["outcome"], fate["code"], fate["stays_open"]


GRANTED = ("granted", "approved", True)
WAITS = ("pending", "approval_required", False)
DENIED = ("denied", "policy", False)


# Effects


def test_a_device_that_would_lose_its_key(device: str, admin: Caller, clock: Any) -> None:
    clock.forward(90)
    impact = evaluate(admin, {"rules": [WEB, DB], "on_match": APPROVE, "on_fail": DENY})
    assert (impact["policy"], impact["version"], impact["changed"]) == ("web", 1, True)
    assert TIME.fullmatch(impact["evaluated_at"])
    found = only(impact)
    assert (found["device"], found["agent"], found["group"]) == (device, "web1", None)
    assert (found["effect"], found["may_lose"]) == ("lose", True)
    assert (told(found["before"]), told(found["after"])) == (GRANTED, DENIED)
    assert (found["before"]["matched"], found["after"]["matched"]) == (True, False)
    assert found["after"]["action"] == {"action": "deny", "delay": None}
    (rule,) = found["rules"]
    assert (rule["policy"], rule["path"], rule["passed"]) == ("draft", "rules[1]", False)
    assert (rule["value"], rule["provenance"]) == ("web1", "claimed")
    assert "db[0-9]+" in rule["rule"]
    assert rule["explanation"]


def test_it_says_which_evidence_it_rests_on(server: Any, device: str, admin: Caller) -> None:
    server.clock.forward(90)
    evidence = only(evaluate(admin))["evidence"]
    request = admin.items("/key-requests")[0]
    assert evidence["age"] == 90
    assert evidence["seen_at"] == evidence["since"] == request["created_at"]
    assert evidence["key_request"] == request["id"]
    assert (evidence["outcome"], evidence["code"]) == ("granted", "approved")
    (released,) = admin.items("/audit-events?action=key.released")
    assert released["seq"] == evidence["audit_event"]
    assert released["details"]["session_id"] == evidence["session_id"]


def test_a_device_that_would_gain_it(device: str, machine: Machine, admin: Caller) -> None:
    machine.facts["host_name"] = "db1"
    machine.reboot()
    machine.ask(device)
    found = only(evaluate(admin, {**STORED, "rules": [{"any": [WEB, DB]}]}))
    assert (found["effect"], found["may_lose"]) == ("gain", False)
    assert (told(found["before"]), told(found["after"])) == (WAITS, GRANTED)
    (rule,) = found["rules"]
    assert (rule["policy"], rule["path"], rule["passed"]) == ("draft", "rules[0].any[1]", True)
    found = only(evaluate(admin, {**STORED, "rules": [DB]}))
    (rule,) = found["rules"]
    assert (rule["policy"], rule["path"], rule["passed"]) == ("stored", "rules[0]", False)


def test_a_device_that_gets_no_key_either_way_but_is_told_something_else(
    device: str, machine: Machine, admin: Caller
) -> None:
    machine.facts["host_name"] = "db1"
    machine.reboot()
    machine.ask(device)
    found = only(evaluate(admin, {**STORED, "on_fail": DENY}))
    assert (found["effect"], told(found["before"]), told(found["after"])) == (
        "changed",
        WAITS,
        DENIED,
    )
    assert [rule["path"] for rule in found["rules"]] == ["rules[0]"]


def test_a_draft_that_says_the_same_changes_nothing(device: str, admin: Caller) -> None:
    found = only(evaluate(admin, {**STORED, "rules": [WEB, {"not": DB}]}))
    assert (found["effect"], found["rules"]) == ("unchanged", [])
    assert told(found["before"]) == told(found["after"]) == GRANTED


@pytest.mark.parametrize("draft", [None, STORED, {**STORED, "name": "web"}])
def test_without_a_draft_it_is_the_policy_in_effect(device: str, admin: Caller, draft: Any) -> None:
    impact = evaluate(admin, draft)
    assert (impact["changed"], only(impact)["effect"]) == (False, "unchanged")


def test_a_machine_that_never_asked_has_no_fate(machine: Machine, admin: Caller) -> None:
    admin.put("/policies/web", STORED)
    admin.put("/devices/new", {"agent": "web1", "policy": "web", "volume": VOLUME})
    found = only(evaluate(admin, {}))
    assert (found["effect"], found["may_lose"], found["rules"]) == ("no_evidence", False, [])
    assert found["before"] is found["after"] is found["evidence"] is None


def test_where_only_the_action_changes_no_rule_is_to_blame(device: str, admin: Caller) -> None:
    found = only(evaluate(admin, {**STORED, "on_match": MANUAL}))
    assert (found["effect"], told(found["after"]), found["rules"]) == ("lose", WAITS, [])
    assert found["after"]["action"] == {"action": "manual", "delay": None}


def test_a_delay_is_a_loss_at_the_next_boot_though_the_volume_stays_open(
    device: str, admin: Caller
) -> None:
    found = only(evaluate(admin, {**STORED, "on_match": {"action": "approve_after", "delay": 60}}))
    assert (found["effect"], told(found["after"])) == ("lose", ("pending", "delayed", True))


def test_an_alternative_that_is_taken_away_is_to_blame(device: str, admin: Caller) -> None:
    admin.put("/policies/web", {**STORED, "rules": [{"any": [DB, WEB]}]})
    (rule,) = only(evaluate(admin, {**STORED, "rules": [{"any": [DB]}]}))["rules"]
    assert (rule["policy"], rule["path"], rule["passed"]) == ("stored", "rules[0].any[1]", True)


# What people decided


def test_an_approval_ends_with_any_change_of_the_policy(
    server: Any, machine: Machine, admin: Caller
) -> None:
    admin.put("/policies/web", {"rules": [WEB]})
    admin.put("/devices/web1-data", {"agent": "web1", "policy": "web", "volume": VOLUME})
    machine.ask("web1-data")
    request = admin.items("/key-requests")[0]["id"]
    admin.post(f"/key-requests/{request}:approve", REASON)
    machine.unlock("web1-data")
    draft = {"rules": [WEB], "description": "Only the text changes"}
    found = only(evaluate(admin, draft))
    assert told(found["before"]) == ("pending", "approval_required", True)
    assert (told(found["after"]), found["effect"]) == (WAITS, "lose")
    admin.put("/policies/web", draft)
    assert machine.ask("web1-data", want="check").decisions[0].outcome == "pending"


@pytest.mark.parametrize("reason", ["disabled", "revoked"])
def test_what_no_policy_can_open_stays_shut(device: str, admin: Caller, reason: str) -> None:
    if reason == "disabled":
        body = {"agent": "web1", "policy": "web", "volume": VOLUME, "enabled": False}
        admin.put("/devices/web1-data", body)
    else:
        admin.post("/keys/web1-data:revoke", REASON)
    found = only(evaluate(admin, {**STORED, "rules": [DB]}))
    assert found["effect"] == "unchanged"
    assert told(found["before"]) == told(found["after"]) == ("denied", reason, False)


# What cannot be told


def test_a_fact_that_nobody_asked_for_never_passes(device: str, admin: Caller) -> None:
    for rule, path in ((NO_EVE, "rules[1]"), ({"not": NO_EVE}, "rules[1].not")):
        found = only(evaluate(admin, {**STORED, "rules": [WEB, rule]}))
        assert (found["effect"], found["may_lose"]) == ("unknown", True)
        assert told(found["after"]) == ("unknown", None, None)
        assert found["after"]["matched"] is found["after"]["action"] is None
        (blamed,) = found["rules"]
        assert (blamed["path"], blamed["passed"], blamed["value"]) == (path, None, None)
        assert blamed["explanation"] == "not recorded: users"


def test_once_it_was_asked_for_it_can_be_told(device: str, machine: Machine, admin: Caller) -> None:
    machine.facts["users"] = ["root"]
    admin.put("/policies/web", {**STORED, "rules": [{"any": [WEB, NO_EVE]}]})
    machine.ask(device)
    assert only(evaluate(admin, {**STORED, "rules": [NO_EVE]}))["effect"] == "unchanged"
    assert only(evaluate(admin, {**STORED, "rules": [{"not": NO_EVE}]}))["effect"] == "lose"


def test_what_cannot_be_told_does_not_hide_what_can(device: str, admin: Caller) -> None:
    found = only(evaluate(admin, {**STORED, "rules": [NO_EVE, DB]}))
    assert (found["effect"], told(found["after"])) == ("lose", WAITS)
    blamed = {rule["path"]: rule["passed"] for rule in found["rules"]}
    assert blamed == {"rules[0]": None, "rules[1]": False}
    assert only(evaluate(admin, {**STORED, "rules": [{"any": [NO_EVE, WEB]}]}))["effect"] == (
        "unchanged"
    )


def test_user_data_is_neither_kept_nor_replayed_nor_shown(
    device: str, machine: Machine, admin: Caller
) -> None:
    rule = {"fact": "instance.user_data", "operator": "equals", "value": "x"}
    admin.put("/policies/web", {**STORED, "rules": [WEB, {"not": rule}]})
    machine.facts["instance"] = {"id": "i", "user_data_digest": None, "user_data": SECRET}
    machine.ask(device)
    impact = evaluate(admin, {**STORED, "rules": [{"not": rule}]})
    (blamed,) = only(impact)["rules"]
    assert blamed["explanation"] == (
        "cannot be replayed, for it may hold secrets and is not kept: instance.user_data"
    )
    assert SECRET not in str(impact)


def test_what_depends_on_the_moment_is_replayed_with_the_moment_of_the_evidence(
    device: str, admin: Caller, clock: Any
) -> None:
    friday = {"fact": "request.weekday", "operator": "equals", "value": "friday"}
    clock.forward(86400)
    assert only(evaluate(admin, {**STORED, "rules": [friday]}))["effect"] == "unchanged"


def test_the_device_is_replayed_as_it_is_registered_now(device: str, admin: Caller) -> None:
    body = {"agent": "web1", "policy": "web", "volume": {**VOLUME, "mount_point": "/moved"}}
    admin.put("/devices/web1-data", body)
    rule = {"fact": "device.mount_point", "operator": "equals", "value": "/moved"}
    assert only(evaluate(admin, {**STORED, "rules": [rule]}))["effect"] == "unchanged"


# Which devices


@pytest.fixture
def fleet(device: str, machine: Machine, admin: Caller) -> None:
    """Two more devices: one of a group under `web`, and one under the default policy."""
    admin.put("/device-groups/shop", {"policy": "web"})
    admin.put("/devices/grouped", {"agent": "web1", "group": "shop", "volume": volume("b")})
    admin.put("/devices/other", {"agent": "web1", "volume": volume("c")})
    machine.ask("grouped", "other")


def named(impact: Any) -> list[str]:
    return [each["device"] for each in impact["devices"]]


def test_a_policy_concerns_what_it_governs(fleet: None, admin: Caller) -> None:
    assert named(evaluate(admin, {})) == ["grouped", "web1-data"]
    assert named(admin.post("/policies/default:evaluate", {})) == ["other"]
    admin.put("/policies/unused", {})
    assert named(admin.post("/policies/unused:evaluate", {"draft": STORED})) == []


def test_devices_and_groups_can_be_selected(fleet: None, admin: Caller) -> None:
    assert named(evaluate(admin, {}, groups=["shop"])) == ["grouped"]
    assert named(evaluate(admin, {}, devices=["web1-data"])) == ["web1-data"]
    both = {"groups": ["shop"], "devices": ["web1-data", "grouped"]}
    assert named(evaluate(admin, {}, **both)) == ["grouped", "web1-data"]
    assert named(evaluate(admin, {}, groups=[], devices=[])) == []


def test_a_policy_that_does_not_exist_yet_concerns_nobody_but_its_text_is_judged(
    admin: Caller,
) -> None:
    impact = evaluate(admin, STORED)
    assert (impact["version"], impact["changed"], impact["devices"]) == (None, True, [])
    bad = {"draft": {"rules": [{"fact": "hostname"}]}}
    admin.refused("invalid_request", "POST", "/policies/web:evaluate", bad)
    admin.refused("not_found", "POST", "/policies/web:evaluate", {})


# Bad input


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"draft": "web"}, "draft"),
        ({"draft": []}, "draft"),
        ({"draft": {"rule": []}}, "draft.rule"),
        ({"draft": {"rules": [{"fact": "hostname", "operator": "x", "value": 1}]}}, None),
        ({"draft": {"rules": [{"any": [{**WEB, "operator": "at_least"}]}]}}, None),
        ({"draft": {"on_fail": APPROVE}}, "draft.on_fail.action"),
        ({"draft": {"name": "db"}}, "draft.name"),
        ({"draft": {"name": 7}}, "draft.name"),
        ({"groups": "shop"}, "groups"),
        ({"groups": [1]}, "groups[0]"),
        ({"groups": ["none"]}, "groups[0]"),
        ({"groups": ["a\u0000"]}, "groups[0]"),
        ({"devices": ["web1-data", "none"]}, "devices[1]"),
        ({"devices": ["stranger"]}, "devices[0]"),
        ({"devices": ["x"] * 1001}, "devices"),
        ({"device": ["web1-data"]}, "device"),
        ({"policy": STORED}, "policy"),
    ],
)
def test_what_is_wrong_is_named(
    device: str, admin: Caller, body: dict[str, Any], field: str | None
) -> None:
    admin.put("/devices/stranger", {"agent": "web1", "volume": volume("d")})
    document = admin.refused("invalid_request", "POST", "/policies/web:evaluate", body)
    assert all(each.startswith(("draft.rules[0]", field or "draft")) for each in fields(document))
    assert field is None or fields(document) == [field]


def test_the_message_tells_a_stranger_from_nobody(device: str, admin: Caller) -> None:
    admin.put("/devices/stranger", {"agent": "web1", "volume": volume("d")})
    body = {"devices": ["stranger", "nobody"]}
    document = admin.refused("invalid_request", "POST", "/policies/web:evaluate", body)
    assert [error["message"] for error in document["errors"]] == [
        "policy 'web' does not govern device 'stranger'",
        "there is no device 'nobody'",
    ]


def test_it_changes_nothing(server: Any, device: str, admin: Caller) -> None:
    before = admin.actions(), admin.items("/key-requests"), admin.get("/policies/web")
    evaluate(admin, {"rules": [DB], "on_fail": DENY})
    assert (admin.actions(), admin.items("/key-requests"), admin.get("/policies/web")) == before


# What was foreseen comes true

RULES = st.lists(
    st.sampled_from([WEB, DB, NO_EVE, {"not": WEB}, {"any": [DB, NO_EVE]}]), max_size=2
)
ACTIONS = st.sampled_from([APPROVE, DENY, MANUAL, {"action": "approve_after", "delay": 60}])
POLICIES = st.fixed_dictionaries(
    {
        "rules": RULES,
        "on_match": ACTIONS,
        "on_fail": ACTIONS,
        "force": st.just(value=True),
        "description": st.sampled_from(["", "a", "b"]),
    }
)
FACTS = st.fixed_dictionaries(
    {
        "host_name": st.sampled_from(["web1", "db1", "x"]),
        "users": st.sampled_from([["root"], ["root", "eve"], None]),
    }
)


@pytest.fixture(scope="module")
def living(
    template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Machine, Caller]]:
    """A server whose one machine lives through everything that is made up."""
    with template.server(tmp_path_factory.mktemp("living"), Clock()) as server:
        admin = Caller(server.http, template.tokens[ADMINISTRATOR])
        machine = server.machine("web1")
        admin.put("/policies/web", {})
        admin.put("/devices/data", {"agent": "web1", "policy": "web", "volume": VOLUME})
        yield server, machine, admin


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(stored=POLICIES, draft=POLICIES, facts=FACTS, approves=st.booleans())
def test_what_was_foreseen_comes_true(
    living: tuple[Server, Machine, Caller],
    stored: dict[str, Any],
    draft: dict[str, Any],
    facts: dict[str, Any],
    approves: bool,
) -> None:
    _, machine, admin = living
    admin.put("/policies/web", stored)
    machine.facts = {name: value for name, value in facts.items() if value is not None}
    machine.reboot()
    decision = machine.ask("data").decisions[0]
    now = only(evaluate(admin))
    assert (now["before"]["outcome"], now["before"]["code"]) == (decision.outcome, decision.code)
    if approves and decision.code == "approval_required":
        admin.post(f"/key-requests/{decision.request_id}:approve", REASON)
        machine.unlock("data")
    elif decision.outcome == "granted":
        machine.unlock("data")
    foreseen = only(evaluate(admin, draft))
    assert foreseen["before"]["stays_open"] is (
        machine.ask("data", want="check").decisions[0].outcome == "granted"
    )
    admin.put("/policies/web", draft)
    check = machine.ask("data", want="check").decisions[0]
    machine.reboot()
    boot = machine.ask("data").decisions[0]
    after = foreseen["after"]
    if after["outcome"] != "unknown":
        assert after["outcome"] == boot.outcome
    assert after["code"] in {None, boot.code}
    assert after["stays_open"] in {None, check.outcome == "granted"}
    if foreseen["effect"] == "unchanged":
        assert told(foreseen["before"]) == told(after)
