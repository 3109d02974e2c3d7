"""Regular expressions: what is accepted, what is refused and why."""

import pytest
from securecloud_server.domain.patterns import PATTERN_LIMIT, PatternError, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("web[0-9]+", "web12", True),
        ("web[0-9]+", "web12.example", False),
        ("web[0-9]+", "xweb1", False),
        ("web|db", "dbx", False),
        ("(?i)WEB", "web", True),
        ("a.c", "a\nc", False),
        ("ü+", "üü", True),
    ],
)
def test_a_pattern_is_anchored_to_the_whole_value(pattern: str, value: str, expected: bool) -> None:
    assert compile_pattern(pattern)(value) is expected


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a)\1", "invalid escape"),
        ("(?=a)b", "invalid perl operator"),
        ("(?<!a)b", "invalid perl operator"),
        ("(a", "missing )"),
        ("a{1001}", "repetition size"),
        (r"\pL{900}", "too large"),
        ("", "characters"),
        ("a" * (PATTERN_LIMIT + 1), "characters"),
    ],
)
def test_what_re2_cannot_do_is_refused_with_its_reason(pattern: str, reason: str) -> None:
    with pytest.raises(PatternError) as error:
        compile_pattern(pattern)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+",
        "(a*)*",
        "(?:a+|b)*",
        "(?P<x>a{2,})+",
        "((a+)b)*",
        "((a+))+",
        "(a+){3,}",
        "(a+?)+?",
        "x(y(z*)w)+",
        "((a+)?)+",
    ],
)
def test_nested_unbounded_repetition_is_refused_with_an_explanation(pattern: str) -> None:
    with pytest.raises(PatternError, match="unbounded repetition inside another"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)",
        "(a+)b+",
        "(ab)+c*",
        "(a+){1,3}",
        "(a?)+",
        r"(\(a+\)){2}",
        "([+*])+",
        r"(\+)+",
        "([]+])+",
        "([^]+])+",
        "([[:alpha:]+])+",
        r"(\Q+*(\E)+",
        "(a{2,3})+",
    ],
)
def test_other_repetition_is_allowed(pattern: str) -> None:
    assert compile_pattern(pattern)("no match for this") in (True, False)
