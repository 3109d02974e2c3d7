"""Reading a policy text: defaults, canonical form, and every problem at its place."""

import hashlib
import json
from typing import Any

import pytest
from securecloud_server.domain.policy import (
    Action,
    ActionKind,
    Offline,
    PolicyError,
    compile_policy,
)

RULE = {"fact": "host_name", "operator": "equals", "value": "web1"}


def fields(text: Any) -> list[str]:
    with pytest.raises(PolicyError) as error:
        compile_policy(text)
    assert all(e.expected and e.message for e in error.value.errors)
    return [e.field for e in error.value.errors]


def nested(levels: int) -> dict[str, Any]:
    rule: dict[str, Any] = RULE
    for _ in range(levels - 1):
        rule = {"not": rule}
    return rule


def test_an_empty_text_is_manual() -> None:
    policy = compile_policy({})
    assert policy.on_match == policy.on_fail == Action(ActionKind.MANUAL)
    assert policy.fact_requests == ()


def test_the_canonical_form_has_every_key_but_the_name() -> None:
    policy = compile_policy({"name": "web", "rules": [RULE]})
    assert policy.name == "web"
    assert policy.normalised == {
        "description": "",
        "rules": [RULE],
        "on_match": {"action": "manual"},
        "on_fail": {"action": "manual"},
        "force": False,
    }


def test_a_grace_is_part_of_the_text_only_where_there_is_one() -> None:
    policy = compile_policy({"grace": {"period": 300}})
    assert (policy.grace.period, policy.grace.postpone) == (300, 0)
    assert policy.normalised["grace"] == {"period": 300, "postpone": 0}
    none = compile_policy({"grace": {"period": 0, "postpone": 0}})
    assert none.grace.period == 0
    assert none.digest == compile_policy({}).digest


APPROVING = {"rules": [RULE], "on_match": {"action": "approve"}}


def test_boots_without_a_server_are_part_of_the_text_only_where_there_are_any() -> None:
    policy = compile_policy({**APPROVING, "offline": {"period": 3600, "pcrs": [7, 4]}})
    assert policy.offline == Offline(3600, 1, (4, 7))
    assert policy.normalised["offline"] == {"period": 3600, "boots": 1, "pcrs": [4, 7]}
    never = compile_policy({**APPROVING, "offline": {"period": 0, "boots": 1, "pcrs": [7]}})
    assert never.offline == Offline()
    assert never.digest == compile_policy(APPROVING).digest
    for limit in (60, 604_800):
        compile_policy({**APPROVING, "offline": {"period": limit, "boots": 100}})


def test_what_it_says_of_boots_without_a_server_compiles_to_itself() -> None:
    policy = compile_policy({**APPROVING, "offline": {"period": 60, "boots": 3, "pcrs": [0]}})
    assert compile_policy(policy.normalised).digest == policy.digest


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ({"rules": [RULE]}, "on_match is manual"),
        ({"rules": [RULE], "on_match": {"action": "manual"}}, "on_match is manual"),
        ({"rules": [RULE], "on_match": {"action": "deny"}}, "on_match is deny"),
        (
            {"rules": [RULE], "on_match": {"action": "approve_after", "delay": 5}},
            "on_match is approve_after",
        ),
        ({"on_match": {"action": "approve"}}, "without rules is manual"),
    ],
)
def test_boots_without_a_server_need_a_policy_that_approves_by_itself(
    text: dict[str, Any], why: str
) -> None:
    with pytest.raises(PolicyError) as refused:
        compile_policy({**text, "offline": {"period": 3600}})
    (error,) = refused.value.errors
    assert error.field == "offline"
    assert why in error.message


def test_the_digest_is_of_the_canonical_json() -> None:
    policy = compile_policy({"description": "für Web", "rules": [RULE]})
    canonical = json.dumps(
        policy.normalised, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert policy.digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_spelling_does_not_change_the_digest() -> None:
    plain = {"fact": "packages.openssl", "operator": "at_least", "value": "3"}
    quoted = {"value": "3", "operator": "at_least", "fact": 'packages."openssl"'}
    assert compile_policy({"rules": [plain]}).digest == compile_policy({"rules": [quoted]}).digest


def test_a_time_window_gets_its_defaults() -> None:
    rule = {
        "fact": "request.time",
        "operator": "in_window",
        "value": {"from": "08:00", "to": "18:00", "weekdays": ["tuesday", "monday", "monday"]},
    }
    assert compile_policy({"rules": [rule]}).normalised["rules"][0]["value"] == {
        "from": "08:00",
        "to": "18:00",
        "timezone": "UTC",
        "weekdays": ["monday", "tuesday"],
    }


def test_rules_may_be_one_node() -> None:
    policy = compile_policy({"rules": {"any": [RULE, {"not": RULE}]}})
    assert policy.normalised["rules"] == {"any": [RULE, {"not": RULE}]}


def test_the_agent_is_asked_only_for_what_rules_name() -> None:
    policy = compile_policy(
        {
            "rules": [
                {"fact": "request.weekday", "operator": "equals", "value": "monday"},
                {"fact": "device.name", "operator": "equals", "value": "d1"},
                {"fact": 'file_digests."/etc/b"', "operator": "equals", "value": "x"},
                {"fact": "file_digests", "operator": "has_keys", "value": ["/etc/a"]},
                {"fact": "packages.sudo", "operator": "at_least", "value": "1"},
                {"jmespath": "packages.bash == '5' && tpm.present"},
                {"not": {"fact": "host_name", "operator": "equals", "value": "x"}},
            ]
        }
    )
    assert policy.fact_requests == (
        ("host_name", ()),
        ("packages", ("bash", "sudo")),
        ("file_digests", ("/etc/a", "/etc/b")),
        ("tpm", ()),
    )


def test_an_expression_over_all_packages_asks_for_all() -> None:
    rules = [
        {"fact": "packages.sudo", "operator": "at_least", "value": "1"},
        {"jmespath": "length(packages) < `100`"},
        {"fact": "packages.bash", "operator": "at_least", "value": "1"},
    ]
    assert compile_policy({"rules": rules}).fact_requests == (("packages", ()),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ([], [""]),
        ({"rule": []}, ["rule"]),
        ({1: []}, ["1"]),
        ({"name": "Web"}, ["name"]),
        ({"name": None}, ["name"]),
        ({"description": 5}, ["description"]),
        ({"description": "x" * 1001}, ["description"]),
        ({"force": "yes"}, ["force"]),
        ({"grace": None}, ["grace"]),
        ({"grace": 300}, ["grace"]),
        ({"grace": {}}, ["grace.period"]),
        ({"grace": {"postpone": 60}}, ["grace.period"]),
        ({"grace": {"period": -1}}, ["grace.period"]),
        ({"grace": {"period": True}}, ["grace.period"]),
        ({"grace": {"period": 604_801}}, ["grace.period"]),
        ({"grace": {"period": "5m", "postpone": "1h"}}, ["grace.period", "grace.postpone"]),
        ({"grace": {"period": 60, "postpone": None}}, ["grace.postpone"]),
        ({"grace": {"period": 0, "postpone": 60}}, ["grace.postpone"]),
        ({"grace": {"period": 60, "wait": 1}}, ["grace.wait"]),
        *(
            (APPROVING | {"offline": offline}, fields)
            for offline, fields in (
                (None, ["offline"]),
                (3600, ["offline"]),
                ({}, ["offline.period"]),
                ({"boots": 1}, ["offline.period"]),
                ({"period": 59}, ["offline.period"]),
                ({"period": -1}, ["offline.period"]),
                ({"period": 604_801}, ["offline.period"]),
                ({"period": True, "boots": 0}, ["offline.period", "offline.boots"]),
                ({"period": 60, "boots": 101}, ["offline.boots"]),
                ({"period": 60, "boots": None}, ["offline.boots"]),
                ({"period": 60, "pcrs": []}, ["offline.pcrs"]),
                ({"period": 60, "pcrs": 7}, ["offline.pcrs"]),
                ({"period": 60, "pcrs": [16]}, ["offline.pcrs"]),
                ({"period": 60, "pcrs": [-1]}, ["offline.pcrs"]),
                ({"period": 60, "pcrs": [7, 7]}, ["offline.pcrs"]),
                ({"period": 60, "pcrs": ["7"]}, ["offline.pcrs"]),
                ({"period": 60, "pcrs": [True]}, ["offline.pcrs"]),
                ({"period": 60, "pcrs": [[7]]}, ["offline.pcrs"]),
                ({"period": 60, "bank": "sha1"}, ["offline.bank"]),
                ({"period": 0, "boots": 2}, ["offline.boots"]),
                ({"period": 0, "pcrs": [4]}, ["offline.pcrs"]),
            )
        ),
        ({"rules": None}, ["rules"]),
        ({"rules": "x"}, ["rules"]),
        ({"rules": ["x"]}, ["rules[0]"]),
        ({"rules": [{}]}, ["rules[0]"]),
        ({"rules": [RULE | {"any": [RULE]}]}, ["rules[0]"]),
        ({"rules": [{"any": []}]}, ["rules[0].any"]),
        ({"rules": {"all": RULE}}, ["rules.all"]),
        ({"rules": [{"not": [RULE]}]}, ["rules[0].not"]),
        ({"rules": [{"not": RULE, "why": "x"}]}, ["rules[0].why"]),
        ({"rules": [RULE | {"valeu": 1}]}, ["rules[0].valeu"]),
        ({"rules": [{"fact": "host_name"}]}, ["rules[0].operator", "rules[0].value"]),
        ({"rules": [RULE | {"fact": "hostname"}]}, ["rules[0].fact"]),
        ({"rules": [RULE | {"fact": ["host_name"]}]}, ["rules[0].fact"]),
        ({"rules": [RULE | {"operator": "at_least"}]}, ["rules[0].operator"]),
        ({"rules": [RULE | {"operator": ["equals"]}]}, ["rules[0].operator"]),
        (
            {"rules": [RULE | {"minimum_provenance": "tpm"}]},
            ["rules[0].minimum_provenance"],
        ),
        ({"rules": [RULE | {"minimum_provenance": []}]}, ["rules[0].minimum_provenance"]),
        ({"rules": [{"jmespath": 5}]}, ["rules[0].jmespath"]),
        ({"rules": [{"jmespath": "users =="}]}, ["rules[0].jmespath"]),
        ({"rules": [{"jmespath": "length(users) < `5`", "value": 1}]}, ["rules[0].value"]),
        ({"on_match": "approve"}, ["on_match"]),
        ({"on_match": {}}, ["on_match.action"]),
        ({"on_match": {"action": "allow"}}, ["on_match.action"]),
        ({"on_match": {"action": ["deny"]}}, ["on_match.action"]),
        ({"on_match": {"action": "deny", "reason": "x"}}, ["on_match.reason"]),
        ({"on_match": {"action": "deny", "delay": 5}}, ["on_match.delay"]),
        ({"on_match": {"action": "approve_after"}}, ["on_match.delay"]),
        ({"on_match": {"action": "approve_after", "delay": 0}}, ["on_match.delay"]),
        ({"on_match": {"action": "approve_after", "delay": 2_592_001}}, ["on_match.delay"]),
        ({"on_match": {"action": "approve_after", "delay": True}}, ["on_match.delay"]),
        ({"on_match": {"action": "approve_after", "delay": "60"}}, ["on_match.delay"]),
        ({"on_fail": {"action": "approve"}}, ["on_fail.action"]),
        ({"on_fail": {"action": "approve_after", "delay": 60}}, ["on_fail.action"]),
        ({"on_fail": {"action": "approve"}, "force": False}, ["on_fail.action"]),
        ({"description": "\ud800"}, [""]),
        ({"rules": [nested(9)]}, ["rules[0]" + ".not" * 8]),
        ({"rules": [RULE] * 201}, ["rules[200]"]),
    ],
)
def test_a_problem_is_reported_at_its_place(text: Any, expected: list[str]) -> None:
    assert fields(text) == expected


def test_every_problem_is_reported_at_once() -> None:
    text = {
        "rulez": [],
        "rules": [
            {"fact": "hostname", "operator": "equals", "value": "x"},
            {"any": [RULE, {"fact": "users", "operator": "equals", "value": "x"}]},
        ],
        "on_match": {"action": "approve_after"},
        "on_fail": {"action": "approve"},
    }
    assert fields(text) == [
        "rulez",
        "rules[0].fact",
        "rules[1].any[1].operator",
        "on_match.delay",
        "on_fail.action",
    ]


def test_messages_name_what_was_expected() -> None:
    with pytest.raises(PolicyError) as error:
        compile_policy({"rules": [RULE | {"fact": "users", "operator": "include"}]})
    (problem,) = error.value.errors
    assert problem.expected == "one of includes_all, includes_any, excludes, only"
    assert problem.message == (
        "operator 'include' does not fit users of type string_list; did you mean 'includes_any'?"
    )


@pytest.mark.parametrize("kind", ["approve", "approve_after"])
def test_force_allows_release_on_the_failing_branch(kind: str) -> None:
    action = {"action": kind} | ({"delay": 60} if kind == "approve_after" else {})
    assert compile_policy({"on_fail": action, "force": True}).on_fail.kind == kind


def test_eight_levels_and_two_hundred_rules_are_allowed() -> None:
    compile_policy({"rules": [nested(8), *[RULE] * 199]})


def test_a_text_over_64_kib_is_refused() -> None:
    assert fields({"rules": [RULE | {"value": "x" * 1000}] * 66}) == [""]


def test_a_text_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert fields({"rules": loop}) == [""]


def test_a_very_deep_text_is_refused_without_harm() -> None:
    deep: Any = RULE
    for _ in range(10_000):
        deep = {"not": deep}
    assert fields({"rules": [deep]}) == ["rules[0]" + ".not" * 8]


def test_a_value_in_a_message_is_short() -> None:
    with pytest.raises(PolicyError) as error:
        compile_policy({"rules": [RULE | {"value": list(range(5000))}]})
    assert len(error.value.errors[0].message) < 200
