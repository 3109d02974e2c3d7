"""What is kept of evidence, what is not, and that a replay never says more than it can know."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_server.domain.evaluation import Evidence
from securecloud_server.domain.facts import CATALOGUE
from securecloud_server.domain.policy import Fact, Policy, Provenance, Replayed, compile_policy
from securecloud_server.domain.recorded import Asked, circumstances, document, recording

from server.tests.domain.test_properties import EVIDENCE, RULES

SECRET = "hunter2"
DEVICE = {"name": "d", "group": None, "access": "read-write", "filesystem": "ext4"}
REQUEST = Fact({"source_ip": "192.0.2.1", "weekday": "friday"}, Provenance.OBSERVED)
INSTANCE = {"id": "i-1", "user_data_digest": "sha256:00", "user_data": SECRET}


def asked_by(*policies: Policy) -> dict[str, tuple[str, ...]]:
    """Return what agents are asked for, as the exchange does (`exchange_situation`)."""
    wanted: dict[str, set[str] | None] = {}
    for policy in policies:
        for request in policy.fact_requests:
            known = wanted.setdefault(request.name, set())
            if known is None or not request.args:
                wanted[request.name] = None
            else:
                known |= set(request.args)
    return {name: tuple(sorted(args or ())) for name, args in wanted.items()}


def through_storage(evidence: Evidence, asked: Asked) -> Any:
    """Return a recording of the evidence, its halves written and read as the database does."""
    kept = json.loads(json.dumps(document(evidence, asked)))
    passing = json.loads(json.dumps(circumstances(evidence, asked)))
    device = evidence["device"].value if "device" in evidence else DEVICE
    return recording(kept, passing, device)


def replay(rule: Any, evidence: Evidence, asked: Asked) -> Replayed:
    rules = [rule] if isinstance(rule, dict) else rule
    return compile_policy({"rules": rules}).replay(through_storage(evidence, asked))


def rule(fact: str, operator: str, value: Any) -> dict[str, Any]:
    return {"fact": fact, "operator": operator, "value": value}


# What is kept


def test_what_may_be_secret_is_left_out_and_named() -> None:
    kept = document({"instance": Fact(INSTANCE)}, {"instance": ()})
    assert SECRET not in json.dumps(kept)
    assert kept["withheld"] == {"instance": ["user_data"]}
    assert kept["facts"]["instance"]["value"] == {"id": "i-1", "user_data_digest": "sha256:00"}


@pytest.mark.parametrize(
    "value",
    [SECRET, [SECRET], {**INSTANCE, "user-data": SECRET}, {"vendor": {"deep": [SECRET]}}],
)
def test_a_secret_in_a_place_that_nobody_knows_is_left_out_as_well(value: Any) -> None:
    kept = document({"instance": Fact(value)}, {"instance": ()})
    assert SECRET not in json.dumps(kept)
    assert kept["withheld"]["instance"]


def test_what_was_not_asked_for_is_not_kept() -> None:
    evidence = {"users": Fact(["root"]), "host_name": Fact("web1")}
    kept = document(evidence, {"host_name": ()})
    assert kept["facts"].keys() == {"host_name"}


def test_what_is_another_each_time_is_no_part_of_the_document() -> None:
    facts = {"boot": Fact({"boot_id": "b", "uptime_seconds": 7}), "host_name": Fact("web1")}
    evidence = {**facts, "request": REQUEST, "device": Fact(DEVICE, Provenance.OBSERVED)}
    asked = {"boot": (), "host_name": ()}
    assert document(evidence, asked)["facts"].keys() == {"host_name"}
    assert circumstances(evidence, asked).keys() == {"boot", "request"}
    assert circumstances(evidence, {}).keys() == {"request"}


def test_every_field_that_is_never_shown_is_never_kept() -> None:
    for name, spec in CATALOGUE.items():
        private = [key for key, field in spec.fields.items() if field.private]
        value = dict.fromkeys(spec.fields, SECRET)
        kept = document({name: Fact(value)}, {name: ()})
        assert sorted(kept["withheld"].get(name, [])) == sorted(private)


# What can be replayed


def test_a_fact_that_was_not_asked_for_is_not_recorded_and_never_passes() -> None:
    for node in (
        rule("users", "excludes", ["eve"]),
        {"not": rule("users", "includes_any", ["eve"])},
        {"jmespath": "length(users) < `5`"},
    ):
        replayed = replay(node, {"host_name": Fact("web1")}, {"host_name": ()})
        (result,) = replayed.at_worst.results
        assert (result.passed, result.explanation) == (False, "not recorded: users")
        assert (replayed.at_worst.matched, replayed.at_best.matched) == (False, True)
        assert replayed.untold == {result.path}


def test_a_fact_that_was_asked_for_and_not_given_fails_as_it_did() -> None:
    replayed = replay(rule("users", "excludes", ["eve"]), {}, {"users": ()})
    assert not replayed.untold
    assert replayed.at_worst.results[0].explanation == "not provided"


@pytest.mark.parametrize(
    ("asked", "key", "is_recorded"),
    [
        (("sudo",), "sudo", True),
        (("sudo",), "openssl", False),
        ((), "openssl", True),
    ],
)
def test_a_package_counts_as_recorded_only_if_it_was_asked_for(
    asked: tuple[str, ...], key: str, is_recorded: bool
) -> None:
    evidence = {"packages": Fact({"sudo": "1.9"})}
    for node in (
        {"not": rule("packages", "has_keys", [key])},
        rule(f"packages.{key}", "at_least", "1"),
        {"jmespath": f"packages.{key} == `null`"},
    ):
        assert bool(replay(node, evidence, {"packages": asked}).untold) is not is_recorded
    everything = replay({"jmespath": "length(packages) > `0`"}, evidence, {"packages": asked})
    assert bool(everything.untold) is bool(asked)


@pytest.mark.parametrize(
    ("node", "untold"),
    [
        (rule("instance.user_data", "equals", SECRET), True),
        ({"not": rule("instance.user_data", "equals", SECRET)}, True),
        ({"jmespath": f"contains(instance.user_data, '{SECRET}')"}, True),
        (rule("instance.id", "equals", "i-1"), False),
        (rule("instance.user_data_digest", "equals", "sha256:00"), False),
    ],
)
def test_a_rule_on_what_may_be_secret_cannot_be_replayed(node: Any, untold: bool) -> None:
    replayed = replay(node, {"instance": Fact(INSTANCE)}, {"instance": ()})
    assert bool(replayed.untold) is untold
    explanation = replayed.at_worst.results[0].explanation
    assert explanation.startswith("cannot be replayed") is untold
    assert SECRET not in explanation


def test_user_data_that_a_machine_does_not_have_can_be_replayed() -> None:
    evidence = {"instance": Fact({**INSTANCE, "user_data": None})}
    node = {"jmespath": "instance.user_data == `null`"}
    replayed = replay(node, evidence, {"instance": ()})
    assert (replayed.at_worst.matched, replayed.untold) == (True, frozenset())


def test_what_cannot_be_told_does_not_matter_where_another_rule_decides() -> None:
    known, unknown = rule("host_name", "equals", "web1"), rule("users", "only", ["root"])
    evidence = {"host_name": Fact("web1")}
    for node, both in (
        ({"any": [known, unknown]}, True),
        ({"all": [{"not": known}, unknown]}, False),
    ):
        replayed = replay(node, evidence, {"host_name": ()})
        assert replayed.at_worst.matched is replayed.at_best.matched is both


def test_what_the_server_knew_is_always_recorded_but_not_what_it_learned_to_see_later() -> None:
    evidence = {"request": REQUEST}
    assert not replay(rule("request.weekday", "equals", "friday"), evidence, {}).untold
    assert not replay(rule("device.access", "equals", "read-write"), evidence, {}).untold
    assert replay(rule("request.first_seen_hours", "at_least", 1), evidence, {}).untold


# What holds for all


OBSERVED = st.fixed_dictionaries(
    {
        "device": st.just(Fact(DEVICE, Provenance.OBSERVED)),
        "request": st.just(
            Fact(
                {"source_ip": "192.0.2.1", "time": "2026-01-31T12:00:00Z", "weekday": "friday"},
                Provenance.OBSERVED,
            )
        ),
    }
)


@given(RULES, EVIDENCE, OBSERVED)
def test_a_policy_replayed_on_what_it_was_evaluated_on_says_the_same(
    rules: list[Any], claims: dict[str, Fact], observed: dict[str, Fact]
) -> None:
    policy, evidence = compile_policy({"rules": rules}), {**claims, **observed}
    replayed = policy.replay(through_storage(evidence, asked_by(policy)))
    assert not replayed.untold
    live = policy.evaluate(evidence)
    assert replayed.at_worst.results == live.results
    assert replayed.at_worst.matched is replayed.at_best.matched is live.matched


@given(RULES, RULES, EVIDENCE, OBSERVED)
def test_a_draft_replayed_on_what_another_policy_asked_for_spans_the_truth(
    rules: list[Any], draft: list[Any], claims: dict[str, Fact], observed: dict[str, Fact]
) -> None:
    old, new = compile_policy({"rules": rules}), compile_policy({"rules": draft})
    evidence = {**claims, **observed}
    replayed = new.replay(through_storage(evidence, asked_by(old)))
    truth = new.evaluate(evidence)
    assert replayed.at_worst.matched <= truth.matched <= replayed.at_best.matched
    told = {result.path: result for result in truth.results if result.path not in replayed.untold}
    assert told == {r.path: r for r in replayed.at_worst.results if r.path in told}
