"""What the server knows of a volume on its machine, whichever answers get lost."""

from typing import Any

import pytest

from server.tests.exchange.conftest import APPROVE

DENIED = {
    "rules": [{"fact": "host_name", "operator": "equals", "value": "nobody"}],
    "on_match": {"action": "approve"},
    "on_fail": {"action": "deny"},
}


def state(server: Any) -> tuple[str | None, int | None]:
    found = server.state("web1-data")
    return found.volume_state, found.volume_state_at


def test_nothing_is_known_before_the_first_release(server: Any, machine: Any) -> None:
    server.policy("web", DENIED)
    machine.ask()
    assert state(server) == (None, None)


def test_it_follows_releases_and_acknowledgements(server: Any, machine: Any, clock: Any) -> None:
    now = int(clock())
    machine.ask()
    assert state(server) == ("released", now)
    clock.forward(5)
    machine.unlock()
    assert state(server) == ("open", now + 5)
    clock.forward(5)
    machine.ask(want="check")
    assert state(server) == ("open", now + 5), "only a change has a new time"


@pytest.mark.parametrize(
    ("result", "volume"),
    [
        ("mounted", "open"),
        ("opened", "open"),
        ("offline", "open"),
        ("verified", "closed"),
        ("failed", "failed"),
    ],
)
def test_what_became_of_a_key(server: Any, machine: Any, result: str, volume: str) -> None:
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release()
    dialogue.ack(result)
    assert state(server)[0] == volume


@pytest.mark.parametrize(
    ("result", "volume"), [("grace", "open"), ("suspended", "suspended"), ("closed", "closed")]
)
def test_what_became_of_a_denied_volume(
    server: Any, machine: Any, result: str, volume: str
) -> None:
    machine.unlock()
    server.policy("web", DENIED)
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release("check")
    dialogue.ack(result)
    assert state(server)[0] == volume
    # It asks for a check where it is open, and where its operator wants it locked.
    machine.ask(want="check")
    assert state(server)[0] == volume
    machine.ask()
    assert state(server)[0] == ("closed" if volume == "open" else volume)


def test_a_failure_is_no_news_of_what_is_open(server: Any, machine: Any) -> None:
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release()
    dialogue.ack("failed")
    # It was opened, for one, and could not be mounted.
    checking = machine.begin()
    checking.challenge()
    checking.release("check")
    assert state(server)[0] == "open"
    checking.ack("failed")
    assert state(server)[0] == "open"


def test_a_lost_acknowledgement_is_made_up_for(server: Any, machine: Any) -> None:
    machine.ask()
    machine.ask(want="check")
    assert state(server)[0] == "open"
    server.policy("web", DENIED)
    machine.reboot()
    machine.ask()
    assert state(server)[0] == "closed"


def test_a_late_acknowledgement_says_how_it_was_before(server: Any, machine: Any) -> None:
    machine.unlock()
    server.policy("web", DENIED)
    late = machine.begin()
    late.challenge()
    late.release("check")
    server.policy("web", APPROVE)
    machine.ask()
    late.ack("closed")
    assert state(server)[0] == "released"


def test_a_stranger_teaches_nothing(server: Any, machine: Any) -> None:
    machine.unlock()
    machine.lineage["web1-data"] = bytes(32)
    for _ in range(2):
        assert machine.ask().decisions[0].code == "quarantined"
        assert state(server)[0] == "open"
