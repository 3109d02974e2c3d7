"""Ranges of the tree, of any size and at any place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_audit import merkle
from securecloud_audit.manifest import MAX_HASHES
from securecloud_audit.merkle import Node, ProofError, RangeVerifier, Span

from audit.tests import bundles

LEAVES = [bytes([number]) for number in range(130)]
sizes = st.integers(0, len(LEAVES))


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int, int]:
    size = draw(sizes)
    start = draw(st.integers(0, size))
    return start, draw(st.integers(start, size)), size


def hash_of(node: Node) -> bytes:
    low = node.offset << node.level
    return bundles.root(LEAVES[low : low + (1 << node.level)])


def prove(start: int, end: int, size: int) -> tuple[list[bytes], list[bytes]]:
    before, behind = merkle.range_nodes(Span(start, end), size)
    return [hash_of(node) for node in before], [hash_of(node) for node in behind]


def verify(
    span: Span, size: int, leaves: list[bytes], proof: tuple[list[bytes], list[bytes]], root: bytes
) -> None:
    tree = RangeVerifier(span, size, *proof)
    for body in leaves:
        tree.add(merkle.leaf_hash(body))
    tree.finish(root)


@given(ranges())
def test_the_proof_is_what_the_rfc_s_tree_has_outside_of_the_range(
    wanted: tuple[int, int, int],
) -> None:
    start, end, size = wanted
    assert prove(start, end, size) == bundles.outside(LEAVES[:size], start, end)


@given(ranges())
def test_the_events_of_the_range_are_proved(wanted: tuple[int, int, int]) -> None:
    start, end, size = wanted
    proof, root = prove(*wanted), bundles.root(LEAVES[:size])
    verify(Span(start, end), size, LEAVES[start:end], proof, root)


@given(ranges(), st.data())
def test_no_other_events_are(wanted: tuple[int, int, int], data: st.DataObject) -> None:
    start, end, size = wanted
    proof, root = prove(*wanted), bundles.root(LEAVES[:size])
    other = LEAVES[start:end]
    if not other:
        other = [b"extra"]
    elif data.draw(st.booleans()):
        other.pop(data.draw(st.integers(0, len(other) - 1)))
    else:
        other[data.draw(st.integers(0, len(other) - 1))] = b"changed"
    with pytest.raises(ProofError):
        verify(Span(start, end), size, other, proof, root)


@given(ranges(), st.data())
def test_no_other_proof_does(wanted: tuple[int, int, int], data: st.DataObject) -> None:
    start, end, size = wanted
    (left, right), root = prove(*wanted), bundles.root(LEAVES[:size])
    side = data.draw(st.sampled_from([one for one in (left, right) if one] or [left]))
    if side and data.draw(st.booleans()):
        side[data.draw(st.integers(0, len(side) - 1))] = bytes(32)
    else:
        side.append(bytes(32))
    with pytest.raises(ProofError):
        verify(Span(start, end), size, LEAVES[start:end], (left, right), root)


@given(ranges(), ranges())
def test_a_proof_is_of_one_place_only(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    start, end, size = one
    if one == other or start == end:
        return
    with pytest.raises(ProofError):
        verify(
            Span(*other[:2]), other[2], LEAVES[start:end], prove(*one), bundles.root(LEAVES[:size])
        )


@pytest.mark.parametrize("wanted", [(3, 2, 5), (0, 6, 5), (-1, 2, 5)])
def test_a_range_outside_of_the_tree(wanted: tuple[int, int, int]) -> None:
    with pytest.raises(ProofError, match="no range"):
        merkle.range_nodes(Span(*wanted[:2]), wanted[2])


def test_a_proof_in_a_huge_tree_is_short() -> None:
    before, behind = merkle.range_nodes(Span(2**52 - 1, 2**52 + 1), 2**53 - 1)
    assert max(len(before), len(behind)) <= MAX_HASHES
