"""`unlock`: ask, open, mount; lock what is denied."""

import argparse
from collections.abc import Callable
from dataclasses import asdict, replace

from securecloud_agent.decide.schedule import ask_again_after, exit_status
from securecloud_agent.errors import AgentError, say
from securecloud_agent.main.hardening import protect_process
from securecloud_agent.main.outcome import Outcome, Passed, failed, remember
from securecloud_agent.main.output import print_json
from securecloud_agent.main.passes import make_pass, preview
from securecloud_agent.main.wiring import Agent, make_agent
from securecloud_agent.state.files import only_instance
from securecloud_agent.volumes.volumes import HELD

_VOLUME_SECONDS = 60


def command(arguments: argparse.Namespace) -> int:
    """Unlock devices; exit status 0 when all are granted."""
    protect_process()
    agent = make_agent(arguments.config)
    devices = tuple(dict.fromkeys(arguments.devices))
    if arguments.check:
        passed = attempt(agent, devices, foresee=preview_unlock)
    else:
        with only_instance(agent.lock_file, "unlock", _patience(agent)):
            agent.marks.clear(HELD, devices or agent.marks.devices(HELD))
        passed = _until_decided(agent, devices, arguments.wait)
    report(passed, as_json=arguments.json)
    return 0 if arguments.check and passed.error is None else passed.status


def _patience(agent: Agent) -> float:
    """A pass of the service may be under way; it ends with its deadline and some volume work."""
    return agent.settings.deadline + _VOLUME_SECONDS


class Attempted:
    """A pass, or the error that kept it from being made."""

    def __init__(self, passed: Passed, error: AgentError | None = None) -> None:
        self.changed = passed.changed
        self.outcomes = passed.outcomes
        self.error = error

    @property
    def status(self) -> int:
        """The command's exit status."""
        return 1 if self.error else exit_status([each.outcome for each in self.outcomes])


Make = Callable[[Agent, tuple[str, ...]], Passed]


def preview_unlock(agent: Agent, devices: tuple[str, ...]) -> Passed:
    """Say what `unlock` would ask for."""
    return preview(agent, devices, release_held=True)


def attempt(agent: Agent, devices: tuple[str, ...], foresee: Make | None = None) -> Attempted:
    """Make a pass, or only foresee it; an error is part of what is returned."""
    try:
        with only_instance(agent.lock_file, "unlock", _patience(agent)):
            return Attempted((foresee or make_pass)(agent, devices))
    except AgentError as error:
        volumes = agent.volumes()
        outcomes = tuple(
            replace(each, volume=str(volumes.state(each.device)))
            for each in failed(devices or agent.memory.devices(), error)
        )
        if foresee is None and error.code != "busy":
            remember(agent, outcomes, None)
        return Attempted(Passed(False, outcomes, 0), error)


def _until_decided(agent: Agent, devices: tuple[str, ...], wait: int) -> Attempted:
    clocks = agent.clocks
    give_up = clocks.monotonic() + wait
    changed = False
    while True:
        passed = attempt(agent, devices)
        changed = passed.changed = changed or passed.changed
        retries = [each.retry_after for each in passed.outcomes if each.outcome == "pending"]
        left = give_up - clocks.monotonic()
        if passed.error or not retries or left <= 0:
            return passed
        pause = min(left, ask_again_after(retries, 0, 0, clocks.chance()))
        say(f"pending; asking again in {pause:.0f} s")
        clocks.pause(pause)


def report(passed: Attempted, *, as_json: bool) -> None:
    """Tell people, and programs if they asked."""
    for each in passed.outcomes:
        say(_line(each))
    if passed.error is not None:
        say(passed.error)
    elif not passed.outcomes:
        say("no devices are registered for this agent")
    if as_json:
        result = {
            "changed": passed.changed,
            "devices": [asdict(each) for each in passed.outcomes],
        }
        if passed.error is not None:
            result["error"] = str(passed.error)
        print_json(result)


def _line(each: Outcome) -> str:
    how = f"; {each.how}" if each.how else ""
    return f"{each.device}: {each.outcome} ({each.code}), {each.volume}: {each.detail}{how}"
