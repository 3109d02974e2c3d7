"""Checks on demand: what those who wait are told, and when a check counts as made."""

from collections.abc import Mapping
from dataclasses import replace

from securecloud_server.domain.ports import Database, Transaction
from securecloud_server.domain.records import Agent


def last_check(tx: Transaction, agent: Agent) -> int:
    """Return the number of the last check that was asked of the agent, 0 for none."""
    check = tx.checks.of([agent.agent_id]).get(agent.agent_id)
    return check.number if check else 0


def answered(tx: Transaction, agent: Agent, known: int, devices: int, now: int) -> None:
    """Take the agent's exchange for the check that was asked for, if it may pass for it.

    It began when check number `known` was the last one, and was about that many `devices`. Evidence
    that is older than the request, or about some devices only, does not answer it.
    """
    check = tx.checks.of([agent.agent_id]).get(agent.agent_id)
    if check is None or check.answered_at is not None or check.number > known:
        return
    if devices == len(tx.devices.of_agent(agent.name)):
        tx.checks.put(replace(check, answered_at=now))


class CheckWatch:
    """Tells which checks were asked for on any server since the last look.

    One look serves all agents that wait.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = 0

    def look(self) -> Mapping[str, int]:
        """Return the new numbers by agent id; Unavailable when the database is away."""
        with self._database.read() as tx:
            found = tx.checks.requested_after(self._seen)
        self._seen = max(found.values(), default=self._seen)
        return found
