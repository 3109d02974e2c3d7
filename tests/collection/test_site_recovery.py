"""The server of the site is lost; the playbooks `backup` and `restore` bring it back."""

import os
import re
import select
import shutil
import signal
from pathlib import Path
from typing import Any

import pyrage
import pytest

from tests.support.site import Site


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vault") / "identity"
    path.write_text(str(pyrage.x25519.Identity.generate()))
    return path


@pytest.fixture(scope="module")
def backup(site: Site, first: Any, identity: Path) -> Path:
    """A backup after which the machine got its key once more."""
    recipient = pyrage.x25519.Identity.from_str(identity.read_text()).to_public()
    kept = identity.parent / "backups"
    asked = {
        "securecloud_backup_recipients": [str(recipient)],
        "securecloud_backup_dir": str(kept),
    }
    site.run("--check", playbook="backup", **asked)
    assert not kept.exists()
    site.run(playbook="backup", **asked)
    (file,) = kept.iterdir()
    assert file.read_bytes().startswith(b"age-encryption.org/v1")
    assert not list((site.root / "server/data").glob("*.age"))
    assert site.granted()
    return file


def lose_the_server(site: Site) -> None:
    supervisor = int((site.root / "server/run/supervisord.pid").read_text())
    ended = os.pidfd_open(supervisor)
    os.kill(supervisor, signal.SIGTERM)
    assert select.select([ended], [], [], 60)[0]
    os.close(ended)
    shutil.rmtree(site.root / "server")


@pytest.fixture(scope="module")
def restored(site: Site, backup: Path, identity: Path) -> tuple[dict[str, Any], str]:
    """What was asked for, and what was said."""
    lose_the_server(site)
    asked = {
        "securecloud_restore_src": str(backup),
        "securecloud_restore_identity": str(identity),
    }
    _, said = site.run(playbook="restore", **asked)
    return asked, said


def test_an_agent_gets_its_key_from_the_restored_server(site: Site, restored: Any) -> None:
    assert site.granted()


def test_it_needs_both_the_backup_and_what_opens_it(site: Site, restored: Any) -> None:
    with pytest.raises(AssertionError, match="set securecloud_restore_src"):
        site.run(playbook="restore", securecloud_restore_src="x")


def test_once_more_overwrites_nothing(site: Site, restored: Any) -> None:
    recap, said = site.run(playbook="restore", **restored[0])
    assert recap["changed"] == 0, said
    assert site.granted()


def test_check_mode_foresees_that(site: Site, restored: Any) -> None:
    recap, said = site.run("--check", playbook="restore", **restored[0])
    assert recap["changed"] == 0, said
    assert not list((site.root / "server").rglob("*.age"))
    elsewhere = f"sqlite:///{site.root}/server/data/elsewhere.db"
    asked = {**restored[0], "management_server_storage_url": elsewhere}
    _, said = site.run("--check", playbook="restore", **asked)
    assert re.search(r"TASK .*Restore the backup.*\nchanged: ", said), said


def test_no_secret_is_in_the_output(site: Site, restored: Any, identity: Path) -> None:
    said = restored[1]
    assert identity.read_text() not in said
    assert (site.root / "server/admin.token").read_text().strip() not in said
    assert (site.root / "server/data/master.key").read_text().strip() not in said
