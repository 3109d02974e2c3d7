"""The append-only log: its order, its proofs, and what verification finds."""

import hashlib

import pytest
from securecloud_audit import merkle
from securecloud_server.domain.errors import Unavailable
from securecloud_server.storage.audit import event_body, event_row
from securecloud_server.storage.database import SqlDatabase
from securecloud_server.storage.schema import AUDIT_EVENTS, AUDIT_HEAD, AUDIT_NODES
from securecloud_server.storage.verification import verify_audit
from sqlalchemy import insert, text, update

from server.tests.storage.conftest import Opener, check_signature
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


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_head",
        "DELETE FROM audit_head; DELETE FROM audit_events",
        "DELETE FROM audit_head; DELETE FROM audit_events; DELETE FROM audit_nodes",
        "UPDATE audit_head SET size = size - 1",
        "UPDATE audit_head SET signature = root",
        "UPDATE audit_head SET at = at - 1",
        "UPDATE audit_head SET root = (SELECT hash FROM audit_nodes WHERE level = 0 AND idx = 0)",
    ],
)
def test_nothing_is_signed_on_top_of_what_somebody_else_wrote(
    connect: Opener, statement: str
) -> None:
    database = connect()
    fill(database, 5)
    fill(database, 1)
    with database.engine.begin() as connection:
        for each in statement.split("; "):
            connection.execute(text(each))
    # Of a log that is gone altogether only who saw it knows, and the agents.
    for known in (
        (database,) if "nodes" in statement and "idx" not in statement else (database, connect())
    ):
        with pytest.raises(Unavailable, match="was changed by somebody else"):
            fill(known, 1)
        with pytest.raises(Unavailable, match="was changed by somebody else"):
            known.check()


def test_a_leaf_that_somebody_else_appended_is_never_signed(database: SqlDatabase) -> None:
    """All of it fits together, but for the signature, which only the server can make."""
    fill(database, 5)
    with database.read() as tx:
        bodies = [entry.body for entry in tx.audit.page(None, 9, {})]
    forged = event_body(5, 1, event(5, action="audit.archived", details={"end": 5}))
    frontier: merkle.Frontier = ()
    for number, body in enumerate([*bodies, forged]):
        frontier, fresh = merkle.append(frontier, number, merkle.leaf_hash(body))
    row = event_row(5, 1, forged, event(5, action="audit.archived"))
    with database.engine.begin() as connection:
        connection.execute(insert(AUDIT_EVENTS), row)
        for node, value in fresh:
            connection.execute(
                insert(AUDIT_NODES), {"level": node.level, "idx": node.offset, "hash": value}
            )
        head = {"size": 6, "root": merkle.root(frontier), "frontier": b"".join(frontier)}
        connection.execute(update(AUDIT_HEAD).values(**head))
    with pytest.raises(Unavailable, match="its head was not signed by this server"):
        fill(database, 1)


def test_a_head_of_before_the_restart_is_gone_on_from(connect: Opener) -> None:
    fill(connect(), 5)
    database = connect()
    fill(database, 2)
    assert verify_audit(database, check_signature).verified


@pytest.mark.parametrize("first", [0, 3, 8])
def test_two_events_that_changed_places_are_found(database: SqlDatabase, first: int) -> None:
    """Each row is whole, and says the number of its new place."""
    fill(database, 10)
    with database.engine.begin() as connection:
        for old, new in ((first, 99), (first + 1, first), (99, first + 1)):
            connection.execute(
                text("UPDATE audit_events SET seq = :new WHERE seq = :old"),
                {"old": old, "new": new},
            )
    assert not verify_audit(database, check_signature).verified


def test_events_with_their_numbers_that_changed_places_are_found(database: SqlDatabase) -> None:
    """By one who knows the format: bodies, numbers and columns fit, only the tree does not."""
    fill(database, 10)
    with database.engine.begin() as connection:
        for seq, number in ((3, 4), (4, 3)):
            moved = event(number)
            row = event_row(seq, 1, event_body(seq, 1, moved), moved)
            connection.execute(update(AUDIT_EVENTS).where(AUDIT_EVENTS.c.seq == seq).values(row))
    report = verify_audit(database, check_signature)
    assert not report.verified
    assert "the tree differs" in str(report.problem)


def test_a_cut_off_end_is_found(database: SqlDatabase) -> None:
    fill(database, 10)
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_events WHERE seq >= 8"))
        connection.execute(text("DELETE FROM audit_nodes WHERE level = 0 AND idx >= 8"))
        connection.execute(text("DELETE FROM audit_nodes WHERE level = 1 AND idx >= 4"))
    report = verify_audit(database, check_signature)
    assert not report.verified
    assert "the head signs 10 events, there are 8" in str(report.problem)


def test_a_log_signed_by_another_key_is_found(database: SqlDatabase) -> None:
    fill(database, 3)

    def refuse(*_: object) -> None:
        raise ValueError("another key")

    report = verify_audit(database, refuse)
    assert not report.verified
    assert "another key" in (report.problem or "")
