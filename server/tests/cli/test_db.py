"""`db upgrade`."""

import sqlite3
from contextlib import closing

from securecloud_server.storage import migrations

from server.tests.cli.conftest import Installation

LATEST = migrations.LATEST


def test_an_up_to_date_schema_needs_nothing(installed: Installation) -> None:
    same = {"changed": False, "before": LATEST, "after": LATEST}
    assert installed.json("db", "upgrade") == same
    assert installed.json("db", "upgrade", "--check") == same


def test_a_database_of_the_first_version_is_upgraded_and_serves(installed: Installation) -> None:
    with closing(sqlite3.connect(installed.database)) as database:
        database.executescript(
            "DROP TABLE key_exports; ALTER TABLE api_tokens DROP COLUMN origin;"
            "DROP TABLE header_copies; DROP TABLE checks;"
            "DROP TABLE evidence; DROP TABLE evidence_documents;"
            "ALTER TABLE device_states DROP COLUMN volume_state;"
            "ALTER TABLE device_states DROP COLUMN volume_state_at;"
            "ALTER TABLE device_states DROP COLUMN header;"
            "ALTER TABLE device_states DROP COLUMN volume_key;"
            "ALTER TABLE device_states DROP COLUMN header_changing;"
            "ALTER TABLE device_states DROP COLUMN header_refused;"
            "ALTER TABLE device_states DROP COLUMN volume_key_refused;"
            "ALTER TABLE device_states DROP COLUMN header_kept;"
            "DELETE FROM schema_version WHERE version > 1"
        )
    foreseen = installed.json("db", "upgrade", "--check")
    assert foreseen == {"changed": True, "before": 1, "after": LATEST}
    assert installed.run("doctor").returncode == 1
    assert installed.json("db", "upgrade") == foreseen
    assert installed.run("token", "list").returncode == 0


def test_without_a_database_it_points_to_init(fresh: Installation) -> None:
    fresh.configure()
    done = fresh.run("db", "upgrade")
    assert done.returncode == 1
    assert "init" in done.stderr
