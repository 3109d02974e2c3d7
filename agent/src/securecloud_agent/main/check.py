"""`check`: have this machine judged now, as the service does on its schedule."""

import argparse

from securecloud_agent.main.hardening import protect_process
from securecloud_agent.main.outcome import Passed
from securecloud_agent.main.passes import preview
from securecloud_agent.main.unlock import attempt, report
from securecloud_agent.main.wiring import Agent, make_agent


def _preview(agent: Agent, devices: tuple[str, ...]) -> Passed:
    return preview(agent, devices, release_held=False)


def command(arguments: argparse.Namespace) -> int:
    """Check devices; what is granted is opened, what is denied locked, what is held stays so."""
    protect_process()
    agent = make_agent(arguments.config)
    foresee = _preview if arguments.check else None
    passed = attempt(agent, tuple(dict.fromkeys(arguments.devices)), foresee)
    report(passed, as_json=arguments.json)
    return 0 if arguments.check and passed.error is None else passed.status
