"""However often and from wherever somebody knocks: the log stays small, and no knock is lost."""

from typing import Any

import pytest
from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.records import Actor
from securecloud_server.services.refusals import MOST_STRANGERS, QUIET_SECONDS
from securecloud_server.storage.audit import SqlAuditLog

ACTION = "access.unauthenticated"


def knock(server: Any, source: str, *, name: str = "unknown", apart: str = "") -> None:
    actor = Actor("anonymous" if name == "unknown" else "agent", name, None, source)
    log = server.application.admin.refusals
    log.record(actor, ACTION, "door", "no", apart=apart)


def logged(server: Any) -> list[Any]:
    found = server.read(lambda tx: tx.audit.page(None, 10_000, {"action": ACTION}))
    return [each.event for each in found]


def knocks(server: Any) -> int:
    """How many the log knows of."""
    return sum(1 + sum(event.details.values()) for event in logged(server))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("somewhere", "elsewhere", False),
    ],
)
def test_whoever_can_have_many_addresses_counts_as_one(
    server: Any, one: str, other: str, alike: bool
) -> None:
    knock(server, one)
    knock(server, other)
    assert len(logged(server)) == (1 if alike else 2)


def test_different_people_and_doors_are_not_alike(server: Any) -> None:
    for name in ("unknown", "web1", "web2"):
        for apart in ("hello", "enrol"):
            knock(server, "192.0.2.1", name=name, apart=apart)
            knock(server, "192.0.2.1", name=name, apart=apart)
    assert len(logged(server)) == 6


def test_strangers_from_everywhere_do_not_fill_the_log(server: Any, clock: Any) -> None:
    for number in range(3 * MOST_STRANGERS):
        knock(server, f"10.0.{number // 256}.{number % 256}")
    assert len(logged(server)) == MOST_STRANGERS
    knock(server, "192.0.2.1", name="web1")
    assert len(logged(server)) == MOST_STRANGERS + 1, "who is known is heard"
    clock.forward(QUIET_SECONDS)
    knock(server, "10.0.0.1")
    assert len(logged(server)) == MOST_STRANGERS + 2


def test_no_knock_is_lost_when_there_are_too_many_addresses_to_remember(
    server: Any, clock: Any
) -> None:
    addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(1500)]
    for address in addresses:
        knock(server, address)
        knock(server, address)
    for _ in range(4):
        clock.forward(QUIET_SECONDS)
        for address in addresses[-1100:]:
            knock(server, address)
    assert len(logged(server)) == 5 * MOST_STRANGERS
    clock.forward(QUIET_SECONDS)
    for address in addresses[-1100:]:
        clock.forward(1)
        knock(server, address)
    assert knocks(server) == 2 * 1500 + 5 * 1100


def test_what_could_not_be_appended_is_counted(
    server: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise Unavailable("the disk that holds the database is full")

    for _ in range(5):
        knock(server, "192.0.2.1")
    clock.forward(QUIET_SECONDS)
    with monkeypatch.context() as patch:
        patch.setattr(SqlAuditLog, "append", full)
        with pytest.raises(Unavailable):
            knock(server, "192.0.2.1")
    knock(server, "192.0.2.1")
    assert [event.details for event in logged(server)] == [{}, {"similar_not_logged": 5}]


def test_a_clock_that_is_set_back_silences_nothing(server: Any, clock: Any) -> None:
    knock(server, "192.0.2.1")
    clock.forward(-3600)
    knock(server, "192.0.2.1")
    assert len(logged(server)) == 2
