"""`lock`: unmount and close, and keep closed for this boot."""

import argparse

from securecloud_agent.errors import AgentError, say
from securecloud_agent.main.output import print_json
from securecloud_agent.main.wiring import make_agent
from securecloud_agent.state.files import only_instance
from securecloud_agent.volumes.volumes import HELD

_VOLUME_SECONDS = 60


def command(arguments: argparse.Namespace) -> int:
    """Lock devices, all that this machine knows without names."""
    agent = make_agent(arguments.config)
    devices = tuple(dict.fromkeys(arguments.devices)) or agent.memory.devices()
    volumes = agent.volumes()
    results = []
    with only_instance(agent.lock_file, "lock", agent.settings.deadline + _VOLUME_SECONDS):
        for device in devices:
            agent.marks.put(HELD, device)
            try:
                changed, problem = volumes.lock(device), ""
            except AgentError as error:
                changed, problem = False, str(error)
            state = str(volumes.state(device))
            results.append(
                {"device": device, "changed": changed, "volume": state, "detail": problem}
            )
            say(f"{device}: {problem or state}")
    if arguments.json:
        print_json({"changed": any(each["changed"] for each in results), "devices": results})
    return 1 if any(each["detail"] for each in results) else 0
