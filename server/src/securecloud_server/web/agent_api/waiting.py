"""Agents that wait to be told of a check: held on the event loop, at the price of a future each.

A server connects to no machine, so a machine that is to hear at once has to be on the line. What
wakes it comes from a look at the database that is made elsewhere, for all who wait: see `tell`.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from securecloud_protocol.http_binding import LONGEST_WAIT

_HELD_SECONDS = LONGEST_WAIT - 10.0
_SPREAD = 0.2


@dataclass(eq=False, slots=True)
class _Waiter:
    """An agent on the line; `last_check` is the number of the last check that it knows of."""

    last_check: int
    told: asyncio.Future[bool | None]


class WaitingRoom:
    """Who waits now, at most `capacity` agents. Lives on one event loop; so do all calls.

    `chance` in [0, 1) spreads the ends of waits that began together; `changed` is told by how many
    the number of those who wait changes.
    """

    def __init__(
        self, capacity: int, chance: Callable[[], float], changed: Callable[[int], None]
    ) -> None:
        self._capacity = capacity
        self._chance = chance
        self._changed = changed
        self._last: dict[str, int] = {}
        self._waiting: dict[str, _Waiter] = {}
        self._closed = False

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    async def wait(self, agent_id: str, last_check: int) -> bool | None:
        """Return true once a check with a greater number was asked for, or false after a while.

        None says that the room is full, or closed. An agent waits once: when it comes again, its
        earlier wait is over (false).
        """
        if self._last.get(agent_id, 0) > last_check:
            return True
        self._dismiss(agent_id)
        if self._closed or len(self._waiting) >= self._capacity:
            return None
        loop = asyncio.get_running_loop()
        waiter = _Waiter(last_check, loop.create_future())
        self._waiting[agent_id] = waiter
        self._changed(1)
        seconds = _HELD_SECONDS * (1 - _SPREAD * self._chance())
        timer = loop.call_later(seconds, _answer, waiter, False)
        try:
            return await waiter.told
        finally:
            timer.cancel()
            if self._waiting.get(agent_id) is waiter:
                self._leave(agent_id)

    def tell(self, numbers: Mapping[str, int]) -> None:
        """Take the numbers of new checks, by agent id, and wake whom they concern."""
        self._last.update(numbers)
        for agent_id, number in numbers.items():
            waiter = self._waiting.get(agent_id)
            if waiter is not None and number > waiter.last_check:
                _answer(waiter, True)

    def close(self) -> None:
        """Send everybody away, and let nobody in: a server that stops waits for no one."""
        self._closed = True
        for waiter in self._waiting.values():
            _answer(waiter, None)

    def _dismiss(self, agent_id: str) -> None:
        waiter = self._waiting.get(agent_id)
        if waiter is not None:
            self._leave(agent_id)
            _answer(waiter, False)

    def _leave(self, agent_id: str) -> None:
        del self._waiting[agent_id]
        self._changed(-1)


def _answer(waiter: _Waiter, check: bool | None) -> None:
    if not waiter.told.done():
        waiter.told.set_result(check)
