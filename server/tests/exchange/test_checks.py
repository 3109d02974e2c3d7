"""Checks that somebody asks for: whom they wake, and which exchange answers them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from securecloud_protocol.agent import Waiting
from securecloud_protocol.http_binding import WAIT_PATH
from securecloud_server import app
from securecloud_server.domain.records import Actor
from securecloud_server.web.agent_api import WaitingRoom, waiting
from securecloud_server.web.http import Answer, Request

from server.tests.exchange.conftest import CERTIFICATE, Clock, Machine, Server

PERSON = Actor("cli", "alice")


class Line:
    """Where agents wait at one server process."""

    def __init__(self, application: app.Application, capacity: int = 10) -> None:
        self.application = application
        self.room: WaitingRoom = app.waiting_room(application, capacity)
        self._held = app.held(application, self.room)[WAIT_PATH]

    def send(self, body: bytes | None, method: str = "POST") -> Awaitable[Answer]:
        return self._held(Request(method, WAIT_PATH, "", {}, "127.0.0.1", body))

    def look(self) -> None:
        self.room.tell(self.application.checks.look())

    async def begin(self, right: Waiting) -> "asyncio.Task[Answer]":
        """Let an agent begin to wait."""
        task = asyncio.ensure_future(self.send(right.wait()))
        await asyncio.sleep(0)
        return task

    def told(self, right: Waiting) -> bool:
        """Return what an agent is told that comes now, and would not wait."""

        async def come() -> bool:
            task = await self.begin(right)
            self.look()
            await self.begin(right)
            return right.wake((await task).body)

        return asyncio.run(come())


@pytest.fixture
def line(server: Server) -> Line:
    return Line(server.application)


def ask(server: Server) -> Any:
    return server.application.admin.agents.check(PERSON, "web1").check


def check(server: Server) -> Any:
    return server.application.admin.agents.get(PERSON, "web1").check


def exchange(machine: Machine, *devices: str) -> Waiting:
    dialogue = machine.begin(*devices)
    dialogue.challenge()
    dialogue.release()
    return dialogue.exchange.waiting


def test_a_check_wakes_the_agent_that_waits(server: Server, machine: Machine, line: Line) -> None:
    right = exchange(machine)

    async def story() -> Answer:
        task = await line.begin(right)
        line.look()
        await asyncio.sleep(0)
        assert not task.done()
        ask(server)
        line.look()
        return await task

    answer = asyncio.run(story())
    assert (answer.status, right.wake(answer.body)) == (200, True)
    assert len(line.room) == 0


def test_one_that_was_asked_for_before_it_came_is_told_at_once(
    server: Server, machine: Machine, line: Line
) -> None:
    right = exchange(machine)
    ask(server)
    line.look()
    answer = asyncio.run(asyncio.wait_for(line.send(right.wait()), 5))
    assert right.wake(answer.body) is True


def test_the_exchange_that_follows_answers_it(
    server: Server, machine: Machine, line: Line, clock: Clock
) -> None:
    asked_at = int(clock())
    ask(server)
    clock.forward(3)
    right = exchange(machine)
    assert (check(server).requested_at, check(server).answered_at) == (asked_at, asked_at + 3)
    assert line.told(right) is False
    clock.forward(3)
    exchange(machine)
    assert check(server).answered_at == asked_at + 3, "only the first answers it"


def test_evidence_that_is_older_than_the_request_does_not_answer_it(
    server: Server, machine: Machine, line: Line
) -> None:
    dialogue = machine.begin()
    dialogue.challenge()
    ask(server)
    dialogue.release()
    assert check(server).answered_at is None
    assert line.told(dialogue.exchange.waiting) is True
    exchange(machine)
    assert check(server).answered_at is not None


def test_an_exchange_about_some_devices_does_not_answer_it(
    server: Server, machine: Machine, line: Line
) -> None:
    server.device("web1-logs", "web1")
    ask(server)
    exchange(machine, "web1-logs")
    assert check(server).answered_at is None
    exchange(machine, "web1-logs", "web1-data")
    assert check(server).answered_at is not None


def test_a_machine_without_devices_answers_too(server: Server) -> None:
    machine = server.machine("web1")
    ask(server)
    exchange(machine)
    assert check(server).answered_at is not None


def test_a_second_request_wakes_again(server: Server, machine: Machine, line: Line) -> None:
    first = ask(server)
    dialogue = machine.begin()
    dialogue.challenge()
    second = ask(server)
    assert second.number > first.number
    dialogue.release()
    assert check(server).answered_at is None
    assert line.told(dialogue.exchange.waiting) is True


def test_a_check_of_one_agent_wakes_no_other(server: Server, machine: Machine, line: Line) -> None:
    exchange(machine)
    other = server.machine("web2")
    right = exchange(other)
    ask(server)
    assert line.told(right) is False


def test_a_refused_exchange_answers_nothing(server: Server, machine: Machine) -> None:
    ask(server)
    dialogue = machine.begin()
    dialogue.challenge()
    server.change_device("web1-data", group=None)
    server.policy("web", {})
    server.post("evidence", dialogue.evidence())
    assert check(server).answered_at is None


@pytest.fixture
def second(server: Server, tmp_path: Path, clock: Clock) -> Iterator[app.Application]:
    """Another process on the same database."""
    application = app.build(server.application.settings, [CERTIFICATE], clock=clock)
    yield application
    application.close()


def test_a_check_that_one_process_was_asked_for_wakes_who_waits_at_another(
    server: Server, machine: Machine, second: app.Application
) -> None:
    right = exchange(machine)
    there = Line(second)

    async def story() -> Answer:
        task = await there.begin(right)
        ask(server)
        there.look()
        return await task

    assert right.wake(asyncio.run(story()).body) is True


def test_a_process_that_starts_anew_knows_of_earlier_requests(
    server: Server, machine: Machine, second: app.Application
) -> None:
    right = exchange(machine)
    ask(server)
    assert Line(second).told(right) is True


def test_a_look_tells_each_request_once(server: Server, machine: Machine) -> None:
    number = ask(server).number
    checks = server.application.checks
    assert checks.look() == {machine.agent_id: number}
    assert checks.look() == {}


def test_who_comes_again_ends_its_earlier_wait(
    server: Server, machine: Machine, line: Line
) -> None:
    right = exchange(machine)

    async def story() -> Answer:
        earlier = await line.begin(right)
        later = await line.begin(right)
        answer = await earlier
        assert len(line.room) == 1
        assert not later.done()
        ask(server)
        line.look()
        assert right.wake((await later).body) is True
        return answer

    assert right.wake(asyncio.run(story()).body) is False


def test_a_wait_ends_by_itself(
    server: Server, machine: Machine, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < waiting._HELD_SECONDS <= 50
    monkeypatch.setattr(waiting, "_HELD_SECONDS", 0.01)
    right = exchange(machine)
    answer = asyncio.run(asyncio.wait_for(line.send(right.wait()), 10))
    assert (answer.status, right.wake(answer.body)) == (200, False)
    assert len(line.room) == 0


def gauge(server: Server) -> float:
    text = server.application.metrics.render().decode()
    (line,) = [each for each in text.splitlines() if each.startswith("securecloud_waiting_agents ")]
    return float(line.split()[1])


def test_no_more_wait_than_there_is_room_for(server: Server, machine: Machine) -> None:
    line = Line(server.application, capacity=1)
    other = exchange(server.machine("web2"))
    right = exchange(machine)

    async def story() -> Answer:
        task = await line.begin(right)
        assert gauge(server) == 1
        refused = await line.send(other.wait())
        again = await line.begin(right)
        assert not again.done(), "who waits keeps its place"
        line.room.close()
        await asyncio.gather(task, again)
        return refused

    refused = asyncio.run(story())
    assert refused.status == 503
    assert b'"unavailable"' in refused.body
    assert dict(refused.headers)["retry-after"] == "10"
    assert gauge(server) == 0


def test_a_server_that_stops_sends_all_away_and_lets_nobody_in(
    server: Server, machine: Machine, line: Line
) -> None:
    right = exchange(machine)

    async def story() -> list[Answer]:
        task = await line.begin(right)
        line.room.close()
        return [await task, await line.send(right.wait())]

    assert [answer.status for answer in asyncio.run(story())] == [503, 503]


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda data: data[:-10] + b'AAAAAAAA"}', 401),
        (lambda data: b"{}", 400),
        (lambda data: b"", 400),
        (lambda data: None, 413),
    ],
)
def test_a_stranger_is_refused_without_a_look_at_the_database(
    machine: Machine,
    line: Line,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[bytes], bytes | None],
    status: int,
) -> None:
    right = exchange(machine)
    database = line.application.database
    monkeypatch.setattr(type(database), "read", lambda _: pytest.fail("it looked"))
    monkeypatch.setattr(type(database), "write", lambda *_: pytest.fail("it wrote"))
    answer = asyncio.run(line.send(spoil(right.wait())))
    assert answer.status == status
    assert len(line.room) == 0


def test_a_wait_is_posted(line: Line) -> None:
    answer = asyncio.run(line.send(b"", "GET"))
    assert (answer.status, dict(answer.headers)["allow"]) == (405, "POST")


def test_an_agent_that_enrols_anew_has_not_been_asked(server: Server, machine: Machine) -> None:
    ask(server)
    server.database.write(lambda tx: tx.devices.delete("web1-data"))
    server.application.admin.agents.retire(PERSON, "web1")
    server.machine("web1")
    assert check(server) is None
