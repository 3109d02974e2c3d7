"""What came of a pass, and how it is remembered."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from securecloud_agent.errors import AgentError, printable
from securecloud_agent.main.wiring import Agent

if TYPE_CHECKING:
    from securecloud_agent.client.waiting import Ticket
    from securecloud_agent.probes.watch import FactWatch

NOT_OURS = "unknown_device"
"""The code of a device that this agent does not have."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one device; the members are those of the `unlock --json` contract."""

    device: str
    outcome: str
    code: str
    detail: str
    volume: str
    how: str
    retry_after: int | None


@dataclass(frozen=True, slots=True)
class Passed:
    """The outcome of one pass, `check_interval` in seconds.

    `facts` watches what was asked for, `ticket` is to wait with for a check that somebody asks for.
    """

    changed: bool
    outcomes: tuple[Outcome, ...]
    check_interval: int
    facts: "FactWatch | None" = None
    ticket: "Ticket | None" = None


def remember(
    agent: Agent, outcomes: Sequence[Outcome], server: str | None, *, all_devices: bool = False
) -> None:
    """Put the outcomes into status.json beside those of the other devices.

    `server` is None when no server was asked, and `all_devices` says that it was asked for all
    that this agent has: others are then gone from it.
    """
    status: dict[str, Any] = agent.memory.status()
    at = datetime.fromtimestamp(int(agent.clocks.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    released = agent.memory.devices()
    before: dict[str, Any] = status.get("devices", {})
    devices = {
        name: outcome for name, outcome in before.items() if not all_devices or name in released
    }
    known = {*devices, *released}
    # A name that somebody mistyped is no device of this machine.
    outcomes = [
        each for each in outcomes if each.device in known or (server and each.code != NOT_OURS)
    ]
    devices.update({each.device: {**asdict(each), "at": at} for each in outcomes})
    for each in outcomes:
        how = f"; {each.how}" if each.how else ""
        agent.marks.explain(each.device, f"{each.outcome} ({each.code}): {each.detail}{how}")
    agent.memory.remember_status(
        {"server": server or status.get("server"), "at": at, "devices": devices}
    )


def progress_of(agent: Agent, device: str) -> dict[str, Any] | None:
    """Return how far `device`'s encryption in place is, as it is printed."""
    from securecloud_agent.volumes.encryptions import describe

    found = agent.encryptions.progress(device)
    if found is None:
        return None
    return {**asdict(found), "percent": found.percent, "text": describe(found)}


def failed(devices: Iterable[str], error: AgentError) -> tuple[Outcome, ...]:
    """Return outcomes for devices about which the server could not be asked."""
    blank = Outcome("", "failed", error.code, printable(error), "closed", "", None)
    return tuple(replace(blank, device=device) for device in devices)
