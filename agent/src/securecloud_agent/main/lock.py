"""`lock`: unmount and close, or suspend what is busy, and keep it so for this boot."""

import argparse
from typing import Any

from securecloud_agent.decide.model import State
from securecloud_agent.errors import AgentError, say, warned
from securecloud_agent.main.output import print_json
from securecloud_agent.main.reports import Report
from securecloud_agent.main.wiring import Agent, make_agent
from securecloud_agent.state.files import only_instance
from securecloud_agent.volumes.volumes import HELD

_VOLUME_SECONDS = 60


def command(arguments: argparse.Namespace) -> int:
    """Lock devices, all that this machine knows without names."""
    agent = make_agent(arguments.config)
    devices = tuple(dict.fromkeys(arguments.devices)) or agent.memory.devices()
    volumes = agent.volumes()
    results, failed = [], False
    # A machine that shuts down waits less.
    patience = 20 if arguments.abandon else agent.settings.deadline + _VOLUME_SECONDS
    with only_instance(agent.lock_file, "lock", patience):
        for device in devices:
            try:
                result = _give_up(agent, device) if arguments.abandon else _lock(agent, device)
            except AgentError as error:
                failed = True
                result = {"changed": False, "detail": str(error)}
            state = str(volumes.state(device))
            results.append({"device": device, **result, "volume": state})
            say(f"{device}: {result['detail'] or state}")
    if arguments.json:
        print_json({"changed": any(each["changed"] for each in results), "devices": results})
    return 1 if failed else 0


def _lock(agent: Agent, device: str) -> dict[str, Any]:
    agent.marks.put(HELD, device)
    try:
        # First, so that it holds without a server, whatever becomes of this.
        agent.offline_keys().remove(device)
    finally:
        locked = agent.volumes().lock(device)
        agent.graces().end(device)
    if locked.changed:
        agent.reports().owe(device, Report(str(locked.state), "locked by the operator"))
    return {"changed": locked.changed, "detail": locked.how}


def _give_up(agent: Agent, device: str) -> dict[str, Any]:
    """Do nothing to a volume that is not suspended: so the machine may always ask at shutdown."""
    if agent.volumes().state(device) is not State.SUSPENDED:
        return {"changed": False, "detail": "it is not suspended; nothing is given up"}
    agent.marks.put(HELD, device)
    # Whatever suspended it took it away already; a shutdown waits for this.
    with warned(f"{device}: its sealed key is still on this machine"):
        agent.offline_keys().remove(device)
    given_up = agent.volumes().give_up(device)
    if given_up:
        agent.reports().owe(device, Report(str(State.CLOSED), "given up by the operator"))
    return {"changed": given_up, "detail": "given up"}
