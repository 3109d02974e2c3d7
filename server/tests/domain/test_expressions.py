"""JMESPath rules: what is refused, what they ask for, how they run."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_server.domain.expressions import ExpressionError, compile_expression
from securecloud_server.domain.policy import Fact, PolicyError, compile_policy

LOCATION = {"provider": "plain", "region": "eu", "zone": None, "datacenter": None}
SERVICES = [{"protocol": "tcp", "address": "::", "port": 22, "process": "sshd"}]


def holds(expression: str, **values: Any) -> bool:
    evidence = {name: Fact(value) for name, value in values.items()}
    return compile_policy({"rules": [{"jmespath": expression}]}).evaluate(evidence).matched


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("length(users) < `5`", {"users": ["root"]}),
        ("!contains(users, 'bob')", {"users": ["root"]}),
        ("contains(keys(packages), 'sudo')", {"packages": {"sudo": "1"}}),
        ("packages.telnet == `null`", {"packages": {}}),
        ("location.region == 'eu'", {"location": LOCATION}),
        ("location | region == 'eu'", {"location": LOCATION}),
        ("@.location.region == 'eu'", {"location": LOCATION}),
        ("not_null(location.zone, 'none') == 'none'", {"location": LOCATION}),
        ("length(network_services[?port == `22`]) == `1`", {"network_services": SERVICES}),
        ('file_digests."/etc/a" != file_digests."/etc/b"', {"file_digests": {
            "/etc/a": "x", "/etc/b": "y"}}),
        ("os.id == 'debian' && starts_with(host_name, 'web')",
         {"os": {"id": "debian"}, "host_name": "web1"}),
    ],
)  # fmt: skip
def test_an_expression_that_gives_true_passes(expression: str, values: dict[str, Any]) -> None:
    assert holds(expression, **values)


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("length(users) < `5`", {"users": ["a"] * 5}),
        ("length(users)", {"users": ["root"]}),
        ("users", {"users": ["root"]}),
        ("users[0]", {"users": ["root"]}),
        ("users[9] || `null`", {"users": ["root"]}),
        ("!contains(users, 'bob')", {}),
        ("!contains(users, 'bob')", {"users": "alice"}),
        ("!contains(users, 'bob')", {"users": [["bob"]]}),
        ("!contains(users, 'bob')", {"users": None}),
        ("location.zone != 'z'", {"location": LOCATION}),
        ("location | zone != 'z'", {"location": LOCATION}),
        ("[location][0].zone != 'z'", {"location": LOCATION}),
        ("location.region != 'z'", {"location": {}}),
        ("location.region != 'z'", {"location": {"region": 5}}),
        ("packages.sudo != '1'", {"packages": {}}),
        ("packages.sudo != '1'", {"packages": {"sudo": 1}}),
        ("patch_level.days_since_update != `5`", {"patch_level": {"days_since_update": True}}),
        ("length(network_services[?port == `23`]) == `0`",
         {"network_services": [{"protocol": "tcp", "address": "::", "port": "23"}]}),
        ("mandatory_access_control.selinux != 'disabled'",
         {"mandatory_access_control": {"selinux": "off"}}),
        ("os.id == 'debian' || length(users) > `0`", {"os": {"id": "debian"}}),
        ("host_name < `5`", {"host_name": "web1"}),
        ("abs(host_name) == `5`", {"host_name": "web1"}),
        ("users[::0] == users", {"users": ["root"]}),
    ],
)  # fmt: skip
def test_anything_but_true_fails_also_under_a_negation(
    expression: str, values: dict[str, Any]
) -> None:
    assert not holds(expression, **values)
    evidence = {name: Fact(value) for name, value in values.items()}
    negated = compile_policy({"rules": [{"not": {"jmespath": expression}}]})
    gives_false = expression == "length(users) < `5`"
    assert negated.evaluate(evidence).matched is gives_false


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "bad JMESPath"),
        ("users ==", "bad JMESPath: Incomplete expression"),
        ("a..b", "bad JMESPath"),
        ("user == 'bob'", "unknown fact 'user'; did you mean 'users'?"),
        ('host_name == "bob"', "unknown fact 'bob'; a text is written in single quotes"),
        ("secure_boot.enabled == true", "the value is written `true` in backticks"),
        ("host_name == `bob`", "`bob` is not JSON; a text is written in single quotes"),
        ("os.verion_id == '1'", "fact 'os' has no field 'verion_id'; did you mean 'version_id'?"),
        ("host_name.x == 'a'", "fact 'host_name' has no fields"),
        ("os.id.x == 'a'", "os.id has no field 'x'"),
        ("location | zon == 'a'", "fact 'location' has no field 'zon'; did you mean 'zone'?"),
        ("lenght(users) == `1`", "unknown function 'lenght'; did you mean 'length'?"),
        ("length(users, users) == `1`", "function length takes 1 arguments, got 2"),
        ("not_null() == `1`", "function not_null takes at least 1 arguments, got 0"),
        ("length(@) == `1`", "the whole evidence; name the facts"),
        ("@", "the whole evidence; name the facts"),
        ("*", "the whole evidence; name the facts"),
        ("length(*.x) == `0`", "the whole evidence; name the facts"),
        ("`true`", "looks at no fact"),
        ("length(file_digests) == `1`", 'name the file: file_digests."/path/of/the/file"'),
        ("file_digests.\"x\" == '1'", "not a clean absolute path"),
        ("users[0] == 'a' && " * 60 + "`true`", "at most 1024 characters"),
        ("!" * 60 + "secure_boot.enabled", "nests more than 32 levels"),
        ("(" * 500 + "users" + ")" * 500, "nests too deeply"),
        ("users" + " | [@, @][]" * 10 + " == users", "multiply the evidence"),
        ("to_string([to_string([to_string(users)])]) == 'x'", "multiply the evidence"),
        ("join(to_string(users), users) == 'x'", "first argument of join"),
        ("join() == 'x'", "first argument of join"),
    ],
)
def test_an_expression_is_refused_with_a_reason(expression: str, reason: str) -> None:
    with pytest.raises(ExpressionError) as error:
        compile_expression(expression)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_long_chain_of_comparisons_is_allowed() -> None:
    compile_expression(" || ".join(f"host_name == 'web{n}'" for n in range(30)))


@given(st.text(alphabet="users.ho_nmet[]*?@|&!(){}`'\"<=>,: 0123-\\", max_size=40))
def test_any_text_is_compiled_or_refused(text: str) -> None:
    try:
        compile_policy({"rules": [{"jmespath": text}]})
    except PolicyError as error:
        assert [e.field for e in error.errors] == ["rules[0].jmespath"]


def test_the_result_shows_what_the_expression_looked_at() -> None:
    policy = compile_policy({"rules": [{"jmespath": "os.id == 'x' && length(users) < `5`"}]})
    (result,) = policy.evaluate({"users": Fact(["root"]), "os": Fact({"id": "y"})}).results
    assert result.value == {"os.id": "y", "users": ["root"]}
    assert result.explanation == "the expression gives false"
    assert result.provenance == "claimed"
