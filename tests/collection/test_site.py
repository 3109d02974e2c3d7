"""The playbook site on this machine: from nothing, and again, and only foreseen."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.site import Site


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
