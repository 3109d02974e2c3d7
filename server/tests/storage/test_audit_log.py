"""The append-only log: its order, its proofs, and what verification finds."""

import hashlib

import pytest
from securecloud_audit import merkle
from securecloud_server.storage.database import SqlDatabase
from securecloud_server.storage.verification import verify_audit
from sqlalchemy import text

from server.tests.storage.conftest import check_signature
from server.tests.storage.records import HOSTILE, event


def fill(database: SqlDatabase, count: int) -> None:
    for number in range(count):
        database.write(lambda tx, n=number: tx.audit.append(event(n)))


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word by word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def test_the_head_is_the_rfc_s_root_over_the_bodies(database: SqlDatabase) -> None:
    for size in range(1, 20):
        database.write(lambda tx, n=size: tx.audit.append(event(n)))
        with database.read() as tx:
            head = tx.audit.head()
            bodies = [entry.body for entry in tx.audit.page(None, 100, {})]
        assert (head.size, head.root) == (size, naive_root(bodies))
        check_signature(head.size, head.root, head.at, head.signature)


def test_any_two_heads_are_proved_consistent(database: SqlDatabase) -> None:
    roots = [naive_root([])]
    for number in range(17):
        database.write(lambda tx, n=number: tx.audit.append(event(n)))
        with database.read() as tx:
            head = tx.audit.head()
            roots.append(head.root)
            for old, old_root in enumerate(roots[1:], start=1):
                proof = tx.audit.consistency(old)
                merkle.verify_consistency(old, head.size, old_root, head.root, proof)
                if old < head.size:
                    with pytest.raises(merkle.ProofError):
                        merkle.verify_consistency(old, head.size, b"\0" * 32, head.root, proof)


def test_pages_and_filters(database: SqlDatabase) -> None:
    fill(database, 5)
    database.write(lambda tx: tx.audit.append(event(9, action="other", outcome="refused")))
    with database.read() as tx:
        assert [entry.seq for entry in tx.audit.page(1, 2, {})] == [2, 3]
        assert [entry.seq for entry in tx.audit.page(None, 9, {"action": "other"})] == [5]
        assert [entry.seq for entry in tx.audit.page(None, 9, {"object": "thing:3"})] == [3]
        at = tx.audit.page(None, 1, {})[0].at
        assert len(tx.audit.page(None, 9, {"since": str(at)})) == 6
        assert len(tx.audit.page(None, 9, {"since": str(at + 10**9)})) == 0
        assert tx.audit.size() == 6


@pytest.mark.parametrize("hostile", HOSTILE)
def test_any_text_survives_and_verifies(database: SqlDatabase, hostile: str) -> None:
    wanted = event(reason=hostile, details={hostile: [hostile]})
    database.write(lambda tx: tx.audit.append(wanted))
    with database.read() as tx:
        assert tx.audit.page(None, 1, {})[0].event == wanted
    assert verify_audit(database, check_signature).verified


def test_an_empty_and_a_long_log_verify(database: SqlDatabase) -> None:
    assert verify_audit(database, check_signature).verified
    database.write(lambda tx: [tx.audit.append(event(n)) for n in range(1200)])
    report = verify_audit(database, check_signature)
    assert (report.verified, report.size, report.events) == (True, 1200, 1200)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET object = 'thing:other' WHERE seq = 3",
        "UPDATE audit_events SET at = at + 1 WHERE seq = 3",
        "DELETE FROM audit_events WHERE seq = 3",
        "DELETE FROM audit_events WHERE seq = 9",
        "UPDATE audit_nodes SET idx = idx + 100 WHERE level = 1 AND idx = 4",
        "DELETE FROM audit_nodes WHERE level = 2",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET size = size - 1",
        "UPDATE audit_head SET at = at - 1",
        "UPDATE audit_head SET root = (SELECT hash FROM audit_nodes WHERE level = 0 AND idx = 0)",
    ],
)
def test_tampering_is_found_wherever_it_is(database: SqlDatabase, statement: str) -> None:
    fill(database, 10)
    with database.engine.begin() as connection:
        assert connection.execute(text(statement)).rowcount == 1 or "level = 2" in statement
    report = verify_audit(database, check_signature)
    assert not report.verified
    assert report.problem


def test_a_log_signed_by_another_key_is_found(database: SqlDatabase) -> None:
    fill(database, 3)

    def refuse(*_: object) -> None:
        raise ValueError("another key")

    report = verify_audit(database, refuse)
    assert not report.verified
    assert "another key" in (report.problem or "")
