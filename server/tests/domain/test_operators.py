"""Each operator: a value that holds, one that does not, and values of the wrong type."""

from typing import Any

import pytest
from securecloud_server.domain.policy import (
    Fact,
    PolicyError,
    Provenance,
    RuleResult,
    compile_policy,
)

SERVICES = [
    {"protocol": "tcp", "address": "::", "port": 22, "process": "sshd"},
    {"protocol": "udp", "address": "127.0.0.1", "port": 53, "process": None},
]
NIGHT = {"from": "22:00", "to": "06:00", "timezone": "Europe/Berlin", "weekdays": ["friday"]}
OFFICE = {"from": "09:00", "to": "17:30"}


def result(path: str, operator: str, value: Any, found: Any) -> RuleResult:
    rule = {"fact": path, "operator": operator, "value": value}
    fact, _, key = path.partition(".")
    whole = {key.strip('"'): found} if key else found
    evidence = {fact: Fact(whole, Provenance.OBSERVED)}
    return compile_policy({"rules": [rule]}).evaluate(evidence).results[0]


HOLDS = [
    ("host_name", "equals", "web1", "web1"),
    ("host_name", "not_equals", "web1", "web2"),
    ("host_name", "one_of", ["web1", "web2"], "web2"),
    ("host_name", "none_of", ["web1", "web2"], "db1"),
    ("host_name", "matches", "web[0-9]", "web1"),
    ("host_name", "starts_with", "web", "web1"),
    ("patch_level.days_since_update", "equals", 3, 3),
    ("patch_level.days_since_update", "not_equals", 3, 4),
    ("patch_level.days_since_update", "at_least", 3, 3),
    ("patch_level.days_since_update", "at_most", 3, 3),
    ("request.clock_skew_seconds", "between", [-5, 5], -5),
    ("secure_boot.enabled", "is", True, True),
    ("secure_boot.enabled", "is", False, False),
    ("packages.openssl", "equals", "3.0", "3.00"),
    ("packages.openssl", "at_least", "3.0.2", "3.0.11-1~deb12u2"),
    ("kernel.release", "at_least", "6.1.0-18", "6.1.0-18-amd64"),
    ("packages.openssl", "at_most", "3.0.2", "3.0.2~rc1"),
    ("os.version_id", "one_of", ["11", "12"], "12"),
    ("request.source_ip", "in_networks", ["10.0.0.0/8"], "10.255.0.1"),
    ("request.source_ip", "in_networks", ["10.0.0.7"], "10.0.0.7"),
    ("request.source_ip", "in_networks", ["10.0.0.0/8"], "::ffff:10.1.2.3"),
    ("request.source_ip", "in_networks", ["::ffff:10.0.0.0/104"], "10.1.2.3"),
    ("request.source_ip", "in_networks", ["fe80::/10"], "fe80::1%eth0"),
    ("request.source_ip", "in_networks", ["192.0.2.0/24", "2001:db8::/32"], "2001:db8::1"),
    ("request.source_ip", "not_in_networks", ["10.0.0.0/8"], "192.0.2.1"),
    ("request.time", "in_window", OFFICE, "2026-01-31T09:00:00Z"),
    ("request.time", "in_window", OFFICE, "2026-01-31T17:29:59Z"),
    ("request.time", "in_window", OFFICE, "2026-01-31T19:00:00+02:00"),
    ("request.time", "in_window", {"from": "18:00", "to": "24:00"}, "2026-01-31T23:59:00Z"),
    ("users", "includes_all", ["root"], ["root", "bob"]),
    ("users", "includes_any", ["bob", "eve"], ["root", "bob"]),
    ("users", "excludes", ["eve"], ["root"]),
    ("users", "only", ["root", "bob"], ["root"]),
    ("users", "only", [], []),
    ("network_services", "ports_only", ["tcp/22", "udp/53"], SERVICES),
    ("network_services", "ports_only", [], []),
    ("network_services", "ports_exclude", ["tcp/23", "tcp/53"], SERVICES),
    ("packages", "has_keys", ["auditd"], {"auditd": "3.0"}),
    ('file_digests."/etc/passwd"', "equals", "sha256:aa", "sha256:aa"),
    ("tpm_pcrs.7", "one_of", ["sha256:aa", "sha256:bb"], "sha256:bb"),
    ("device.access", "equals", "read-only", "read-only"),
    ("mandatory_access_control.selinux", "one_of", ["enforcing"], "enforcing"),
    ("request.weekday", "none_of", ["sunday"], "monday"),
]

FAILS = [
    ("host_name", "equals", "web1", "WEB1"),
    ("host_name", "not_equals", "web1", "web1"),
    ("host_name", "one_of", ["web1", "web2"], "web"),
    ("host_name", "none_of", ["web1", "web2"], "web1"),
    ("host_name", "matches", "web[0-9]", "web12"),
    ("host_name", "starts_with", "web", "xweb"),
    ("patch_level.days_since_update", "equals", 3, 4),
    ("patch_level.days_since_update", "not_equals", 3, 3),
    ("patch_level.days_since_update", "at_least", 3, 2),
    ("patch_level.days_since_update", "at_most", 3, 4),
    ("request.clock_skew_seconds", "between", [-5, 5], 6),
    ("secure_boot.enabled", "is", True, False),
    ("packages.openssl", "equals", "3.0", "3.0.1"),
    ("packages.openssl", "at_least", "3.0.2", "3.0.2~rc1"),
    ("kernel.release", "at_least", "6.1.0-18", "6.1.0-9-amd64"),
    ("packages.openssl", "at_most", "3.0.2", "1:1.0"),
    ("os.version_id", "one_of", ["11", "12"], "13"),
    ("request.source_ip", "in_networks", ["10.0.0.0/8"], "11.0.0.0"),
    ("request.source_ip", "in_networks", ["::/0"], "10.1.2.3"),
    ("request.source_ip", "not_in_networks", ["10.0.0.0/8"], "::ffff:10.1.2.3"),
    ("request.time", "in_window", OFFICE, "2026-01-31T17:30:00Z"),
    ("request.time", "in_window", OFFICE, "2026-01-31T08:59:59Z"),
    ("users", "includes_all", ["root", "bob"], ["root"]),
    ("users", "includes_any", ["bob"], []),
    ("users", "excludes", ["eve"], ["root", "eve"]),
    ("users", "only", ["root"], ["root", "eve"]),
    ("network_services", "ports_only", ["tcp/22"], SERVICES),
    ("network_services", "ports_exclude", ["udp/53"], SERVICES),
    ("packages", "has_keys", ["auditd", "sudo"], {"auditd": "3.0"}),
    ("device.access", "equals", "read-only", "read-write"),
]

WRONG_TYPE = [
    ("host_name", "not_equals", "web1", 5),
    ("host_name", "none_of", ["web1"], ["web2"]),
    ("host_name", "matches", ".*", "\ud800"),
    ("patch_level.days_since_update", "not_equals", 1, True),
    ("patch_level.days_since_update", "at_most", 3, 2.0),
    ("patch_level.days_since_update", "at_least", 3, 2**63),
    ("secure_boot.enabled", "is", False, 0),
    ("packages.openssl", "at_most", "3.0", "no version"),
    ("packages.openssl", "at_most", "3.0", 2),
    ("os.version_id", "one_of", ["12"], ""),
    ("request.source_ip", "not_in_networks", ["10.0.0.0/8"], "10.0.0.256"),
    ("request.source_ip", "not_in_networks", ["10.0.0.0/8"], 167772161),
    ("request.time", "in_window", OFFICE, "2026-01-31T10:00:00"),
    ("request.time", "in_window", OFFICE, "yesterday"),
    ("request.time", "in_window", NIGHT, "0001-01-01T00:00:00+14:00"),
    ("users", "excludes", ["eve"], ["root", 5]),
    ("users", "excludes", ["eve"], "root"),
    ("users", "only", ["eve"], {}),
    ("network_services", "ports_exclude", ["tcp/23"], [{"protocol": "tcp", "port": "23"}]),
    ("network_services", "ports_exclude", ["tcp/23"], [{"protocol": ["tcp"], "port": 23}]),
    ("network_services", "ports_exclude", ["tcp/23"], ["tcp/23"]),
    ("network_services", "ports_exclude", ["tcp/23"], "tcp/23"),
    ("packages", "has_keys", ["auditd"], ["auditd"]),
    ("device.access", "not_equals", "read-only", "anything"),
    ("mandatory_access_control.selinux", "not_equals", "disabled", "off"),
]


@pytest.mark.parametrize(("path", "operator", "value", "found"), HOLDS)
def test_a_value_that_fits_passes(path: str, operator: str, value: Any, found: Any) -> None:
    rule = result(path, operator, value, found)
    assert rule.passed
    assert rule.explanation == ""


@pytest.mark.parametrize(("path", "operator", "value", "found"), FAILS)
def test_a_value_that_does_not_fit_fails_with_a_reason(
    path: str, operator: str, value: Any, found: Any
) -> None:
    rule = result(path, operator, value, found)
    assert not rule.passed
    assert rule.explanation
    assert not rule.explanation.startswith("not provided")


@pytest.mark.parametrize(("path", "operator", "value", "found"), WRONG_TYPE)
def test_a_value_of_the_wrong_type_is_not_provided(
    path: str, operator: str, value: Any, found: Any
) -> None:
    rule = result(path, operator, value, found)
    assert not rule.passed
    assert rule.explanation.startswith("not provided: ")


BAD_VALUES = [
    ("host_name", "equals", 5, "value"),
    ("host_name", "equals", "", "value"),
    ("host_name", "one_of", [], "value"),
    ("host_name", "one_of", "web1", "value"),
    ("host_name", "one_of", ["web1", 2], "value[1]"),
    ("host_name", "matches", "(a+)+", "value"),
    ("host_name", "matches", r"(a)\1", "value"),
    ("device.access", "equals", "readonly", "value"),
    ("request.weekday", "one_of", ["Monday"], "value[0]"),
    ("patch_level.days_since_update", "at_most", "3", "value"),
    ("patch_level.days_since_update", "at_most", True, "value"),
    ("patch_level.days_since_update", "at_most", 3.5, "value"),
    ("patch_level.days_since_update", "at_most", 2**63, "value"),
    ("patch_level.days_since_update", "between", [5, 1], "value"),
    ("patch_level.days_since_update", "between", [5], "value"),
    ("patch_level.days_since_update", "between", [1, "5"], "value[1]"),
    ("patch_level.days_since_update", "between", 5, "value"),
    ("secure_boot.enabled", "is", "yes", "value"),
    ("packages.openssl", "at_least", 3.0, "value"),
    ("packages.openssl", "at_least", "three point zero", "value"),
    ("os.version_id", "one_of", ["12", 13], "value[1]"),
    ("request.source_ip", "in_networks", "10.0.0.0/8", "value"),
    ("request.source_ip", "in_networks", ["10.0.0.1/8"], "value[0]"),
    ("request.source_ip", "in_networks", ["10.0.0.0/33"], "value[0]"),
    ("request.source_ip", "in_networks", [10], "value[0]"),
    ("request.time", "in_window", "22:00-06:00", "value"),
    ("request.time", "in_window", {"from": "22:00"}, "value.to"),
    ("request.time", "in_window", {"from": 1320, "to": "06:00"}, "value.from"),
    ("request.time", "in_window", {"from": "22:60", "to": "06:00"}, "value.from"),
    ("request.time", "in_window", {"from": "24:00", "to": "06:00"}, "value.from"),
    ("request.time", "in_window", {"from": "06:00", "to": "06:00"}, "value"),
    ("request.time", "in_window", OFFICE | {"timezone": "Mars/Base"}, "value.timezone"),
    ("request.time", "in_window", OFFICE | {"timezone": "../etc/passwd"}, "value.timezone"),
    ("request.time", "in_window", OFFICE | {"timezone": "Europe"}, "value.timezone"),
    ("request.time", "in_window", OFFICE | {"weekdays": []}, "value.weekdays"),
    ("request.time", "in_window", OFFICE | {"weekdays": ["mon"]}, "value.weekdays[0]"),
    ("request.time", "in_window", OFFICE | {"days": ["monday"]}, "value.days"),
    ("users", "excludes", [], "value"),
    ("users", "excludes", [True], "value[0]"),
    ("network_services", "ports_only", ["443"], "value[0]"),
    ("network_services", "ports_only", ["tcp/0"], "value[0]"),
    ("network_services", "ports_only", ["tcp/65536"], "value[0]"),
    ("network_services", "ports_exclude", [], "value"),
    ("packages", "has_keys", ["--all"], "value[0]"),
    ("file_digests", "has_keys", ["etc"], "value[0]"),
]


@pytest.mark.parametrize(("path", "operator", "value", "place"), BAD_VALUES)
def test_a_bad_value_is_refused_at_its_place(
    path: str, operator: str, value: Any, place: str
) -> None:
    with pytest.raises(PolicyError) as error:
        result(path, operator, value, None)
    assert [e.field for e in error.value.errors] == [f"rules[0].{place}"]
    assert error.value.errors[0].expected


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-01-30T20:59:00Z", False),  # Friday 21:59 in Berlin
        ("2026-01-30T21:00:00Z", True),
        ("2026-01-31T04:59:00Z", True),  # Saturday 05:59: the window began on Friday
        ("2026-01-31T05:00:00Z", False),
        ("2026-01-31T21:00:00Z", False),  # Saturday 22:00
        ("2026-01-30T03:00:00Z", False),  # Friday 04:00: that window began on Thursday
        ("2026-07-31T20:00:00Z", True),  # Friday 22:00 in summer time
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_began(
    moment: str, inside: bool
) -> None:
    assert result("request.time", "in_window", NIGHT, moment).passed is inside


def test_a_refused_network_with_host_bits_names_the_right_one() -> None:
    with pytest.raises(PolicyError) as error:
        result("request.source_ip", "in_networks", ["10.1.2.3/8"], None)
    assert "10.0.0.0/8" in error.value.errors[0].expected


@pytest.mark.parametrize(
    ("path", "operator", "value", "found", "explanation"),
    [
        ("host_name", "equals", "web1", "db1", "is 'db1'"),
        ("users", "includes_all", ["root", "bob"], ["root"], "missing: bob"),
        ("users", "excludes", ["eve"], ["eve"], "found: eve"),
        ("users", "only", ["root"], ["root", "eve"], "not allowed: eve"),
        ("network_services", "ports_only", ["tcp/22"], SERVICES, "not allowed: udp/53"),
        ("packages", "has_keys", ["sudo"], {}, "missing: sudo"),
    ],
)
def test_the_explanation_names_what_is_wrong(
    path: str, operator: str, value: Any, found: Any, explanation: str
) -> None:
    assert result(path, operator, value, found).explanation == explanation
