import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_agent.decide.audit import AuditError, check_head

from . import merkle

LEAVES = [bytes([number]) for number in range(40)]
sizes = st.integers(0, len(LEAVES))


def proof(old: int, new: int) -> list[bytes]:
    return merkle.consistency(old, LEAVES[:new])


@given(sizes, sizes)
def test_growing_log_is_accepted_and_a_shrinking_one_is_not(old, new):
    old_root, new_root = merkle.root(LEAVES[:old]), merkle.root(LEAVES[:new])
    if new < old:
        with pytest.raises(AuditError, match="shrank"):
            check_head(old, old_root, new, new_root, [])
    else:
        check_head(old, old_root, new, new_root, proof(old, new))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 39), st.data())
def test_changed_record_or_proof_is_refused(old, new, changed, data):
    old, new = min(old, new), max(old, new)
    forged = [b"x" if place == changed else leaf for place, leaf in enumerate(LEAVES)]
    if changed < old:
        with pytest.raises(AuditError, match="rewritten"):
            check_head(
                old,
                merkle.root(LEAVES[:old]),
                new,
                merkle.root(forged[:new]),
                merkle.consistency(old, forged[:new]),
            )
    path = proof(old, new)
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        broken = [bytes(32) if here == place else node for here, node in enumerate(path)]
        for wrong in (broken, path[:-1], [*path, bytes(32)]):
            with pytest.raises(AuditError):
                check_head(old, merkle.root(LEAVES[:old]), new, merkle.root(LEAVES[:new]), wrong)


def test_same_size_needs_the_same_root():
    with pytest.raises(AuditError):
        check_head(3, bytes(32), 3, bytes([1]) * 32, [])
