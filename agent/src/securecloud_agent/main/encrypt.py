"""`encrypt`: make a device's volume an encrypted one, blank or with its data."""

import argparse
import os
import signal
import sys
from typing import Any

from securecloud_agent.decide.model import State
from securecloud_agent.decide.schedule import exit_status
from securecloud_agent.errors import AgentError, say
from securecloud_agent.main.hardening import protect_process
from securecloud_agent.main.outcome import Outcome, Passed, progress_of
from securecloud_agent.main.output import print_json
from securecloud_agent.main.passes import make_pass, preview
from securecloud_agent.main.wiring import Agent, make_agent, service_pid
from securecloud_agent.state.files import only_instance
from securecloud_agent.volumes.encryptions import describe
from securecloud_agent.volumes.volumes import HELD

_VOLUME_SECONDS = 60
_LOOK_SECONDS = 0.5
_DONE = frozenset({State.OPENED, State.MOUNTED, State.VERIFIED})


def command(arguments: argparse.Namespace) -> int:
    """Begin or go on, and stay until it is done unless told not to."""
    protect_process()
    agent = make_agent(arguments.config)
    work = _Encrypt(agent, arguments.device)
    if arguments.check:
        return work.foresee(arguments)
    if work.state() in _DONE:
        say(f"{arguments.device}: is encrypted already, and {work.state()}")
        return work.report(arguments, changed=False)
    if arguments.background:
        return work.report(arguments, changed=work.hand_over())
    try:
        return work.see_through(arguments)
    except KeyboardInterrupt:
        return work.interrupt()


class _Encrypt:
    """One `encrypt` of one device."""

    def __init__(self, agent: Agent, device: str) -> None:
        self._agent = agent
        self._device = device
        self._shown = ""

    def state(self) -> State:
        return self._agent.volumes().state(self._device)

    def foresee(self, arguments: argparse.Namespace) -> int:
        """Say whether anything would be done; the server is asked for no key."""
        known = self._agent.encryptions.asked(self._device) is not None
        under_way = self.state() is State.ENCRYPTING or (arguments.background and known)
        if self.state() in _DONE or under_way:
            return self.report(arguments, changed=False)
        with self._alone():
            preview(self._agent, (self._device,), release_held=True)
        return self.report(arguments, changed=True)

    def hand_over(self) -> bool:
        """Let the service do it: it makes a pass at once and goes on over reboots.

        Return whether that is news to it.
        """
        if self.state() is State.ENCRYPTING:
            return False
        service = service_pid(self._agent)
        if service is None:
            raise AgentError(
                "the service does not run, so nobody would do it in the background; start it, or"
                " leave --background out"
            )
        with self._alone():
            # A device of another name, and a server that is away, are for the caller to know.
            preview(self._agent, (self._device,), release_held=True)
        known = self._agent.encryptions.asked(self._device) is not None
        self._agent.marks.clear(HELD, [self._device])
        self._agent.encryptions.ask(self._device)
        os.kill(service, signal.SIGHUP)
        say(f"{self._device}: the service encrypts it; see `securecloud-agent status`")
        return not known

    def see_through(self, arguments: argparse.Namespace) -> int:
        """Ask for the key, watch until the last octet, open and mount."""
        if sys.stderr.isatty():
            # There, the line that changes tells it all.
            self._agent.encryptions.tell = lambda _: None
        if self.state() is not State.ENCRYPTING:
            outcome = self._pass(ask=True)
            if outcome.outcome != "granted":
                return self._not_now(arguments, outcome)
            if self.state() in _DONE:
                return self.report(arguments, changed=True)
        self._watch()
        ended = self._agent.encryptions.progress(self._device)
        if ended is None or ended.phase != "finished":
            return self.report(arguments, changed=True, failed=True)
        self._pass()
        return self.report(arguments, changed=True, failed=self.state() not in _DONE)

    def _alone(self) -> Any:
        patience = self._agent.settings.deadline + _VOLUME_SECONDS
        return only_instance(self._agent.lock_file, "encrypt", patience)

    def _pass(self, *, ask: bool = False) -> Outcome:
        try:
            with self._alone():
                if ask:
                    # Not earlier: a pass of the service in between would take it up.
                    self._agent.marks.clear(HELD, [self._device])
                    self._agent.encryptions.ask(self._device)
                passed: Passed = make_pass(self._agent, (self._device,))
        except AgentError:
            self._agent.encryptions.withdraw(self._device)
            raise
        (outcome,) = passed.outcomes
        how = f"; {outcome.how}" if outcome.how else ""
        say(f"{self._device}: {outcome.outcome} ({outcome.code}): {outcome.detail}{how}")
        return outcome

    def _not_now(self, arguments: argparse.Namespace, outcome: Outcome) -> int:
        if outcome.outcome == "pending":
            say(f"{self._device}: it is encrypted as soon as the request is approved")
        else:
            self._agent.encryptions.withdraw(self._device)
        self.report(arguments, changed=False, outcome=outcome.outcome)
        return exit_status([outcome.outcome])

    def _watch(self) -> None:
        """Show how far it is, whoever does it; returns when nobody does it any more."""
        while self._agent.encryptions.running(self._device):
            self._show()
            self._agent.clocks.pause(_LOOK_SECONDS)
        self._show()
        if sys.stderr.isatty():
            sys.stderr.write("\n")

    def _show(self) -> None:
        """One line that changes, on a terminal. Elsewhere the thread that works tells of it."""
        progress = self._agent.encryptions.progress(self._device)
        if progress is None or not sys.stderr.isatty():
            return
        line = f"{self._device}: {describe(progress)}"
        if line != self._shown:
            self._shown = line
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def interrupt(self) -> int:
        """End in order, after the chunk under way."""
        say(f"{self._device}: ending after what is under way")
        self._agent.encryptions.stop_own()
        going_on = service_pid(self._agent) is not None
        say(
            f"{self._device}: interrupted, nothing is lost; "
            + ("the service goes on with it" if going_on else "run this again to go on with it")
        )
        return 130

    def report(
        self,
        arguments: argparse.Namespace,
        *,
        changed: bool,
        failed: bool = False,
        outcome: str = "granted",
    ) -> int:
        """Print the result; return the exit status."""
        progress = self._agent.encryptions.progress(self._device)
        if arguments.json:
            result: dict[str, Any] = {
                "changed": changed,
                "device": self._device,
                "outcome": "failed" if failed else outcome,
                "volume": str(self.state()),
                "progress": progress_of(self._agent, self._device),
            }
            print_json(result)
        if failed and progress is not None:
            say(f"{self._device}: {describe(progress)}")
        return int(failed)
