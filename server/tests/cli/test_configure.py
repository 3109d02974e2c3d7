"""`configure`: whole and valid, or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.tests.cli.conftest import Installation


def test_check_apply_again_and_again_in_check(fresh: Installation) -> None:
    foreseen = fresh.configure("--check")
    assert foreseen["changed"]
    assert not fresh.config.exists()
    done = fresh.configure()
    assert done == foreseen
    assert fresh.config.read_text() == done["diff"]["after"]
    assert fresh.config.stat().st_mode & 0o777 == 0o640
    written = fresh.config.stat().st_mtime_ns
    assert not fresh.configure()["changed"]
    assert not fresh.configure("--check")["changed"]
    assert fresh.config.stat().st_mtime_ns == written


def test_a_change_is_shown_as_a_difference(installed: Installation) -> None:
    done = installed.configure(policy={"pending_retry": 7})
    assert done["changed"]
    assert "pending_retry = 15" in done["diff"]["before"]
    assert "pending_retry = 7" in done["diff"]["after"]


@pytest.mark.parametrize(
    ("sections", "field", "hint"),
    [
        ({"server": {"listen": "nowhere"}}, "server.listen", "host:port"),
        ({"server": {"workers": 0}}, "server.workers", "1 to 64"),
        ({"server": {"public_url": "http://x"}}, "server.public_url", "https"),
        ({"server": {"tls_key": "key.pem"}}, "server.tls_key", "absolute"),
        ({"server": {"metrics_public": "yes"}}, "server.metrics_public", "true or false"),
        ({"storage": {"url": "mysql://x"}}, "storage.url", "postgresql"),
        ({"storage": {"url": "sqlite:///relative.db"}}, "storage.url", "absolute"),
        ({"keystore": {"type": "paper"}}, "keystore.type", "local"),
        ({"keystore": {"master_key": "secret"}}, "keystore.master_key", "file:"),
        ({"policy": {"session_lifetime": 1}}, "policy.session_lifetime", "5 to 300"),
        ({"log": {"level": "loud"}}, "log.level", "debug"),
        ({"log": {"colour": "red"}}, "log.colour", "unknown setting"),
        ({"telemetry": {"on": True}}, "telemetry", "unknown setting"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_written(
    fresh: Installation, sections: dict[str, Any], field: str, hint: str
) -> None:
    done = fresh.run("configure", stdin=json.dumps(fresh.settings(**sections)))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert field in line
    assert hint in line
    assert not fresh.config.parent.exists()


def test_every_wrong_setting_is_named_at_once(fresh: Installation) -> None:
    wrong = fresh.settings(server={"listen": 1, "threads": -1}, log={"level": 3})
    done = fresh.run("configure", stdin=json.dumps(wrong))
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        "server.listen",
        "server.threads",
        "log.level",
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "null", "{" * 100_000])
def test_what_is_no_settings_is_refused(fresh: Installation, text: str) -> None:
    done = fresh.run("configure", stdin=text)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("securecloud-server: ")
    assert not fresh.config.exists()


def test_a_password_is_in_the_file_and_nowhere_else(fresh: Installation) -> None:
    url = "postgresql://keys:hunter2-secret@db.example.org/keys"
    done = fresh.run("configure", "--json", stdin=json.dumps(fresh.settings(storage={"url": url})))
    assert done.returncode == 0
    assert "hunter2" not in done.stdout + done.stderr
    assert url in fresh.config.read_text()
    again = fresh.run("configure", "--json", stdin=json.dumps(fresh.settings()))
    assert "hunter2" not in again.stdout + again.stderr


def test_a_directory_that_cannot_be_made_is_named(fresh: Installation, tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("in the way")
    done = fresh.run("configure", stdin=json.dumps(fresh.settings()))
    assert done.returncode == 1
    assert str(tmp_path / "etc") in done.stderr
    assert "Traceback" not in done.stderr
