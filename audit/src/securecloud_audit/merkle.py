"""The Merkle tree of the audit log (RFC 9162, section 2.1), as pure functions over SHA-256.

A tree of `n` leaves is kept as its *frontier*: the roots of its complete subtrees, largest first,
one for each 1 in the binary form of `n`. Complete subtrees never change; a store that keeps them
as nodes `(level, offset)` - level 0 are the leaves - can prove anything with O(log n) of them.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Frontier = tuple[bytes, ...]
HASH_BYTES = 32


class Node(NamedTuple):
    """A complete subtree: the leaves `offset << level` to `(offset + 1) << level`, exclusive."""

    level: int
    offset: int


class Span(NamedTuple):
    """The leaves from `start` to `end`, exclusive."""

    start: int
    end: int


NodeHash = Callable[[Node], bytes]


class ProofError(Exception):
    """A proof does not prove what it was given for."""


def leaf_hash(body: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an interior node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(frontier: Frontier) -> bytes:
    """Return the root of the tree with this frontier; that of no leaves is SHA-256 of nothing."""
    if not frontier:
        return hashlib.sha256(b"").digest()
    return _fold(frontier)


def append(frontier: Frontier, size: int, leaf: bytes) -> tuple[Frontier, list[tuple[Node, bytes]]]:
    """Append the leaf with hash `leaf` to a tree of `size` leaves.

    Returns the new frontier and the complete subtrees that came into being, the leaf first.
    """
    kept = list(frontier)
    node, value = Node(0, size), leaf
    fresh = [(node, value)]
    while node.offset & 1:
        value = node_hash(kept.pop(), value)
        node = Node(node.level + 1, node.offset >> 1)
        fresh.append((node, value))
    return (*kept, value), fresh


def graft(frontier: Frontier, node: Node, value: bytes) -> Frontier:
    """Append the complete subtree `node` to the tree that ends where it starts."""
    kept = list(frontier)
    offset = node.offset
    while offset & 1:
        value = node_hash(kept.pop(), value)
        offset >>= 1
    return (*kept, value)


def cover(span: Span) -> list[Node]:
    """Return the complete subtrees that make up `span`, left to right, as few as there can be."""
    nodes = []
    start = span.start
    while start < span.end:
        level = (span.end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return nodes


def span_hash(span: Span, hash_of: NodeHash) -> bytes:
    """Return the hash of the subtree over `span`."""
    return _fold([hash_of(node) for node in cover(span)])


def consistency_spans(old: int, new: int) -> list[Span]:
    """Return the spans whose hashes prove that a tree of `old` leaves is a prefix of one of `new`.

    RFC 9162, section 2.1.4.1. Nothing needs proving when `old` is 0 or `new`.
    """
    if not 0 <= old <= new:
        raise ValueError(f"{old} is not a size that a tree of {new} leaves has had")
    if old in {0, new}:
        return []
    spans: list[Span] = []
    low, high, known = 0, new, True
    while old != high:
        split = low + _largest_power_below(high - low)
        if old <= split:
            spans.append(Span(split, high))
            high = split
        else:
            spans.append(Span(low, split))
            low, known = split, False
    if not known:
        spans.append(Span(low, high))
    return spans[::-1]


def inclusion_spans(index: int, size: int) -> list[Span]:
    """Return the spans whose hashes prove that leaf `index` is in a tree of `size` leaves.

    RFC 9162, section 2.1.3.1.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    spans = []
    low, high = 0, size
    while high - low > 1:
        split = low + _largest_power_below(high - low)
        if index < split:
            spans.append(Span(split, high))
            high = split
        else:
            spans.append(Span(low, split))
            low = split
    return spans[::-1]


class RangeVerifier:
    """Shows that leaves, given one by one, are the leaves `span` of the tree of `size`.

    `left` and `right` are the hashes of the complete subtrees before and behind the span
    (`range_nodes`). `finish` raises ProofError unless all of them together have this root. As in
    an inclusion proof, each hash has a place that the three numbers alone determine.
    """

    def __init__(
        self, span: Span, size: int, left: Sequence[bytes], right: Sequence[bytes]
    ) -> None:
        before, behind = range_nodes(span, size)
        if (len(left), len(right)) != (len(before), len(behind)):
            raise ProofError(
                f"the proof has {len(left)} and {len(right)} hashes, "
                f"not {len(before)} before and {len(behind)} behind the events"
            )
        self._span = span
        self._right = list(zip(behind, right, strict=True))
        self._frontier: Frontier = tuple(left)
        self._next = span.start

    def add(self, leaf: bytes) -> None:
        """Take the hash of the next leaf."""
        self._frontier = graft(self._frontier, Node(0, self._next), leaf)
        self._next += 1

    def finish(self, tree_root: bytes) -> None:
        """Raise ProofError unless the leaves were those of the span."""
        if self._next != self._span.end:
            given, wanted = self._next - self._span.start, self._span.end - self._span.start
            raise ProofError(f"{given} events were given for a range of {wanted}")
        frontier = self._frontier
        for node, value in self._right:
            frontier = graft(frontier, node, value)
        if root(frontier) != tree_root:
            raise ProofError("events and proof do not give the root of the tree that was signed")


def range_nodes(span: Span, size: int) -> tuple[list[Node], list[Node]]:
    """Return the complete subtrees before and behind `span` in a tree of `size` leaves."""
    if not 0 <= span.start <= span.end <= size:
        raise ProofError(f"a tree of {size} leaves has no range {span.start} to {span.end}")
    return cover(Span(0, span.start)), cover(Span(span.end, size))


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise ProofError unless `proof` shows that the old tree is a prefix of the new one.

    RFC 9162, section 2.1.4.2; an empty tree is a prefix of every tree.
    """
    if old > new or (old in {0, new} and proof):
        raise ProofError(f"no proof of {len(proof)} hashes leads from {old} to {new} leaves")
    if old == new and old_root != new_root:
        raise ProofError("two trees of the same size differ")
    if old not in {0, new}:
        _verify_prefix(old, new, old_root, new_root, proof)


def _verify_prefix(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise ProofError("the proof is empty")
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = second = path[0]
    for step in path[1:]:
        if last == 0:
            raise ProofError("the proof is too long")
        if position & 1 or position == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            second = node_hash(second, step)
        position, last = position >> 1, last >> 1
    if last or first != old_root or second != new_root:
        raise ProofError(f"the tree of {old} leaves is not a prefix of the tree of {new}")


def verify_inclusion(
    index: int, size: int, leaf: bytes, tree_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise ProofError unless `proof` shows that `leaf` is leaf `index` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    position, last, value = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise ProofError("the proof is too long")
        if position & 1 or position == last:
            value = node_hash(step, value)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            value = node_hash(value, step)
        position, last = position >> 1, last >> 1
    if last or value != tree_root:
        raise ProofError(f"the leaf is not leaf {index} of the tree of {size}")


def needed_nodes(spans: Iterable[Span]) -> list[Node]:
    """Return every complete subtree that the hashes of `spans` are made of."""
    return [node for span in spans for node in cover(span)]


def _fold(hashes: Sequence[bytes]) -> bytes:
    value = hashes[-1]
    for left in reversed(hashes[:-1]):
        value = node_hash(left, value)
    return value


def _largest_power_below(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)
