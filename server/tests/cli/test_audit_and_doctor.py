"""`audit verify` sees what was tampered with; `doctor` says what is wrong and what to do."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from server.tests.cli.conftest import Installation


def test_an_untouched_log_verifies(installed: Installation) -> None:
    verdict = installed.json("audit", "verify")
    assert verdict["verified"]
    assert verdict["size"] == verdict["events"] > 0
    assert len(bytes.fromhex(verdict["root"])) == 32


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE audit_events SET body = replace(body, 'policy.created', 'policy.deleted')",
        "UPDATE audit_events SET action = 'nothing.happened' WHERE seq = 0",
        "DELETE FROM audit_events WHERE seq = 0",
        "UPDATE audit_nodes SET hash = zeroblob(32) WHERE level = 0 AND idx = 0",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET signature = zeroblob(64)",
        "UPDATE audit_head SET at = at + 1",
    ],
)
def test_tampering_is_found(installed: Installation, tampering: str) -> None:
    with sqlite3.connect(installed.database) as database:
        assert database.execute(tampering).rowcount > 0
    verdict = installed.json("audit", "verify", code=1)
    assert not verdict["verified"]
    assert verdict["problem"]


def test_a_healthy_installation(installed: Installation) -> None:
    report = installed.json("doctor")
    assert report["healthy"]
    assert [check["name"] for check in report["checks"]] == [
        "configuration",
        "permissions",
        "certificate",
        "time zones",
        "database",
        "audit log",
    ]


def _open_key(it: Installation) -> None:
    (it.root / "tls/server.key").chmod(0o644)


def _no_certificate(it: Installation) -> None:
    (it.root / "tls/server.pem").unlink()


def _not_a_certificate(it: Installation) -> None:
    (it.root / "tls/server.pem").write_text("hello")


def _other_host(it: Installation) -> None:
    it.configure(server={"public_url": "https://keys.example.org"})


def _wrong_pair(it: Installation) -> None:
    it.configure(server={"tls_certificate": str(it.root / "tls/ca.pem")})


def _no_database(it: Installation) -> None:
    it.database.unlink()


def _damaged_log(it: Installation) -> None:
    with sqlite3.connect(it.database) as database:
        database.execute("DELETE FROM audit_head")


def _no_configuration(it: Installation) -> None:
    it.config.unlink()


@pytest.mark.parametrize(
    ("harm", "name", "hint"),
    [
        (_open_key, "permissions", "chmod 0600"),
        (_no_certificate, "certificate", "server.pem"),
        (_not_a_certificate, "certificate", "PEM"),
        (_other_host, "certificate", "keys.example.org"),
        (_wrong_pair, "certificate", "do not go together"),
        (_no_database, "database", "init"),
        (_damaged_log, "audit log", "damaged"),
        (_no_configuration, "configuration", "server.toml"),
    ],
)
def test_the_doctor_finds_it(
    installed: Installation, harm: Callable[[Installation], None], name: str, hint: str
) -> None:
    harm(installed)
    report = installed.json("doctor", code=1)
    assert not report["healthy"]
    wrong = {check["name"]: check["message"] for check in report["checks"] if not check["ok"]}
    assert hint in wrong[name]


def test_the_doctor_writes_nothing(installed: Installation) -> None:
    before = [path for path in installed.files() if not path.name.endswith(("-wal", "-shm"))]
    installed.run("doctor")
    after = [path for path in installed.files() if not path.name.endswith(("-wal", "-shm"))]
    assert after == before


def test_help_is_there_for_every_command(fresh: Installation, tmp_path: Path) -> None:
    for command in ("", "configure", "init", "serve", "db upgrade", "doctor", "token create"):
        done = fresh.run(*command.split(), "--help")
        assert done.returncode == 0
        assert "Usage:" in done.stdout
