"""A denial with a grace, from the exchange to the ack: the service, its waits, its commands."""

import json
import signal
import threading

import pytest
from securecloud_agent.main import main
from securecloud_agent.main.passes import make_pass
from securecloud_agent.main.run import Service
from securecloud_protocol import messages as wire

pytestmark = pytest.mark.usefixtures("no_mapper")


class Day:
    """The service at work while a clock runs; `plans` say what happens at which second."""

    def __init__(self, agent, clock, seconds: float) -> None:
        self._clock, self._agent = clock, agent
        self.begun = clock.time
        self._until = clock.time + seconds
        self.plans: list[tuple[float, object]] = []
        self.passes: list[float] = []
        self.service = Service(agent, self._make, self._wait)

    def _make(self, agent, devices):
        self.passes.append(round(self._clock.time - self.begun, 1))
        return make_pass(agent, devices)

    def _wait(self, event: threading.Event, seconds: float) -> None:
        assert seconds > 0
        until = self._clock.time + seconds
        for at, act in sorted(self.plans, key=lambda plan: plan[0]):
            if self.begun + at <= until:
                self.plans.remove((at, act))
                self._clock.time = max(self._clock.time, self.begun + at)
                act()
                if event.is_set():
                    return
        self._clock.time = until
        if self._clock.time >= self._until:
            self.service.on_stop(signal.SIGTERM, None)

    def run(self) -> None:
        self.service.work()


@pytest.fixture
def day(enrolled, device, clock) -> Day:
    return Day(enrolled, clock, 1000)


def denied(device, period=300, postpone=600) -> None:
    device.outcome, device.code = "denied", "policy"
    device.grace = wire.Grace(period, postpone)


def results(management) -> list[str]:
    return [result.result for ack in management.acks for result in ack.results]


def run(home, capsys, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["--config", str(home.config), *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_locked_at_the_end_asked_before_and_told_after(day, device, management, home, terminals):
    day.plans = [(1, lambda: denied(device))]
    day.run()
    # Checks each 300 s; a last question a minute before the end; one that reports at the end.
    assert day.passes[:4] == [0, 300, 540, 600]
    assert results(management)[:4] == ["verified", "grace", "grace", "closed"]
    assert management.acks[3].results[0].detail.startswith("its grace was over")
    assert home.status()["devices"]["data"]["volume"] == "closed"
    assert "/srv/data is locked in 5 min (denied: policy)" in terminals[0]


def test_a_server_that_is_away_does_not_keep_it_open(day, device, management, listener, home):
    away = ["drop"] * 400
    day.plans = [
        (1, lambda: denied(device)),
        (400, lambda: listener.faults.extend(away)),
        (599, lambda: None),
        (700, listener.faults.clear),
    ]
    seen = []
    day.plans.append((601, lambda: seen.append(day._agent.marks.has("verified", "data"))))
    day.run()
    assert seen == [False]
    # What became of it is told when the server is back.
    assert results(management)[:3] == ["verified", "grace", "closed"]
    assert "its grace was over" in management.acks[2].results[0].detail


def test_a_grant_in_time_keeps_it_open(day, device, management, terminals):
    def mend() -> None:
        device.outcome, device.code, device.grace = "granted", "approved", None

    day.plans = [(1, lambda: denied(device)), (500, mend)]
    day.run()
    assert "closed" not in results(management)
    assert day._agent.marks.has("verified", "data")
    assert terminals[-1] == "/srv/data stays open: data is granted again"


def test_it_comes_back_after_fresh_proof(day, device, management):
    def mend() -> None:
        device.outcome, device.code, device.grace = "granted", "approved", None

    day.plans = [(1, lambda: denied(device)), (650, mend)]
    day.run()
    assert results(management)[-1] == "verified"
    assert day._agent.marks.has("verified", "data")


def test_postponed_by_the_command_and_the_service_keeps_to_it(
    day, device, management, home, capsys
):
    told = []

    def postpone() -> None:
        told.append(run(home, capsys, "postpone", "data", "--by", "5m"))
        # As its signal does; the service is in this process.
        day.service.check_now()

    locked = []
    for at in (650, 899, 902):
        day.plans.append((at, lambda: locked.append(day._agent.marks.has("verified", "data"))))
    day.plans += [(1, lambda: denied(device)), (400, postpone)]
    day.run()
    ((status, _, err),) = told
    assert status == 0
    assert "data: postponed by 5 min; it is locked in 8 min" in err
    assert locked == [True, True, False]


def test_postpone_says_why_not(enrolled, device, home, capsys, clock):
    assert run(home, capsys, "postpone", "data")[0] == 1
    run(home, capsys, "unlock")
    denied(device, 300, 600)
    run(home, capsys, "unlock")
    status, out, err = run(home, capsys, "postpone", "data", "--by", "11m", "--json")
    assert status == 1
    assert "at most 10 min more, not by 11 min" in err
    said = json.loads(out)
    assert (said["changed"], said["grace"]["postpone_left"]) == (False, 600)
    status, out, _ = run(home, capsys, "postpone", "data", "--by", "600", "--json")
    assert (status, json.loads(out)["grace"]["seconds_left"]) == (0, 900)
    assert run(home, capsys, "postpone", "data", "--by", "1")[0] == 1


@pytest.mark.parametrize("by", ["0", "-5", "5 m", "1.5h", "m", "99999999", "\u0661"])
def test_a_time_that_is_none(enrolled, home, by):
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(home.config), "postpone", "data", f"--by={by}"])
    assert ended.value.code == 2


def test_status_shows_how_long(enrolled, device, home, capsys, clock):
    run(home, capsys, "unlock")
    denied(device)
    run(home, capsys, "unlock")
    clock.time += 100
    assert "verified (locked in 3 min)" in run(home, capsys, "status")[1]
    shown = json.loads(run(home, capsys, "status", "--json")[1])["devices"][0]["grace"]
    assert shown == {
        "seconds_left": 200,
        "code": "policy",
        "postponed": 0,
        "postpone_left": 600,
        "text": "locked in 3 min",
    }


def test_the_operators_lock_ends_the_grace(enrolled, device, home, capsys):
    run(home, capsys, "unlock")
    denied(device)
    run(home, capsys, "unlock")
    assert run(home, capsys, "lock", "data")[0] == 0
    assert enrolled.graces().running() == {}


def test_abandon_leaves_alone_what_is_not_suspended(enrolled, device, home, capsys):
    run(home, capsys, "unlock")
    status, out, _ = run(home, capsys, "lock", "--abandon", "--json", "data")
    assert status == 0
    assert json.loads(out)["devices"][0]["volume"] == "verified"
    assert not enrolled.marks.has("held", "data")


def test_an_ack_that_did_not_arrive_is_told_later(enrolled, device, management, listener):
    make_pass(enrolled, ())
    device.outcome, device.code = "denied", "policy"
    # An Ack is repeated until it is given up.
    listener.faults = [None, None, *["drop"] * 60]
    make_pass(enrolled, ())
    listener.faults = []
    assert results(management) == ["verified"]
    make_pass(enrolled, ())
    assert results(management) == ["verified", "closed"]
    make_pass(enrolled, ())
    assert results(management) == ["verified", "closed"]


def test_hooks_are_told_after_the_pass(enrolled, device, home, capsys):
    folder = home.config.parent / "hooks.d"
    folder.mkdir(mode=0o755)
    hook = folder / "10-tell"
    hook.write_text('#!/bin/sh\necho "$1 $2 $SECURECLOUD_MOUNT_POINT $SECURECLOUD_SECONDS_LEFT"\n')
    hook.chmod(0o755)
    run(home, capsys, "unlock")
    denied(device)
    assert "hook 10-tell: grace data /srv/data 300" in run(home, capsys, "unlock")[2]
    assert "hook" not in run(home, capsys, "unlock")[2]
    device.outcome, device.code = "granted", "approved"
    assert "hook 10-tell: cancelled data /srv/data 0" in run(home, capsys, "unlock")[2]


def test_a_pass_ends_with_the_grace(enrolled, device, clock, monkeypatch):
    """A server that lets the agent wait must not make it late."""
    make_pass(enrolled, ())
    denied(device)
    make_pass(enrolled, ())
    clock.time += 290
    limits = []
    monkeypatch.setattr(
        "securecloud_agent.main.passes.Deadline",
        lambda seconds, now: limits.append(seconds) or (_ for _ in ()).throw(RuntimeError),
    )
    with pytest.raises(RuntimeError):
        make_pass(enrolled, ())
    assert limits == [10]
