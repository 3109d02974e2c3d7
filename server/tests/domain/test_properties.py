"""What holds for every policy and every evidence."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from securecloud_server.domain.facts import CATALOGUE
from securecloud_server.domain.policy import Fact, Provenance, compile_policy

LEAVES: list[dict[str, Any]] = [
    {"fact": "host_name", "operator": "matches", "value": "web[0-9]+"},
    {"fact": "host_name", "operator": "not_equals", "value": "web1"},
    {"fact": "location.region", "operator": "none_of", "value": ["eu", "us"]},
    {"fact": "patch_level.days_since_update", "operator": "at_most", "value": 5},
    {"fact": "secure_boot.enabled", "operator": "is", "value": False},
    {"fact": "packages.sudo", "operator": "at_least", "value": "1.9"},
    {"fact": "packages", "operator": "has_keys", "value": ["sudo"]},
    {"fact": "users", "operator": "excludes", "value": ["bob"]},
    {"fact": "network_services", "operator": "ports_exclude", "value": ["tcp/23"]},
    {"fact": "mandatory_access_control.selinux", "operator": "not_equals", "value": "disabled"},
    {"fact": "request.source_ip", "operator": "not_in_networks", "value": ["10.0.0.0/8"]},
    {
        "fact": "request.time",
        "operator": "in_window",
        "value": {"from": "22:00", "to": "06:00", "timezone": "Europe/Berlin"},
    },
    {"jmespath": "!contains(users, 'bob')"},
    {"jmespath": "location.zone != 'z' || length(packages) < `3`"},
    {"jmespath": "length(network_services[?port == `23`].address | sort(@)) == `0`"},
    {"jmespath": "host_name > `5` && to_number(host_name) == `1`"},
    {"fact": "host_name", "operator": "equals", "value": "x", "minimum_provenance": "tpm_quoted"},
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = sorted({key for spec in CATALOGUE.values() for key in spec.fields} | {"sudo", "port"})
NEARLY_RIGHT = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6) | st.lists(
    st.sampled_from(["bob", "root"]) | JSON, max_size=3
)
FACTS = st.builds(Fact, JSON | NEARLY_RIGHT, st.sampled_from(Provenance)) | st.builds(
    Fact.failed, st.text()
)
EVIDENCE = st.dictionaries(st.sampled_from(sorted(CATALOGUE)), FACTS)


def nodes(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.fixed_dictionaries({"not": inner})
            | st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)})
            | st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=3)})
        ),
        max_leaves=6,
    ).filter(lambda node: depth(node) <= 8)


def depth(node: dict[str, Any]) -> int:
    if "not" in node:
        return 1 + depth(node["not"])
    return 1 + max(map(depth, node.get("all") or node.get("any") or []), default=0)


RULES = st.lists(nodes(st.sampled_from(LEAVES)), max_size=4)


@given(RULES, EVIDENCE)
def test_evaluation_never_raises(rules: list[Any], evidence: dict[str, Fact]) -> None:
    evaluation = compile_policy({"rules": rules}).evaluate(evidence)
    assert all(result.passed is (result.explanation == "") for result in evaluation.results)


@given(RULES)
def test_nothing_matches_without_evidence(rules: list[Any]) -> None:
    evaluation = compile_policy({"rules": rules}).evaluate({})
    assert not evaluation.matched
    assert all(result.explanation.startswith("not provided") for result in evaluation.results)


@given(RULES)
def test_compiling_the_canonical_form_changes_nothing(rules: list[Any]) -> None:
    once = compile_policy({"rules": rules})
    again = compile_policy(once.normalised)
    assert again.digest == once.digest
    assert again.normalised == once.normalised


@given(RULES, EVIDENCE, st.sampled_from(sorted(CATALOGUE)))
def test_withholding_a_fact_never_turns_a_failure_into_a_match(
    rules: list[Any], evidence: dict[str, Fact], withheld: str
) -> None:
    policy = compile_policy({"rules": rules})
    fewer = {name: fact for name, fact in evidence.items() if name != withheld}
    assert policy.evaluate(evidence).matched or not policy.evaluate(fewer).matched


UNITS = ["a", "b", "c"]
TRUTHS = st.fixed_dictionaries({unit: st.sampled_from([True, False, None]) for unit in UNITS})


def leaf(unit: str) -> dict[str, Any]:
    return {"fact": f"packages.{unit}", "operator": "equals", "value": "1"}


def naive(node: dict[str, Any], truths: dict[str, bool | None]) -> bool | None:
    """Kleene's strong three-valued logic, by the book."""
    if "fact" in node:
        return truths[node["fact"].removeprefix("packages.")]
    if "not" in node:
        inner = naive(node["not"], truths)
        return None if inner is None else not inner
    kind = "all" if "all" in node else "any"
    found = [naive(child, truths) for child in node[kind]]
    decisive = kind == "any"
    if decisive in found:
        return decisive
    return None if None in found else not decisive


@given(nodes(st.sampled_from(UNITS).map(leaf)), TRUTHS)
def test_the_decision_is_three_valued_logic(
    rule: dict[str, Any], truths: dict[str, bool | None]
) -> None:
    versions = {unit: "1" if truth else "2" for unit, truth in truths.items() if truth is not None}
    evaluation = compile_policy({"rules": rule}).evaluate({"packages": Fact(versions)})
    assert evaluation.matched is (naive(rule, truths) is True)
