"""The playbook site on this machine: from nothing, and again, and only foreseen."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.ca import ensure_certificates
from tests.collection.conftest import ROOT
from tests.support.live import BIN


class Site:
    """`playbooks/site.yml` with the local inventory, below a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "demo"
        ensure_certificates(self.root / "tls")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._home = directory / "ansible"

    def run(self, *options: str, **variables: Any) -> tuple[dict[str, int], str]:
        """Run it; return the recap and all output."""
        given = {"demo_root": str(self.root), "demo_port": self.port, **variables}
        path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
        done = subprocess.run(
            [
                *(BIN / "ansible-playbook", "-i", ROOT / "inventories/local", *options),
                *("-e", json.dumps(given), ROOT / "playbooks/site.yml"),
            ],
            env={
                **os.environ,
                "PATH": path,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_HOME": str(self._home),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        recap = dict(re.findall(r"(\w+)=(\d+)", output.rsplit("PLAY RECAP", 1)[1]))
        return {key: int(value) for key, value in recap.items()}, output

    def status(self) -> dict[str, Any]:
        command = [self.root / "agent/venv/bin/securecloud-agent"]
        done = subprocess.run(
            [*command, "--config", self.root / "agent/etc/agent.toml", "status", "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def stop(self) -> None:
        for pid_file in self.root.glob("*/run/supervisord.pid"):
            os.kill(int(pid_file.read_text()), signal.SIGTERM)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    here = Site(tmp_path_factory.mktemp("site"))
    yield here
    here.stop()


@pytest.fixture(scope="module")
def first(site: Site) -> tuple[dict[str, int], str]:
    return site.run()


def test_one_run_ends_with_a_granted_device(site: Site, first: Any) -> None:
    status = site.status()
    assert status["enrolled"]
    (device,) = status["devices"]
    assert (device["device"], device["outcome"]) == ("demo-data", "granted")


def test_a_second_run_changes_nothing(site: Site, first: Any) -> None:
    recap, output = site.run()
    assert recap["changed"] == 0, output


def test_check_mode_agrees_that_nothing_is_left(site: Site, first: Any) -> None:
    recap, output = site.run("--check", "--diff")
    assert recap["changed"] == 0, output


def test_no_secret_is_in_the_output(site: Site, first: Any) -> None:
    token = (site.root / "server/admin.token").read_text().strip()
    assert token not in first[1]
    assert "sce." not in first[1]


def test_a_change_of_settings_restarts_the_server_once(site: Site, first: Any) -> None:
    _, output = site.run(management_server_log_level="debug")
    assert (
        output.count(
            "RUNNING HANDLER [trend.securecloud.management_server : Restart the management server]"
        )
        == 1
    )
    assert "RUNNING HANDLER [trend.securecloud.agent" not in output


def test_check_mode_on_a_fresh_machine_stops_where_the_first_token_would_be(
    short_path: Path,
) -> None:
    fresh = Site(short_path)
    ansibles_own = fresh.root / "tmp"  # made for the modules themselves, and emptied again
    ansibles_own.mkdir()
    before = sorted(fresh.root.rglob("*"))
    with pytest.raises(AssertionError, match=r"cannot read .*admin\.token"):
        fresh.run("--check")
    assert sorted(fresh.root.rglob("*")) == before
