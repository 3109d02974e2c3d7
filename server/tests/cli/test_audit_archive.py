"""`audit archive`: old events leave the database for a file that an auditor can verify."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from securecloud_audit.main import main as audit
from securecloud_server import archiving
from securecloud_server.domain.errors import Unavailable

from server.tests.cli.conftest import Installation


@pytest.fixture
def file(installed: Installation) -> Path:
    for name in ("one", "two"):
        installed.run("token", "create", "--name", name, "--role", "auditor")
    return installed.root / "archive.db"


def archive(installed: Installation, file: Path, *flags: str) -> dict[str, object]:
    return installed.json("audit", "archive", "--before", "0s", "--to", str(file), *flags)


def verified(installed: Installation, file: Path) -> bool:
    fingerprint = installed.json("audit", "public-key")["fingerprint"]
    return audit(["verify", str(file), "--fingerprint", fingerprint]) == 0


def events(installed: Installation) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(installed.database)) as database:
        return database.execute("SELECT seq, action FROM audit_events ORDER BY seq").fetchall()


def test_what_left_the_database_is_in_the_file(installed: Installation, file: Path) -> None:
    before = events(installed)
    foreseen = archive(installed, file, "--check")
    assert (foreseen["changed"], file.exists(), events(installed)) == (True, False, before)
    done = archive(installed, file)
    assert done["range"] == foreseen["range"] == {"start": 0, "end": len(before)}
    assert done["removed"] == len(before)
    assert events(installed) == [(len(before), "audit.archived")]
    assert file.stat().st_mode & 0o777 == 0o600
    assert verified(installed, file)
    with closing(sqlite3.connect(file)) as bundle:
        kept = bundle.execute("SELECT seq, action FROM events ORDER BY seq").fetchall()
    assert kept == before
    report = installed.json("audit", "verify")
    assert (report["verified"], report["archived"]) == (True, len(before))
    assert installed.run("doctor").returncode == 0


def test_the_next_one_begins_where_this_one_ends(installed: Installation, file: Path) -> None:
    first = archive(installed, file)
    installed.run("token", "create", "--name", "three", "--role", "auditor")
    second = archive(installed, file.with_name("next.db"))
    assert second["range"]["start"] == first["range"]["end"]
    assert verified(installed, file.with_name("next.db"))
    assert installed.json("audit", "verify")["verified"]


def test_where_nothing_is_old_nothing_is_done(installed: Installation, file: Path) -> None:
    words = ("audit", "archive", "--before", "30d", "--to", str(file))
    assert installed.json(*words)["changed"] is False
    assert not file.exists()


def test_a_file_that_is_there_is_kept(installed: Installation, file: Path) -> None:
    file.write_text("precious")
    before = events(installed)
    refused = installed.run("audit", "archive", "--before", "0s", "--to", str(file))
    assert (refused.returncode, file.read_text()) == (1, "precious")
    assert events(installed) == before


def test_nothing_is_removed_for_an_archive_that_does_not_verify(
    installed: Installation, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = events(installed), archiving.write_bundle

    def damaged(database: object, path: Path, *rest: object) -> object:
        stated = write(database, path, *rest)
        with closing(sqlite3.connect(path)) as bundle, bundle:
            bundle.execute("DELETE FROM events WHERE seq = 1")
        return stated

    monkeypatch.setattr(archiving, "write_bundle", damaged)
    refused = installed.run("audit", "archive", "--before", "0s", "--to", str(file))
    assert refused.returncode == 1
    assert "the archive does not verify" in refused.stderr
    assert (events(installed), file.exists()) == (before, False)


def test_what_was_interrupted_goes_on(
    installed: Installation, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = archiving.archive.remove_archived

    def killed(*arguments: Any) -> int:
        if file.exists():
            raise Unavailable("the database is away")
        return remove(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(archiving.archive, "remove_archived", killed)
        assert installed.run("audit", "archive", "--before", "0s", "--to", str(file)).returncode
    assert verified(installed, file)
    assert installed.json("audit", "verify")["verified"]
    words = ("audit", "archive", "--before", "30d", "--to", str(file.with_name("none.db")))
    assert installed.json(*words)["changed"] is True
    assert [action for _, action in events(installed)] == ["audit.archived"]


def test_wrong_times(installed: Installation, file: Path) -> None:
    refused = installed.run("audit", "archive", "--before", "soon", "--to", str(file))
    assert refused.returncode == 1
    assert "--before" in refused.stderr
