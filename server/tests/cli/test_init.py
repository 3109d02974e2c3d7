"""`init`: whatever is missing, once."""

import sqlite3

from securecloud_server.storage.migrations import LATEST

from server.tests.cli.conftest import Installation


def test_check_apply_again_and_again_in_check(fresh: Installation) -> None:
    fresh.configure()
    before = fresh.files()
    foreseen = fresh.init("--check")
    assert foreseen["changed"]
    assert foreseen["server_id"] is None
    assert fresh.files() == before
    done = fresh.init()
    assert done["created"] == foreseen["created"]
    assert done["server_id"]
    assert done["schema_version"] == LATEST
    unchanged = {**done, "changed": False, "created": []}
    assert fresh.init() == unchanged
    assert fresh.init("--check") == unchanged


def test_secrets_are_for_their_owner_alone(installed: Installation) -> None:
    for path in (installed.master_key, installed.token_file, installed.database):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert installed.master_key.parent.stat().st_mode & 0o777 == 0o700


def test_a_lost_token_file_gets_a_new_token_and_the_old_one_stays(installed: Installation) -> None:
    old = installed.token_file.read_text()
    installed.token_file.unlink()
    assert installed.init()["created"] == ["admin token"]
    assert installed.token_file.read_text() != old
    items = installed.json("token", "list")["items"]
    assert sorted(item["name"] for item in items) == ["admin", "admin-2"]


def test_a_token_file_that_is_there_is_left_alone(fresh: Installation) -> None:
    fresh.configure()
    fresh.token_file.write_text("mine")
    assert "admin token" not in fresh.init()["created"]
    assert fresh.token_file.read_text() == "mine"


def test_a_token_that_cannot_be_written_is_never_made(fresh: Installation) -> None:
    fresh.configure()
    (fresh.root / "wall").write_text("in the way")
    done = fresh.run("init", "--admin-token-file", str(fresh.root / "wall/admin.token"))
    assert done.returncode == 1
    assert "wall" in done.stderr
    assert fresh.json("token", "list")["items"] == []


def test_a_foreign_master_key_is_refused_and_changes_nothing(installed: Installation) -> None:
    key = installed.master_key.read_text()
    installed.master_key.write_text(key[::-1])
    done = installed.run("init")
    assert done.returncode == 1
    assert key.strip() not in done.stderr
    assert "master key" in done.stderr


def test_a_master_key_that_everyone_can_read_is_refused(installed: Installation) -> None:
    installed.master_key.chmod(0o644)
    done = installed.run("init")
    assert done.returncode == 1
    assert "0600" in done.stderr


def test_garbage_instead_of_a_database_is_named(fresh: Installation) -> None:
    fresh.configure()
    fresh.database.parent.mkdir(parents=True)
    fresh.database.write_bytes(b"this is not a database" * 100)
    done = fresh.run("init")
    assert done.returncode == 1
    assert "not a SQLite database" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_configuration_it_says_which_file_it_wants(fresh: Installation) -> None:
    done = fresh.run("init")
    assert done.returncode == 1
    assert str(fresh.config) in done.stderr


def test_a_newer_schema_is_not_touched(installed: Installation) -> None:
    with sqlite3.connect(installed.database) as database:
        database.execute("INSERT INTO schema_version (version) VALUES (999)")
    done = installed.run("init")
    assert done.returncode == 1
    assert "999" in done.stderr
