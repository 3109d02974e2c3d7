"""`keystore rewrap` and `keystore prove`."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

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


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory."""
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def shares(installed: Installation, memory: Path) -> list[str]:
    """The shares of a master key that is to replace that in the file."""
    settings = {
        "master_key": f"shares:{memory}/master.key",
        "previous_master_key": f"file:{installed.master_key}",
    }
    installed.configure(keystore=settings)
    return installed.run("keystore", "split", "--shares", "3", "--needed", "2").stdout.split()


def test_a_master_key_of_shares_replaces_one_in_a_file(
    installed: Installation, shares: list[str], memory: Path
) -> None:
    sealed = installed.run("init")
    assert sealed.returncode == 1
    assert "the server is sealed" in sealed.stderr
    given = installed.json("keystore", "unseal", stdin=f"{shares[2]}\n")
    assert given == {"here": 1, "needed": 2, "unsealed": False}
    assert "1 of 2 shares are here" in installed.run("keystore", "unseal", "--status").stderr
    wrong = installed.run("keystore", "unseal", stdin=shares[2])
    assert wrong.returncode == 1
    assert shares[2] not in wrong.stdout + wrong.stderr
    assert installed.json("keystore", "unseal", stdin=shares[0])["unsealed"]
    assert installed.json("keystore", "rewrap")["renewed"] == 1
    installed.configure(keystore={"master_key": f"shares:{memory}/master.key"})
    installed.master_key.unlink()
    assert installed.run("doctor").returncode == 0
    # As after a reboot.
    (memory / "master.key").unlink()
    assert "the server is sealed" in installed.run("doctor").stdout
    installed.run("keystore", "unseal", stdin="\n".join(shares[1:]))
    assert installed.run("doctor").returncode == 0


def test_shares_can_be_forgotten(installed: Installation, shares: list[str]) -> None:
    installed.run("keystore", "unseal", stdin=shares[0])
    forgotten = installed.json("keystore", "unseal", "--forget")
    assert forgotten == {"here": 0, "needed": None, "unsealed": False}


def test_only_a_key_of_shares_is_unsealed(installed: Installation) -> None:
    refused = installed.run("keystore", "unseal", stdin="x")
    assert refused.returncode == 1
    assert "keystore.master_key is not one of shares, but file" in refused.stderr
