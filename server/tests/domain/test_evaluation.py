"""From evidence to a decision with its reasons."""

import json
from typing import Any

import pytest
from securecloud_server.domain.evidence import (
    agent_evidence,
    evidence_document,
    stored_evidence,
)
from securecloud_server.domain.policy import (
    ActionKind,
    Evaluation,
    Fact,
    Provenance,
    compile_policy,
)

IS_WEB = {"fact": "host_name", "operator": "starts_with", "value": "web"}
IS_EU = {"fact": "location.region", "operator": "equals", "value": "eu"}
ACTIONS = {"on_match": {"action": "approve"}, "on_fail": {"action": "deny"}}
WEB = {"host_name": Fact("web1")}


def evaluate(rules: Any, evidence: dict[str, Fact], **keys: Any) -> Evaluation:
    return compile_policy({"rules": rules} | ACTIONS | keys).evaluate(evidence)


def test_a_match_leads_to_on_match() -> None:
    found = evaluate([IS_WEB], WEB)
    assert found.matched
    assert found.action.kind is ActionKind.APPROVE


def test_a_failed_rule_leads_to_on_fail() -> None:
    found = evaluate([IS_WEB, IS_EU], WEB)
    assert not found.matched
    assert found.action.kind is ActionKind.DENY


def test_the_delay_travels_with_the_action() -> None:
    found = evaluate([IS_WEB], WEB, on_match={"action": "approve_after", "delay": 600})
    assert (found.action.kind, found.action.delay) == (ActionKind.APPROVE_AFTER, 600)


def test_no_rules_are_manual_whatever_the_actions_say() -> None:
    found = evaluate([], WEB)
    assert not found.matched
    assert found.action.kind is ActionKind.MANUAL
    assert found.results == ()


@pytest.mark.parametrize(
    ("rules", "matched"),
    [
        ([IS_WEB, IS_EU], False),
        ({"all": [IS_WEB, IS_EU]}, False),
        ({"any": [IS_WEB, IS_EU]}, True),
        ([{"not": IS_WEB}], False),
        ([{"not": IS_EU}], False),
        ([{"not": {"not": IS_WEB}}], True),
        ([{"not": {"all": [{"not": IS_WEB}, IS_EU]}}], True),
        ([{"not": {"any": [{"not": IS_WEB}, IS_EU]}}], False),
    ],
)
def test_what_is_not_provided_never_decides(rules: Any, matched: bool) -> None:
    assert evaluate(rules, WEB).matched is matched


def test_results_are_flat_with_paths_of_the_text() -> None:
    found = evaluate([IS_WEB, {"any": [IS_EU, {"not": IS_WEB}]}], WEB)
    assert [(r.path, r.rule, r.passed) for r in found.results] == [
        ("rules[0]", "host_name starts_with 'web'", True),
        ("rules[1].any[0]", "location.region equals 'eu'", False),
        ("rules[1].any[1].not", "not (host_name starts_with 'web')", False),
    ]


@pytest.mark.parametrize(
    ("fact", "explanation"),
    [
        (None, "not provided"),
        (Fact.failed("probe timed out"), "not provided: probe timed out"),
        (Fact.failed(""), "not provided"),
        (Fact("eu"), "not provided: expected an object"),
        (Fact({}), "not provided: the value is null or missing"),
        (Fact({"region": None}), "not provided: the value is null or missing"),
        (Fact({"region": 5}), "not provided: expected a string"),
        (Fact({"region": "us"}), "is 'us'"),
    ],
)
def test_the_explanation_says_why_a_rule_failed(fact: Fact | None, explanation: str) -> None:
    (result,) = evaluate([IS_EU], {"location": fact} if fact else {}).results
    assert result.explanation == explanation


@pytest.mark.parametrize("minimum", list(Provenance))
@pytest.mark.parametrize("found", list(Provenance))
@pytest.mark.parametrize("rule", [IS_WEB, {"jmespath": "starts_with(host_name, 'web')"}])
def test_a_fact_needs_the_minimum_provenance(
    rule: dict[str, Any], found: Provenance, minimum: Provenance
) -> None:
    evidence = {"host_name": Fact("web1", found)}
    matched = evaluate([rule | {"minimum_provenance": minimum.value}], evidence).matched
    assert matched is (found.rank >= minimum.rank)


@pytest.mark.parametrize("rule", [IS_WEB, {"jmespath": "starts_with(host_name, 'web')"}])
def test_a_weak_fact_does_not_pass_under_a_negation(rule: dict[str, Any]) -> None:
    strong = rule | {"minimum_provenance": "tpm_quoted"}
    found = evaluate([{"not": strong}], {"host_name": Fact("db1")})
    assert not found.matched
    assert "is claimed; at least tpm_quoted is required" in found.results[0].explanation
    assert found.results[0].rule.endswith("(at least tpm_quoted))")


@pytest.mark.parametrize(
    "rule",
    [
        {"fact": "request.weekday", "operator": "equals", "value": "monday"},
        {"jmespath": "request.weekday == 'monday'"},
    ],
)
def test_server_facts_are_believed_only_from_the_server(rule: dict[str, Any]) -> None:
    claimed, observed = (
        Fact({"weekday": "monday"}),
        Fact({"weekday": "monday"}, Provenance.OBSERVED),
    )
    assert not evaluate([rule], {"request": claimed}).matched
    assert evaluate([rule], {"request": observed}).matched


def test_results_are_json_of_bounded_length() -> None:
    evidence = {
        "host_name": Fact("x" * 5000 + "\ud800"),
        "location": Fact.failed("\n\x1b[31m" * 1000),
        "users": Fact(["é\ud800"]),
        "packages": Fact({str(n): "1" for n in range(5000)}),
    }
    rules = [
        IS_WEB,
        IS_EU,
        {"fact": "users", "operator": "only", "value": ["root"]},
        {"fact": "packages", "operator": "has_keys", "value": ["sudo"]},
    ]
    for result in evaluate(rules, evidence).results:
        text = json.dumps(result.to_document(), ensure_ascii=False)
        text.encode()
        assert len(text) < 3000
        assert result.explanation.isprintable()


def test_user_data_is_never_shown() -> None:
    rules = [
        {"fact": "instance.user_data", "operator": "equals", "value": "role=web"},
        {"jmespath": "instance.user_data == 'role=web'"},
    ]
    found = evaluate(rules, {"instance": Fact({"user_data": "password=hunter2"})})
    assert "hunter2" not in repr(found.results)


def test_an_agent_cannot_raise_provenance_or_supply_server_facts() -> None:
    document = {
        "host_name": {"value": "web1", "provenance": "tpm_quoted"},
        "request": {"value": {"source_ip": "10.0.0.1"}, "provenance": "observed"},
        "bogus": {"value": 1},
        "users": {"error": "no such file"},
        "os": {"wert": 1},
        "tpm": "present",
    }
    assert agent_evidence(document) == {
        "host_name": Fact("web1"),
        "users": Fact.failed("no such file"),
        "os": Fact.failed("malformed evidence"),
        "tpm": Fact.failed("malformed evidence"),
    }


def test_stored_evidence_comes_back_as_it_was() -> None:
    evidence = {
        "host_name": Fact("web1", Provenance.TPM_QUOTED),
        "request": Fact({"weekday": "monday"}, Provenance.OBSERVED),
        "users": Fact.failed("no such file"),
    }
    assert stored_evidence(json.loads(json.dumps(evidence_document(evidence)))) == evidence


@pytest.mark.parametrize("provenance", [None, "root", 5, ["observed"]])
def test_stored_evidence_of_unknown_provenance_is_in_error(provenance: Any) -> None:
    document = {"host_name": {"value": "web1", "provenance": provenance}}
    assert stored_evidence(document) == {"host_name": Fact.failed("unknown provenance")}
