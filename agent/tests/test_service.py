"""`run`: passes and pauses, told by a clock that stands still."""

import json
import signal
import threading
from dataclasses import replace

from securecloud_agent.errors import AgentError
from securecloud_agent.main.outcome import Outcome, Passed
from securecloud_agent.main.passes import make_pass
from securecloud_agent.main.run import Service


def passed(outcome="granted", code="approved", retry_after=None, volume="mounted") -> Passed:
    return Passed(False, (Outcome("data", outcome, code, "", volume, "", retry_after),), 300)


class Script:
    """Passes that end as told; the service is stopped after the last."""

    def __init__(self, agent, *steps) -> None:
        self._steps = list(steps)
        self.pauses: list[float] = []
        self.service = Service(agent, self._make, self._wait)

    def _make(self, agent, devices):
        step = self._steps.pop(0)
        if isinstance(step, AgentError):
            raise step
        return step

    def _wait(self, event: threading.Event, seconds: float) -> None:
        self.pauses.append(round(seconds, 2))
        if not self._steps:
            self.service.on_stop(signal.SIGTERM, None)

    def run(self) -> list[float]:
        self.service.work()
        return self.pauses


def test_interval_retry_and_backoff(enrolled):
    away = AgentError("away", "unreachable")
    pending = passed("pending", "approval_required", 20)
    script = Script(
        enrolled, pending, passed(), away, away, away, passed(), passed("failed", "volume")
    )
    assert script.run() == [20, 300, 0.5, 1, 2, 300, 0.5]


def test_at_the_start_a_server_that_is_away_is_asked_again_at_once(enrolled, monkeypatch):
    ready = []
    monkeypatch.setattr("securecloud_agent.main.run.notify_ready", lambda: ready.append(True))
    away = AgentError("away", "unreachable")
    script = Script(enrolled, away, away, away, passed(), away)
    assert script.run() == [0.5, 0.5, 0.5, 300, 0.5]
    assert len(ready) == 2


def test_what_waits_at_boot_waits_no_longer_than_the_deadline(enrolled, monkeypatch, clock):
    ready = []
    monkeypatch.setattr("securecloud_agent.main.run.notify_ready", lambda: ready.append(True))
    away = AgentError("away", "unreachable")
    script = Script(enrolled, away, away, away, away, away)
    late = script.service._wait
    script.service._wait = lambda event, seconds: (clock.pause(6), late(event, seconds))
    script.run()
    # From then on ever more slowly, but from the beginning: it may be back soon.
    assert script.pauses == [0.5, 0.5, 0.5, 1, 2]
    assert ready


def test_only_news_is_told(enrolled, capsys):
    away = AgentError("server is away", "unreachable")
    Script(enrolled, passed(), passed(), away, away, passed()).run()
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("securecloud-agent: ") for line in lines] == [
        "started",
        "data: granted (approved), mounted: ",
        "server is away",
        "stopped; open volumes stay open",
    ]


def test_a_server_that_is_away_in_several_ways_is_told_once(enrolled, capsys):
    ways = [AgentError(text, "unreachable") for text in ("reset", "broken", "reset")]
    Script(enrolled, *ways, AgentError("another CA", "not_trusted")).run()
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("securecloud-agent: ") for line in lines[1:-1]] == [
        "reset",
        "another CA",
    ]


def test_an_outcome_that_cannot_be_remembered_ends_nothing(enrolled, capsys, monkeypatch):
    def full(agent, outcomes, server):
        raise AgentError("No space left on device", "state")

    monkeypatch.setattr("securecloud_agent.main.run.remember", full)
    Script(enrolled, AgentError("away", "unreachable"), passed()).run()
    assert "warning: the outcome could not be remembered" in capsys.readouterr().err


def test_hostile_names_do_not_forge_lines(enrolled, capsys):
    Script(enrolled, AgentError("a\nsecurecloud-agent: forged\x1b[2J", "unreachable")).run()
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_signal_during_a_pass_is_not_lost(enrolled):
    calls = []

    def make(agent, devices):
        calls.append(devices)
        service.on_stop(signal.SIGTERM, None)
        return passed()

    service = Service(enrolled, make)
    service.work()
    assert calls == [()]


def test_check_now_cuts_the_wait_short(enrolled):
    calls = []

    def make(agent, devices):
        calls.append(devices)
        (service.on_stop if len(calls) > 1 else service.on_check)(signal.SIGHUP, None)
        return passed()

    service = Service(enrolled, make)
    service.work()
    assert len(calls) == 2


def test_lost_integrity_locks_and_comes_back_after_proof(
    home, enrolled, device, management, no_mapper
):
    service = Service(enrolled, make_pass)
    assert service.one_pass() == 300
    device.outcome, device.code = "denied", "policy"
    service.one_pass()
    assert home.status()["devices"]["data"]["volume"] == "closed"
    device.outcome, device.code = "granted", "approved"
    service.one_pass()
    assert home.status()["devices"]["data"]["volume"] == "verified"
    assert [claim.want for body in management.evidence for claim in body.devices] == [
        "key", "check", "key",
    ]  # fmt: skip


def test_server_that_went_away_locks_nothing(home, enrolled, device, listener, no_mapper):
    service = Service(enrolled, make_pass)
    service.one_pass()
    listener.faults = ["drop", "drop"]
    assert service.one_pass() == 0.5
    assert home.status()["devices"]["data"]["code"] == "unreachable"
    assert enrolled.marks.has("verified", "data")
    assert json.loads((home.state / "status.json").read_text())["server"] == listener.url


class Scripted:
    """A watch that tells of these changes, look by look."""

    def __init__(self, *looks: list[str]) -> None:
        self._looks = list(looks)

    def __bool__(self) -> bool:
        return True

    def changed(self, now: float) -> list[str]:
        return self._looks.pop(0) if self._looks else []


def test_watched_fact_that_changes_cuts_the_wait_short(enrolled, clock, capsys):
    watching = replace(passed(), facts=Scripted([], [], ["users", "packages"]))
    script = Script(enrolled, watching, passed())
    wait = script.service._wait
    script.service._wait = lambda event, seconds: (clock.pause(seconds), wait(event, seconds))
    assert script.run() == [5, 5, 5, 300]
    assert "this may have changed: users, packages" in capsys.readouterr().err


def test_waiting_with_a_watch_takes_as_long_as_without(enrolled, clock):
    script = Script(enrolled, replace(passed(), check_interval=12, facts=Scripted()), passed())
    wait = script.service._wait
    script.service._wait = lambda event, seconds: (clock.pause(seconds), wait(event, seconds))
    assert script.run() == [5, 5, 2, 300]


def test_being_told_to_stop_ends_the_watch(enrolled):
    script = Script(enrolled, replace(passed(), facts=Scripted(["users"])))
    assert script.run() == [5]
