"""Playbooks that look after the keys of the site: replaced, moved to a KMIP server and back."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.kmip import KmipServer, running_kmip_server
from tests.support.site import Site


@pytest.fixture(scope="module")
def kmip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmipServer]:
    with running_kmip_server(tmp_path_factory.mktemp("kmip")) as kmip:
        yield kmip


@pytest.fixture(scope="module")
def configured(kmip: KmipServer) -> dict[str, Any]:
    certificate, key = kmip.pki.issue("management")
    return {
        "management_server_kmip_server": f"localhost:{kmip.port}",
        "management_server_kmip_ca_file": str(kmip.pki.ca_file),
        "management_server_kmip_certificate": str(certificate),
        "management_server_kmip_key": str(key),
    }


def keys(site: Site) -> list[tuple[int, str, str]]:
    """Return version, state and keystore of the machine's keys."""
    database = site.root / "server/data/securecloud.db"
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT version, state, keystore FROM keys ORDER BY version")
        return rows.fetchall()


def test_a_key_is_replaced(site: Site, first: Any) -> None:
    asked = {"securecloud_rotate_older_than": "0s", "securecloud_rotate_wait": 60}
    recap, _ = site.run("--check", playbook="rotate_keys", **asked)
    assert (recap["changed"], keys(site)) == (1, [(1, "active", "local")])
    recap, _ = site.run(playbook="rotate_keys", **asked)
    assert recap["changed"] == 1
    assert keys(site) == [(1, "deactivated", "local"), (2, "active", "local")]
    assert site.granted()


def test_a_key_that_is_young_is_not_replaced(site: Site, first: Any) -> None:
    recap, output = site.run(playbook="rotate_keys")
    assert recap["changed"] == 0, output


def test_all_keys_move_to_a_kmip_server_and_back(
    site: Site, first: Any, configured: dict[str, Any]
) -> None:
    versions = len(keys(site))
    to_kmip = {"management_server_keystore_type": "kmip", **configured}
    site.run("--check", playbook="migrate_keystore", **to_kmip)
    assert {each[2] for each in keys(site)} == {"local"}
    site.run(playbook="migrate_keystore", **to_kmip)
    assert [each[2] for each in keys(site)] == ["kmip"] * versions
    assert site.granted()
    to_local = {"management_server_keystore_type": "local", **configured}
    _, output = site.run("--diff", playbook="migrate_keystore", **to_local)
    assert [each[2] for each in keys(site)] == ["local"] * versions
    assert site.granted()
    private = Path(configured["management_server_kmip_key"]).read_text().splitlines()[1]
    assert private not in output
    recap, output = site.run(playbook="migrate_keystore", **to_local)
    assert recap["changed"] == 0, output
