"""The order of versions."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_server.domain.versions import compare_keys, version_key

VERSION_TEXT = st.from_regex(r"([0-9]:)?[0-9a-z][0-9a-z.+~^_-]{0,12}", fullmatch=True)

ASCENDING = [
    "0~1",
    "0",
    "1.0~~",
    "1.0~~a",
    "1.0~",
    "1.0~rc1-1",
    "1.0",
    "1.0-1~bpo1",
    "1.0-1",
    "1.0^git1",
    "1.0a",
    "1.0+b1-1",
    "1.0.1-1",
    "1.2",
    "1.10",
    "6.1.0-9-amd64",
    "6.1.0-18-amd64",
    "6.1.0-18-arm64",
    "10",
    "1:0.1",
]


def compare(left: str, right: str) -> int:
    a, b = version_key(left), version_key(right)
    assert a is not None
    assert b is not None
    return compare_keys(a, b)


@pytest.mark.parametrize(("older", "newer"), list(pairwise(ASCENDING)))
def test_older_sorts_before_newer(older: str, newer: str) -> None:
    assert compare(older, newer) < 0
    assert compare(newer, older) > 0


@pytest.mark.parametrize(
    ("left", "right"),
    [("1.0", "1.00"), ("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.0-0-~5", "1.0-0-~5"), ("1", "01")],
)
def test_spellings_of_one_version_are_equal(left: str, right: str) -> None:
    assert compare(left, right) == 0


def test_a_tilde_component_sorts_before_its_absence_however_deep() -> None:
    assert compare("1.0-0-~5", "1.0") < 0


@pytest.mark.parametrize("text", ["", "-1", " 1", "1 2", "1\n", "a" * 257, "ä1", "~1", "1²"])
def test_other_texts_are_not_versions(text: str) -> None:
    assert version_key(text) is None


@given(VERSION_TEXT, VERSION_TEXT, VERSION_TEXT)
def test_the_order_is_total(a: str, b: str, c: str) -> None:
    first, second, third = sorted([a, b, c], key=_Key)
    assert compare(first, second) <= 0
    assert compare(second, third) <= 0
    assert compare(first, third) <= 0
    assert (compare(a, b) > 0) == (compare(b, a) < 0)


class _Key:
    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: "_Key") -> bool:
        return compare(self.text, other.text) < 0
