"""What came of a pass, and how it is remembered."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from securecloud_agent.errors import AgentError, printable
from securecloud_agent.main.wiring import Agent


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
    """The outcome of one pass. `check_interval` is in seconds."""

    changed: bool
    outcomes: tuple[Outcome, ...]
    check_interval: int


def remember(agent: Agent, outcomes: Sequence[Outcome], server: str | None) -> None:
    """Put the outcomes into status.json beside those of the other devices."""
    status: dict[str, Any] = agent.memory.status()
    at = datetime.fromtimestamp(int(agent.clocks.now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    devices = status.get("devices", {})
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


def failed(devices: Sequence[str], error: AgentError) -> tuple[Outcome, ...]:
    """Return outcomes for devices about which the server could not be asked."""
    blank = Outcome("", "failed", error.code, printable(error), "closed", "", None)
    return tuple(replace(blank, device=device) for device in devices)
