"""`postpone`: move the end of a grace, as far as the policy allows."""

import argparse
import os
import signal
from contextlib import suppress

from securecloud_agent.decide.grace import in_words
from securecloud_agent.errors import AgentError, say
from securecloud_agent.main.notify import notify_terminals
from securecloud_agent.main.output import print_json
from securecloud_agent.main.wiring import Agent, make_agent, service_pid
from securecloud_agent.state.files import only_instance

_VOLUME_SECONDS = 60


def command(arguments: argparse.Namespace) -> int:
    """Postpone the locking of one device; exit status 1 when that is not allowed."""
    agent, device, by = make_agent(arguments.config), arguments.device, arguments.by
    graces = agent.graces()
    problem = ""
    # Held by whoever locks: what was told to be postponed is not locked all the same.
    with only_instance(agent.lock_file, "postpone", agent.settings.deadline + _VOLUME_SECONDS):
        try:
            graces.postpone(device, by)
        except AgentError as error:
            problem = str(error)
        shown = graces.shown(device)
    if arguments.json:
        detail = problem or None
        print_json({"changed": not problem, "device": device, "grace": shown, "detail": detail})
    if problem:
        say(problem)
        return 1
    left = graces.left(device) or 0.0
    text = f"{device}: postponed by {in_words(by)}; it is locked in {in_words(left)}"
    say(text)
    notify_terminals(text)
    _tell_service(agent)
    return 0


def _tell_service(agent: Agent) -> None:
    """Let the service ask the server, which so learns of it, and tell people of the new end."""
    service = service_pid(agent)
    if service is not None:
        with suppress(OSError):
            os.kill(service, signal.SIGHUP)
