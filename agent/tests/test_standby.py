"""Waiting for checks that somebody asks for at the server."""

import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from securecloud_agent.client.connection import Connection
from securecloud_agent.errors import AgentError
from securecloud_agent.main import standby as rooms
from securecloud_agent.main.passes import make_pass
from securecloud_agent.main.run import Service
from securecloud_agent.main.standby import Standby, Vigil
from securecloud_protocol.errors import ErrorCode
from securecloud_protocol.server import WAIT_LIFETIME

from .test_service import Script, passed


class Pauses:
    """What is waited for between two tries; after the last that is allowed the vigil is over."""

    def __init__(self, monkeypatch, allowed: int) -> None:
        self.attempts: list[int] = []
        self._allowed = allowed
        self.vigil: Vigil | None = None
        monkeypatch.setattr(rooms, "backoff", self._backoff)

    def _backoff(self, attempt: int, chance: float, first: float) -> float:
        assert first == 8
        self.attempts.append(attempt)
        if len(self.attempts) == self._allowed:
            self.vigil.end()
        return 0.0


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def standby(home, asked) -> Standby:
    return Standby(home.ca_file, lambda: asked.append("check"), lambda: 0.5)


@pytest.fixture
def ticket(enrolled, device, no_mapper):
    return make_pass(enrolled, ()).ticket


def waits(listener) -> int:
    return listener.requests.count(("POST", "/agent/v1/wait"))


@contextmanager
def working(service: Service):
    thread = threading.Thread(target=service.work)
    thread.start()
    try:
        yield
    finally:
        service.on_stop(15, None)
        thread.join(10)
        assert not thread.is_alive()


def test_a_check_that_is_asked_for_at_the_server_is_made_at_once(
    enrolled, device, management, no_mapper, capsys
):
    with working(Service(enrolled, make_pass)):
        management.await_waits(1)
        assert len(management.evidence) == 1
        management.ask_for_check()
        management.await_waits(2)
        assert len(management.evidence) == 2
    assert "checking now, for somebody asked the server for it" in capsys.readouterr().err


def test_one_that_is_asked_for_during_a_pass_is_made_after_it(
    enrolled, device, management, no_mapper, listener
):
    # The second request is the evidence: the check is asked for after the Hello.
    listener.faults = [None, management.ask_for_check]
    with working(Service(enrolled, make_pass)):
        management.await_waits(2)
    assert len(management.evidence) == 2


def test_a_stop_does_not_wait_for_the_server(enrolled, device, management, no_mapper):
    with working(Service(enrolled, make_pass)):
        management.await_waits(1)


def test_without_a_check_it_waits_again_on_the_same_connection(
    standby, ticket, management, listener, asked, monkeypatch
):
    monkeypatch.setattr(rooms, "_SOONEST", 0.0)
    management.held_seconds = 0.02
    before = listener.connections
    standby.begin(ticket)
    management.await_waits(5)
    standby.end()
    assert listener.connections == before + 1
    assert asked == []


def test_one_ticket_causes_one_check(standby, ticket, management, listener, asked):
    management.ask_for_check()
    Vigil(standby, ticket).keep()
    assert (asked, waits(listener)) == (["check"], 1)


def test_checks_follow_each_other_after_a_second_only(home):
    class Over(threading.Event):
        def wait(self, timeout=None):
            pauses.append(timeout)
            return False

    pauses: list[float] = []
    now = [100.0]
    asked = []
    standby = Standby(home.ca_file, lambda: asked.append(now[0]), lambda: 0.0, lambda: now[0])
    standby.asked(Over())
    now[0] = 100.25
    standby.asked(Over())
    assert pauses == [0, 0.75]
    assert len(asked) == 2


def test_a_check_that_waits_for_its_second_is_dropped_when_another_pass_begins(home):
    asked = []
    standby = Standby(home.ca_file, lambda: asked.append(1), lambda: 0.0, lambda: 100.0)
    over = threading.Event()
    standby.asked(over)
    over.set()
    standby.asked(over)
    assert asked == [1]


def test_a_server_that_does_not_let_it_wait_is_asked_ever_more_rarely(
    standby, ticket, management, listener, asked, monkeypatch, capsys
):
    management.held_seconds = 0.0
    pauses = Pauses(monkeypatch, 5)
    pauses.vigil = Vigil(standby, ticket)
    pauses.vigil.keep()
    assert (pauses.attempts, waits(listener), asked) == ([0, 1, 2, 3, 4], 5, [])
    told = [line for line in capsys.readouterr().err.splitlines() if "will come late" in line]
    assert len(told) == 1
    assert "does not let us wait" in told[0]


def test_a_server_that_is_away_is_asked_again_and_so_are_the_others(
    standby, ticket, management, listener, listen, asked, monkeypatch
):
    other = listen()
    both = type(ticket)(ticket.waiting, (listener.url, other.url))
    listener.faults = ["drop", "status 503", ErrorCode.UNAVAILABLE]
    other.faults = ["drop"]
    pauses = Pauses(monkeypatch, 3)
    pauses.vigil = Vigil(standby, both)
    pauses.vigil.keep()
    assert pauses.attempts == [0, 1, 2]
    assert (waits(listener), waits(other), asked) == (2, 1, [])


@pytest.mark.parametrize("fault", ["status 404", "status 405", ErrorCode.EXPIRED])
def test_a_server_that_does_not_take_the_ticket_is_asked_again_after_the_next_pass_only(
    standby, ticket, listener, asked, fault, monkeypatch
):
    listener.faults = [fault]
    pauses = Pauses(monkeypatch, 1)
    Vigil(standby, ticket).keep()
    assert (pauses.attempts, waits(listener), asked) == ([], 1, [])


def test_a_wake_that_the_server_did_not_make_causes_nothing(
    standby, ticket, management, asked, monkeypatch
):
    wake = management.responder.wake

    def forged(opened, *, check):
        state = replace(opened.state, wake_key=bytes(32))
        return wake(replace(opened, state=state), check=check)

    monkeypatch.setattr(management.responder, "wake", forged)
    management.ask_for_check()
    Vigil(standby, ticket).keep()
    assert asked == []


def test_a_ticket_is_good_for_two_days(standby, ticket, management, clock, asked):
    clock.time += WAIT_LIFETIME + 1
    management.ask_for_check()
    Vigil(standby, ticket).keep()
    assert asked == []


def test_what_is_given_up_ends_at_once_and_asks_for_nothing(standby, ticket, management, asked):
    vigil = Vigil(standby, ticket)
    thread = threading.Thread(target=vigil.keep)
    thread.start()
    management.await_waits(1)
    vigil.end()
    thread.join(10)
    assert not thread.is_alive()
    assert asked == []


def test_a_vigil_that_is_over_before_it_begins_opens_no_connection(
    standby, ticket, listener, monkeypatch
):
    monkeypatch.setattr(Connection, "request", lambda *_: pytest.fail("it asked"))
    vigil = Vigil(standby, ticket)
    vigil.end()
    vigil.keep()


def test_a_ca_file_that_is_gone_ends_nothing(standby, ticket, asked, monkeypatch, tmp_path):
    standby.ca_file = tmp_path / "gone.pem"
    pauses = Pauses(monkeypatch, 2)
    pauses.vigil = Vigil(standby, ticket)
    pauses.vigil.keep()
    assert (pauses.attempts, asked) == ([0, 1], [])


def test_nobody_waits_after_a_pass_that_failed(enrolled, ticket):
    begun = []

    class Recorder(Standby):
        def begin(self, ticket):
            begun.append(ticket)

    fine = type(passed())(False, (), 300, None, ticket)
    script = Script(enrolled, fine, AgentError("away", "unreachable"), fine)
    script.service._standby = Recorder(enrolled.settings.ca_file, lambda: None, lambda: 0.0)
    script.run()
    assert begun == [ticket, None, ticket]
