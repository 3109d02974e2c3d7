"""`audit export` and `audit public-key`: what an operator hands to an auditor."""

import json
import os
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from securecloud_audit.main import main as audit

from server.tests.cli.conftest import PROGRAM, Installation


@pytest.fixture
def bundle(installed: Installation) -> Path:
    return installed.root / "bundle.db"


def verified(installed: Installation, bundle: Path) -> bool:
    fingerprint = installed.json("audit", "public-key")["fingerprint"]
    return audit(["verify", str(bundle), "--fingerprint", fingerprint]) == 0


def test_a_bundle_is_written_and_verified(installed: Installation, bundle: Path) -> None:
    installed.run("token", "create", "--name", "ci", "--role", "auditor")
    done = installed.json("audit", "export", "--to", str(bundle))
    size = installed.json("audit", "verify")["size"]
    assert done["events"] == done["size"] == size > 1
    assert done["range"] == {"start": 0, "end": size}
    assert bundle.stat().st_mode & 0o777 == 0o600
    assert verified(installed, bundle)
    assert b"CREATE TABLE" in bundle.read_bytes()


def test_what_it_says(installed: Installation, bundle: Path) -> None:
    done = installed.run("audit", "export", "--to", str(bundle))
    assert (done.returncode, done.stdout) == (0, "")
    fingerprint = installed.json("audit", "public-key")["fingerprint"]
    size = installed.json("audit", "verify")["size"]
    assert done.stderr.splitlines() == [
        f"{size} of {size} events",
        f"{bundle}: {size} of {size} events",
        f"verify it with: securecloud-audit verify {bundle} --fingerprint {fingerprint}",
    ]


def test_the_public_key_for_auditors(installed: Installation, bundle: Path) -> None:
    done = installed.run("audit", "public-key")
    assert done.stdout.startswith("-----BEGIN PUBLIC KEY-----\n")
    key = installed.root / "server.pem"
    key.write_text(done.stdout)
    shown = installed.json("audit", "public-key")
    assert shown["public_key"] == done.stdout
    assert shown["fingerprint"] in done.stderr
    installed.run("audit", "export", "--to", str(bundle))
    assert audit(["verify", str(bundle), "--public-key", str(key)]) == 0


def test_a_file_that_is_there_is_kept(installed: Installation, bundle: Path) -> None:
    bundle.write_text("precious")
    before = installed.files()
    done = installed.run("audit", "export", "--to", str(bundle))
    assert done.returncode == 1
    assert done.stderr == f"securecloud-server: {bundle} is there already; give --force\n"
    assert bundle.read_text() == "precious"
    assert _without_journals(installed.files()) == _without_journals(before)
    assert installed.run("audit", "export", "--to", str(bundle), "--force").returncode == 0
    assert verified(installed, bundle)
    assert bundle.stat().st_mode & 0o777 == 0o600


def _without_journals(files: list[Path]) -> list[Path]:
    return [path for path in files if not path.name.endswith(("-wal", "-shm"))]


def test_a_link_to_nowhere_is_a_file_that_is_there(installed: Installation, bundle: Path) -> None:
    bundle.symlink_to("/nowhere/else")
    assert installed.run("audit", "export", "--to", str(bundle)).returncode == 1
    assert bundle.is_symlink()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "is a directory; expected the name of a file"),
        ("absent/bundle.db", "absent/bundle.db cannot be written: No such file or directory"),
        ("admin.token/bundle.db", "cannot be written: Not a directory"),
    ],
)
def test_where_nothing_can_be_written(installed: Installation, target: str, message: str) -> None:
    done = installed.run("audit", "export", "--to", str(installed.root / target))
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    "since",
    ["90s", "5m", "24h", "30d", "52w", "2020-01-31", "2020-01-31T12:00:00Z",
     "2020-01-31T12:00:00.5+01:00"],
)  # fmt: skip
def test_times_that_are_long_ago(installed: Installation, bundle: Path, since: str) -> None:
    everything = installed.json("audit", "verify")["size"]
    done = installed.json("audit", "export", "--since", since, "--to", str(bundle))
    assert done["events"] == everything
    bundle.unlink()
    done = installed.json("audit", "export", "--until", since, "--to", str(bundle))
    assert done["events"] == 0
    assert verified(installed, bundle)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "--since: expected a time such as 2026-01-31T12:00:00Z, a day"),
        (["--since", "30"], "--since: expected a time"),
        (["--until", "-5d"], "--until: expected a time"),
        (["--since", "30 d"], "'30 d' is none"),
        (["--since", "2026-02-30"], "'2026-02-30' is none"),
        (["--since", "2026-01-31T12:00:00"], "has no time zone; put Z behind it for UTC"),
        (["--since", "1969-12-31T23:59:59Z"], "is before 1970"),
        (["--since", "1d", "--until", "2d"], "--until: expected a time that is not before --since"),
        (["--since", "9" * 5000], "--since: expected a time"),
    ],
)
def test_wrong_times(
    installed: Installation, bundle: Path, arguments: list[str], message: str
) -> None:
    done = installed.run("audit", "export", *arguments, "--to", str(bundle))
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr) < 400
    assert not bundle.exists()


def test_a_damaged_log_leaves_nothing(installed: Installation, bundle: Path) -> None:
    with closing(sqlite3.connect(installed.database)) as database:
        database.execute("UPDATE audit_events SET body = x'00'")
        database.commit()
    before = installed.files()
    done = installed.run("audit", "export", "--to", str(bundle))
    assert done.returncode == 1
    assert "the audit log is damaged (event 0: it is not UTF-8 JSON)" in done.stderr
    assert _without_journals(installed.files()) == _without_journals(before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_ended_by_a_signal_it_leaves_nothing(
    installed: Installation, bundle: Path, number: int, code: int
) -> None:
    """The signal comes while it is at work: the other end of its output is a pipe that is full."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    before = installed.files()
    with subprocess.Popen(
        [PROGRAM, "--config", installed.config, "audit", "export", "--to", bundle], stderr=writing
    ) as process:
        os.close(writing)
        while not list(installed.root.glob(".bundle.db.*")):
            assert process.poll() is None
        process.send_signal(number)
        while os.read(reading, 65536):
            pass
        os.close(reading)
        assert process.wait() == code
    assert _without_journals(installed.files()) == _without_journals(before)


def test_no_secret_is_in_a_bundle(installed: Installation, bundle: Path) -> None:
    token = json.loads(
        installed.run("token", "create", "--name", "x", "--role", "auditor", "--json").stdout
    )["token"]
    installed.run("audit", "export", "--to", str(bundle))
    octets = bundle.read_bytes()
    for secret in (token.rpartition(".")[2], installed.token_file.read_text().strip()):
        assert secret.encode() not in octets
    assert re.search(rb"api_token.created", octets)
