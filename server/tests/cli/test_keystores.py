"""`keystore rewrap` and `keystore prove`."""

import sqlite3
from contextlib import closing

import pytest

from server.tests.cli.conftest import Installation


@pytest.fixture
def replacing(installed: Installation) -> Installation:
    """As the role leaves it when somebody named another master key, and the one before it."""
    settings = {
        "master_key": f"file:{installed.root}/data/next.key",
        "previous_master_key": f"file:{installed.master_key}",
    }
    installed.configure(keystore=settings)
    assert installed.init()["created"] == ["master key"]
    return installed


def finished(installation: Installation) -> None:
    settings = {"master_key": f"file:{installation.root}/data/next.key"}
    installation.configure(keystore=settings)


def test_a_master_key_is_replaced(replacing: Installation) -> None:
    assert replacing.json("keystore", "rewrap", "--check") == {"changed": True, "left": 1}
    assert replacing.json("keystore", "rewrap") == {"changed": True, "renewed": 1, "failed": {}}
    assert replacing.json("keystore", "rewrap") == {"changed": False, "renewed": 0, "failed": {}}
    assert replacing.json("keystore", "rewrap", "--check") == {"changed": False, "left": 0}
    finished(replacing)
    replacing.master_key.unlink()
    assert replacing.run("doctor").returncode == 0


def test_giving_the_previous_one_up_too_early_is_told(replacing: Installation) -> None:
    finished(replacing)
    done = replacing.run("doctor")
    assert done.returncode == 1
    assert "server identity: sealed under another master key" in done.stdout


def test_a_previous_key_that_others_can_read_is_told(replacing: Installation) -> None:
    replacing.master_key.chmod(0o644)
    assert f"{replacing.master_key} is open to others" in replacing.run("doctor").stdout


def test_all_keys_are_tried(installed: Installation) -> None:
    assert installed.json("keystore", "prove") == {"keys": 0, "failed": {}}
    with closing(sqlite3.connect(installed.database)) as database:
        (logged,) = database.execute(
            "SELECT count(*) FROM audit_events WHERE action = 'keystore.proven'"
        ).fetchone()
    assert logged == 1
