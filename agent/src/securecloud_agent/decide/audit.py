"""Is the server's audit log still the one this agent saw before? (RFC 9162, section 2.1.4.2)."""

import hashlib
from collections.abc import Sequence

from securecloud_agent.errors import AgentError


class AuditError(AgentError):
    """The audit log shrank or was rewritten; nothing that came with this answer may be used."""

    code = "audit"


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def check_head(
    seen_size: int, seen_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise AuditError unless the tree of `seen_size` is a prefix of the tree of `size`."""
    if size < seen_size:
        raise AuditError(
            f"the server's audit log shrank from {seen_size} to {size} records; records are gone,"
            " or an old backup was restored. The key was not used; tell your security people"
        )
    if seen_size == 0:
        return
    if size == seen_size:
        consistent = root == seen_root and not proof
    else:
        consistent = _extends(seen_size, seen_root, size, root, proof)
    if not consistent:
        raise AuditError(
            f"the server's audit log of {size} records does not continue the {seen_size} records"
            " seen before: it was rewritten. The key was not used; tell your security people"
        )


def _extends(
    seen_size: int, seen_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Follow the proof from the old root to both roots, as the RFC's numbered steps do."""
    if not proof:
        return False
    path = list(proof)
    if seen_size & (seen_size - 1) == 0:
        path.insert(0, seen_root)
    first, last = seen_size - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old = new = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old, new = _node(step, old), _node(step, new)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            new = _node(new, step)
        first, last = first >> 1, last >> 1
    return last == 0 and old == seen_root and new == root
