"""Devices that the server does not give to this machine any more: locked, then forgotten.

A list that the server's release confirmed is its word; that the audit log did not shrink was seen
before. So a device that is missing from it was deleted, or registered for another machine.
"""

from collections.abc import Container

from securecloud_agent.decide.model import State
from securecloud_agent.errors import AgentError, printable, say, warned
from securecloud_agent.main.device import Followed
from securecloud_agent.main.outcome import NOT_OURS, Outcome
from securecloud_agent.main.wiring import Agent
from securecloud_agent.volumes.volumes import Volumes
from securecloud_agent.volumes.work import Locked

_DETAIL = "the device is not registered for this agent any more"


def let_go(agent: Agent, volumes: Volumes, listed: Container[str]) -> list[Followed]:
    """Lock and forget each remembered device that is not `listed`; return what was not closed.

    There is no grace: its policy is gone, too. What cannot be closed is tried again.
    """
    gone = (device for device in agent.memory.devices() if device not in listed)
    return [done for device in gone if (done := _let_go(agent, volumes, device)) is not None]


def _let_go(agent: Agent, volumes: Volumes, device: str) -> Followed | None:
    with warned(f"{device}: its sealed key is still on this machine"):
        agent.offline_keys().remove(device)
    before = volumes.state(device)
    problem = ""
    try:
        locked = volumes.lock(device)
    except AgentError as error:
        locked, problem = Locked(volumes.state(device), False), printable(error)
    if locked.state is State.CLOSED and not problem:
        with warned(f"{device} could not be forgotten"):
            _forget(agent, volumes, device)
        if before is State.CLOSED:
            say(f"{device}: {_DETAIL}, so it is forgotten")
            return None
    outcome = Outcome(
        device=device,
        outcome="failed" if problem else "denied",
        code="volume" if problem else NOT_OURS,
        detail=problem or _DETAIL,
        volume=str(locked.state),
        how=locked.how,
        retry_after=None,
    )
    return Followed(outcome, locked.changed, None)


def _forget(agent: Agent, volumes: Volumes, device: str) -> None:
    """Keep its lineage and header: with a restored server, the device may come back."""
    agent.graces().end(device)
    volumes.refuse_encryption(device, _DETAIL, for_good=True)
    agent.reports().told(device)
    agent.offline_keys().told(device)
    volumes.forget(device)
    agent.memory.forget_device(device)
