"""Stands by at a server between two passes, so that what is asked for there is done at once.

What a server says here is a hint: it may cause a check and nothing else, and no more than one in a
second. The waiting is done by a thread that nobody waits for.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from securecloud_agent.client.connection import Connection, Peers
from securecloud_agent.client.failures import NotOfferedError, RefusedError, UnreachableError
from securecloud_agent.client.waiting import Ticket, patience, wait_at
from securecloud_agent.decide.schedule import backoff
from securecloud_agent.errors import AgentError, say

_SOONEST = 1.0
"""Neither do checks follow each other sooner, nor is an answer that comes sooner a good one."""
# A server that starts again meets all of its agents at once.
_FIRST_BACKOFF = 8.0
_FAILURES_TOLD = 3


class Standby:
    """Waits from `begin` to `end`, and calls `on_asked`, in a thread, at most once in between.

    `chance` in [0, 1) spreads the retries of many agents.
    """

    def __init__(
        self,
        ca_file: Path,
        on_asked: Callable[[], None],
        chance: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ca_file = ca_file
        self.chance = chance
        self.clock = clock
        self._on_asked = on_asked
        self._not_before = float("-inf")
        self._deaf = False
        self._vigil: Vigil | None = None

    def begin(self, ticket: Ticket | None) -> None:
        """Wait with what the last exchange left; with None, after one that failed, do not."""
        if ticket is not None:
            self._vigil = Vigil(self, ticket)
            threading.Thread(target=self._vigil.keep, daemon=True).start()

    def end(self) -> None:
        """Wait no more; what is under way is given up."""
        vigil, self._vigil = self._vigil, None
        if vigil is not None:
            vigil.end()

    def asked(self, over: threading.Event) -> None:
        """Hand on that a check was asked for, unless that is `over` before the next is due."""
        if not over.wait(max(0.0, self._not_before - self.clock())):
            self._not_before = self.clock() + _SOONEST
            self._on_asked()

    def heard(self) -> None:
        """Take note that waiting works."""
        self._deaf = False

    def failed(self, times: int, error: AgentError) -> None:
        """Tell once that waiting does not work, if it did not these many times in a row."""
        if times >= _FAILURES_TOLD and not self._deaf:
            self._deaf = True
            say(f"checks that are asked for at a server will come late: {error}")


class Vigil:
    """One time of waiting: from server to server until one says that a check was asked for."""

    def __init__(self, standby: Standby, ticket: Ticket) -> None:
        self._standby = standby
        self._ticket = ticket
        self._over = threading.Event()
        self._connection: Connection | None = None
        self._failures = 0

    def end(self) -> None:
        """Give up; a request under way fails at once."""
        self._over.set()
        held = self._connection
        if held is not None:
            held.close()

    def keep(self) -> None:
        """Wait until a check is asked for, the vigil is over, or the ticket is not taken."""
        standby = self._standby
        while not self._over.is_set():
            try:
                if self._wait():
                    standby.asked(self._over)
                    return
            except (NotOfferedError, RefusedError):
                # Not with this ticket: an older server, or one that does not know it any more.
                return
            except AgentError as error:
                if self._over.is_set():
                    return
                self._failures += 1
                standby.failed(self._failures, error)
                pause = backoff(self._failures - 1, standby.chance(), _FIRST_BACKOFF)
                self._over.wait(pause)

    def _wait(self) -> bool:
        """Wait on one connection, over and over; false when it was given up."""
        standby, servers = self._standby, self._ticket.servers
        url = servers[self._failures % len(servers)]
        connection = Connection(url, Peers(standby.ca_file), patience())
        self._connection = connection
        try:
            while not self._over.is_set():
                begun = standby.clock()
                if wait_at(connection, self._ticket.waiting):
                    return True
                if standby.clock() - begun < _SOONEST:
                    raise UnreachableError(f"{url}: it does not let us wait")
                self._failures = 0
                standby.heard()
        finally:
            connection.close()
        return False
