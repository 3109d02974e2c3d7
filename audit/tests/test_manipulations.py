"""Whatever is changed in a bundle, verification finds it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from securecloud_audit import schema
from securecloud_audit.reader import Unreadable
from securecloud_audit.verify import MAX_FINDINGS, Pin, Report, verify
from securecloud_protocol.encoding import b64u_encode

from audit.tests.bundles import LOG, Bundle, Change, event, leaf, make, manifest, root, row, server
from audit.tests.conftest import check

COLUMNS = [name for name in schema.EVENT_COLUMNS if name not in {"seq", "leaf"}]


def found(report: Report) -> str:
    assert not report.verified
    return "\n".join(report.findings)


def test_an_untouched_bundle_is_verified(bundle: Bundle) -> None:
    report = check(bundle)
    assert report.findings == ()
    assert report.events == 12
    assert (report.first, report.last) == (row(LOG[9])[1], row(LOG[20])[1])


@pytest.mark.parametrize("column", COLUMNS)
def test_an_edited_column(bundle: Bundle, column: str) -> None:
    bundle.sql(f"UPDATE events SET {column} = 'x' WHERE seq = 12")
    assert found(check(bundle)) == f"event 12: {column} does not follow from its leaf"


def test_an_emptied_column(bundle: Bundle) -> None:
    bundle.sql("UPDATE events SET source = NULL WHERE seq = 12")
    assert "event 12: source does not follow" in found(check(bundle))


def replace_event(bundle: Bundle, seq: int, body: bytes) -> None:
    places = ", ".join("?" * len(schema.EVENT_COLUMNS))
    with closing(sqlite3.connect(bundle.path)) as database:
        database.execute(f"INSERT OR REPLACE INTO events VALUES ({places})", (seq, *row(body)[1:]))
        database.commit()


def test_an_edited_leaf_with_columns_to_match(bundle: Bundle) -> None:
    replace_event(bundle, 12, leaf(event(12, outcome="failed")))
    findings = found(check(bundle))
    assert "their digest differs" in findings
    assert "do not give the root" in findings


def test_an_edited_leaf_alone(bundle: Bundle) -> None:
    bundle.sql("UPDATE events SET leaf = CAST(replace(leaf, 'policy', 'poison') AS BLOB)")
    assert "event 9: reason does not follow from its leaf" in found(check(bundle))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"\xff", "no event: it is not UTF-8 JSON"),
        (b"[" * 100_000, "no event: it is not UTF-8 JSON"),
        (LOG[12] + b" ", "no event: there is something behind it"),
        (b"{}", "no event: it does not have the members of an event"),
        (LOG[12][:-1] + b',"seq":12}', "no event: it is not UTF-8 JSON"),
    ],
)
def test_a_leaf_that_is_none(bundle: Bundle, body: bytes, problem: str) -> None:
    with closing(sqlite3.connect(bundle.path)) as database:
        database.execute("UPDATE events SET leaf = ? WHERE seq = 12", (body,))
        database.commit()
    assert problem in found(check(bundle))


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("DELETE FROM events WHERE seq = 9", "event 9 is missing"),
        ("DELETE FROM events WHERE seq = 14", "event 14 is missing"),
        ("DELETE FROM events WHERE seq = 20", "event 20 is missing"),
        ("DELETE FROM events WHERE seq BETWEEN 12 AND 14", "events 12 to 14 are missing"),
        ("DELETE FROM events", "events 9 to 20 are missing"),
    ],
)
def test_removed_events(bundle: Bundle, statement: str, finding: str) -> None:
    bundle.sql(statement)
    findings = found(check(bundle))
    assert finding in findings
    assert "their digest differs" in findings


def test_reordered_events(bundle: Bundle) -> None:
    replace_event(bundle, 12, LOG[13])
    replace_event(bundle, 13, LOG[12])
    findings = found(check(bundle))
    assert "event 12: seq does not follow from its leaf" in findings
    assert "do not give the root" in findings


@pytest.mark.parametrize("seq", [8, 13, 21])
def test_a_duplicated_event(bundle: Bundle, seq: int) -> None:
    replace_event(bundle, seq, LOG[12])
    assert f"event {seq}: seq does not follow from its leaf" in found(check(bundle))


@pytest.mark.parametrize("seq", [8, 21])
def test_an_inserted_event(bundle: Bundle, seq: int) -> None:
    """Even a true one of the log: the bundle was not signed with it."""
    replace_event(bundle, seq, LOG[seq])
    assert f"event {seq} is not of the range 9 to 20" in found(check(bundle))


def _head_of(responder: Any, log: list[bytes]) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["head"] = manifest(responder, log, 0, 0)["head"]

    return change


def _hash(side: str, place: int) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["range"][side][place] = b64u_encode(bytes(32))

    return change


def _drop(side: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["range"][side].pop()

    return change


def _shift(document: dict[str, Any]) -> None:
    document["range"]["start"] -= 1
    document["range"]["end"] -= 1


def _backdate(document: dict[str, Any]) -> None:
    document["head"]["time"] -= 1


def _rename(document: dict[str, Any]) -> None:
    document["fingerprint"] = server(2).fingerprint


def _later(document: dict[str, Any]) -> None:
    document["made_at"] += 1


def _wider(document: dict[str, Any]) -> None:
    document["until"] = 2**52


MANIFESTS = [
    pytest.param(_head_of(server(2), LOG), "head is not signed by that key", id="foreign head"),
    pytest.param(_head_of(server(), LOG[:30]), "do not give the root|not 2 before", id="old head"),
    pytest.param(_head_of(server(), LOG[:15]), "does not lie in the tree", id="older head"),
    pytest.param(_backdate, "head is not signed by that key", id="head backdated"),
    pytest.param(_hash("left", 0), "do not give the root", id="left hash"),
    pytest.param(_hash("right", 1), "do not give the root", id="right hash"),
    pytest.param(_drop("left"), "the proof has", id="left hash dropped"),
    pytest.param(_drop("right"), "the proof has", id="right hash dropped"),
    pytest.param(_rename, "fingerprint: it is not that of the server", id="fingerprint"),
    pytest.param(_shift, "event 20 is not of the range 8 to 19|the proof has", id="range shifted"),
]


@pytest.mark.parametrize(("change", "finding"), MANIFESTS)
def test_a_manifest_that_does_not_fit_even_if_the_server_signs_it(
    bundle: Bundle, change: Change, finding: str
) -> None:
    bundle.change(change, bundle.responder)
    report = check(bundle)
    assert any(one in found(report) for one in finding.split("|"))
    assert "the bundle is not signed" not in found(report)


@pytest.mark.parametrize(
    "change", [*(case.values[0] for case in MANIFESTS), _later, _wider]
)  # fmt: skip
def test_a_manifest_that_nobody_signed(bundle: Bundle, change: Change) -> None:
    bundle.change(change)
    findings = found(check(bundle))
    assert "the bundle is not signed by the key" in findings or "cannot be read" in findings


def test_the_signature_of_another_key(bundle: Bundle) -> None:
    bundle.change(lambda _: None, server(2))
    assert "the bundle is not signed by the key" in found(check(bundle))


def test_a_signature_of_something_else_by_the_same_key(bundle: Bundle) -> None:
    """The label keeps signatures of heads apart from those of bundles."""
    tree = root(LOG)
    other = bundle.responder.sign_audit_head(len(LOG), tree, 1)
    bundle.sql(f"UPDATE manifest SET signature = x'{other.hex()}'")
    assert "the bundle is not signed by the key" in found(check(bundle))


def test_a_whole_bundle_of_another_server(bundle: Bundle, tmp_path: Path) -> None:
    forged = make(tmp_path / "forged.db", server(2))
    for pin in (
        Pin(fingerprint=bundle.fingerprint),
        Pin(public_key=bundle.responder.identity.signing_key),
    ):
        report = verify(forged.path, pin, lambda *_: None)
        assert found(report) == (
            f"it is of another server, with fingerprint {forged.responder.fingerprint}"
        )


def test_a_bundle_of_nobody_knows_whom_is_not_verified(bundle: Bundle) -> None:
    report = verify(bundle.path, Pin(), lambda *_: None)
    assert "nothing says whose this is" in found(report)
    assert bundle.responder.fingerprint in found(report)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(bundle: Bundle, kept: float) -> None:
    octets = bundle.path.read_bytes()
    bundle.path.write_bytes(octets[: int(len(octets) * kept)])
    assert found(check(bundle))


def test_octets_behind_the_end(bundle: Bundle) -> None:
    bundle.path.write_bytes(bundle.path.read_bytes() + bytes(4096))
    assert "longer or shorter" in found(check(bundle))


def test_an_index_that_hides_an_event(bundle: Bundle) -> None:
    """Who looks for a device by the index must see what is in the table."""
    bundle.sql("DELETE FROM events WHERE seq = 12")
    with closing(sqlite3.connect(bundle.path, isolation_level=None)) as database:
        places = ", ".join("?" * len(schema.EVENT_COLUMNS))
        (text,) = database.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'events_by_device'"
        ).fetchone()
        database.execute("PRAGMA writable_schema = ON")
        database.execute(
            "UPDATE sqlite_master SET sql = sql || ' WHERE seq <> 12' "
            "WHERE name = 'events_by_device'"
        )
        database.execute("PRAGMA writable_schema = RESET")
        database.execute("REINDEX")
        database.execute(f"INSERT INTO events VALUES ({places})", row(LOG[12]))
        database.execute("PRAGMA writable_schema = ON")
        database.execute(
            "UPDATE sqlite_master SET sql = ? WHERE name = 'events_by_device'", (text,)
        )
    assert "table events is damaged" in found(check(bundle))


def test_the_search_index_is_not_part_of_the_proof(bundle: Bundle) -> None:
    """It is derived and can be made anew; docs/audit.md says so."""
    bundle.sql("INSERT INTO events_fts (events_fts) VALUES ('delete-all')")
    assert check(bundle).verified
    search = "SELECT count(*) FROM events_fts WHERE events_fts MATCH 'policy'"
    with closing(sqlite3.connect(bundle.path)) as database:
        assert database.execute(search).fetchone() == (0,)
        database.execute("INSERT INTO events_fts (events_fts) VALUES ('rebuild')")
        assert database.execute(search).fetchone() == (12,)
        database.commit()
    assert check(bundle).verified


def test_many_findings_are_counted_and_not_listed(bundle: Bundle, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.db", bundle.responder, start=0, end=40)
    whole.sql("UPDATE events SET reason = 'x'")
    report = check(whole)
    assert len(report.findings) == MAX_FINDINGS
    assert report.omitted == 40 - MAX_FINDINGS


def _text(path: Path) -> None:
    path.write_text("hello")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _absent(path: Path) -> None:
    path.unlink()


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _other_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE events (seq)")


def _other_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (_text, "no SQLite file"),
        (_empty, "no SQLite file"),
        (_absent, "no such file"),
        (_directory, "no such file"),
        (_other_database, "no evidence bundle"),
        (_other_format, "format 2; this program reads format 1"),
    ],
)
def test_what_is_no_bundle(bundle: Bundle, harm: Callable[[Path], None], problem: str) -> None:
    harm(bundle.path)
    with pytest.raises(Unreadable, match=problem):
        check(bundle)
