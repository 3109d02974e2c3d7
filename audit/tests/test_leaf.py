"""Leaves: strict to read, and every column follows from them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_audit import leaf
from securecloud_audit.schema import EVENT_COLUMNS

from audit.tests import bundles

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
details = st.dictionaries(
    text, st.recursive(st.none() | st.booleans() | st.integers() | text, st.lists, max_leaves=4)
)


@given(text, text, details)
def test_any_event_comes_back(name: str, reason: str, more: dict[str, Any]) -> None:
    actor = {"kind": "cli", "name": name, "role": None, "source": None}
    event = bundles.event(7, actor=actor, reason=reason, details=more)
    assert leaf.decode(leaf.encode(event)) == event
    shown = dict(zip(EVENT_COLUMNS, leaf.columns(leaf.encode(event)), strict=True))
    assert shown["actor"] == f"cli:{name}"
    assert json.loads(shown["details"]) == more


def test_the_columns_are_those_that_the_documentation_derives() -> None:
    for body in bundles.LOG:
        assert leaf.columns(body) == bundles.row(body)
    other = bundles.leaf(bundles.event(1, object="policy:device:x", details={"request_id": 5}))
    device, request, session = leaf.columns(other)[9:12]
    assert (device, request, session) == (None, None, None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"seq": -1}, "its seq is no number"),
        ({"seq": True}, "its seq is no number"),
        ({"seq": 1.0}, "its seq is no number"),
        ({"at": 2**53}, "its at is no number"),
        ({"at": 2**53 - 1}, "its time is behind the year 9999"),
        ({"reason": None}, "its reason is no text"),
        ({"outcome": 1}, "its outcome is no text"),
        ({"actor": {}}, "its actor does not have the members"),
        (
            {"actor": {"kind": "cli", "name": "x", "role": 5, "source": None}},
            "its actor is not made of texts",
        ),
        ({"actor": []}, "its actor does not have the members"),
        ({"details": []}, "its details are no object"),
        ({"details": {"x": float("nan")}}, "not UTF-8 JSON"),
        ({"more": 1}, "does not have the members"),
    ],
)
def test_what_is_no_event(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(leaf.LeafError, match=problem):
        leaf.columns(json.dumps({**bundles.event(1), **change}).encode())


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"1e999999", b"9" * 5000, b'"\xed\xa0\x80"'])
def test_what_is_no_object(body: bytes) -> None:
    with pytest.raises(leaf.LeafError):
        leaf.decode(body)
