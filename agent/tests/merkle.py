"""The Merkle tree of RFC 9162, section 2.1, as the RFC defines it: recursively and slowly."""

import hashlib


def _split(size: int) -> int:
    half = 1
    while half * 2 < size:
        half *= 2
    return half


def root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = _split(len(leaves))
    return hashlib.sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()


def consistency(size: int, leaves: list[bytes]) -> list[bytes]:
    if size in (0, len(leaves)):
        return []
    return _subproof(size, leaves, True)


def _subproof(size: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    if size == len(leaves):
        return [] if whole else [root(leaves)]
    k = _split(len(leaves))
    if size <= k:
        return [*_subproof(size, leaves[:k], whole), root(leaves[k:])]
    return [*_subproof(size - k, leaves[k:], False), root(leaves[:k])]
