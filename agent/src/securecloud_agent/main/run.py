"""`run`: the agent as a service."""

import argparse
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from types import FrameType

from securecloud_agent.client.failures import NotWorkingError, UnreachableError
from securecloud_agent.client.network import Routes, has_route
from securecloud_agent.client.waiting import Ticket
from securecloud_agent.decide.offline import CODE as OFFLINE
from securecloud_agent.decide.schedule import ask_again_after
from securecloud_agent.errors import AgentError, say, warned
from securecloud_agent.main.hardening import protect_process
from securecloud_agent.main.notify import notify_ready, notify_status, notify_still_stopping
from securecloud_agent.main.outcome import Outcome, Passed, failed, remember
from securecloud_agent.main.passes import make_pass, warm_up
from securecloud_agent.main.standby import Standby
from securecloud_agent.main.watch import Watch
from securecloud_agent.main.wiring import Agent, make_agent
from securecloud_agent.main.without_server import open_kept
from securecloud_agent.probes.watch import FactWatch
from securecloud_agent.state.files import only_instance

_CHECK_INTERVAL = 300
_BOOT_RETRY = 0.5
_STOPPING_SECONDS = 60
# Routes and addresses are told by the kernel; a name server that answers at last is not.
_NETWORK_POLL = 0.25
_FACTS_POLL = 5.0
_NO_TIME_FOR_A_PASS = 3.0
# Waiting is not counted while the machine sleeps, and a grace is.
_LONGEST_REST_IN_A_GRACE = 30.0
_LOCK_SECONDS = 10.0
_WHY_BUSY = "busy"

_OPEN = frozenset({"verified", "opened", "mounted"})

Pass = Callable[[Agent, tuple[str, ...]], Passed]


def command(arguments: argparse.Namespace) -> int:
    """Work until SIGTERM or SIGINT; volumes stay as they are at the end."""
    protect_process()
    agent = make_agent(arguments.config)
    service = Service(agent, make_pass)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, service.on_stop)
    signal.signal(signal.SIGHUP, service.on_check)
    agent.encryptions.on_end = service.check_now
    with only_instance(agent.service_lock, "run", wait=0):
        try:
            warm_up(agent)
            service.work()
        finally:
            agent.encryptions.stop_own(lambda: notify_still_stopping(_STOPPING_SECONDS))
    return 0


class Service:
    """Passes, one after the other, each followed by a wait that a signal cuts short."""

    def __init__(
        self,
        agent: Agent,
        make: Pass,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
        watch: Watch | None = None,
        standby: Standby | None = None,
        open_kept: Callable[[Agent], tuple[Outcome, ...]] = open_kept,
    ) -> None:
        self._agent = agent
        self._watch = watch or Watch(agent)
        self._make = make
        self._open_kept = open_kept
        self._wait = wait
        self._wake = threading.Event()
        self._stopping = False
        self._failures = 0
        self._reached = False
        self._away_since: float | None = agent.clocks.monotonic()
        self._told: dict[str, str] = {}
        self._facts: FactWatch | None = None
        self._ticket: Ticket | None = None
        self._standby = standby or Standby(
            agent.settings.ca_file, self._on_asked, agent.clocks.chance
        )

    def on_stop(self, _number: int, _frame: FrameType | None) -> None:
        """End after the pass under way."""
        self._stopping = True
        self._wake.set()

    def on_check(self, _number: int, _frame: FrameType | None) -> None:
        """Check now."""
        self.check_now()

    def check_now(self) -> None:
        """Make a pass at once; also from another thread."""
        self._wake.set()

    def _on_asked(self) -> None:
        say("checking now, for somebody asked the server for it")
        self.check_now()

    def work(self) -> None:
        """Pass and wait until told to stop."""
        say("started")
        # What was due while nobody was here does not wait for the network.
        self._watch.attend()
        give_up = self._agent.clocks.monotonic() + self._agent.settings.deadline
        self._await_network(min(give_up, self._agent.clocks.monotonic() + self._soonest()))
        ready = False
        while not self._stopping:
            self._end_what_is_due()
            self._wake.clear()
            pause = self.one_pass()
            self._go_on_without_a_server()
            if not ready and not self._reached and self._agent.clocks.monotonic() < give_up:
                pause = min(pause, _BOOT_RETRY)
                # Tries this close to each other say nothing of how long the server will be away.
                self._failures = 0
            else:
                # Whatever waits at boot waits no longer than this.
                ready = True
                notify_ready()
            # A signal between the pass and here has set the event already, so nothing is missed.
            self._standby.begin(self._ticket)
            self._rest(pause)
            self._standby.end()
        say("stopped; open volumes stay open")

    def _rest(self, pause: float) -> None:
        """Wait for the next pass, no longer than until somebody wakes the service or a watched fact
        changes; meanwhile people are told how long a grace lasts, and it ends.
        """
        before = self._agent.graces().ask_before()
        rest = pause if before is None else min(pause, before)
        while not self._stopping:
            due, locked = self._watch.attend()
            if locked:
                return
            wait = rest if due is None else min(due, rest, _LONGEST_REST_IN_A_GRACE)
            wait = min(wait, _FACTS_POLL) if self._facts else wait
            self._wait(self._wake, wait)
            rest -= wait
            if rest <= 0 or self._wake.is_set() or self._a_fact_changed():
                return

    def _a_fact_changed(self) -> bool:
        names = self._facts.changed(self._agent.clocks.monotonic()) if self._facts else []
        if names:
            say(f"checking now, for this may have changed: {', '.join(names)}")
        return bool(names)

    def _soonest(self) -> float:
        soonest = self._agent.graces().soonest()
        return float("inf") if soonest is None else max(0.0, soonest)

    def _end_what_is_due(self) -> None:
        """Begin no pass into the end of a grace: it would come to nothing and be late."""
        while not self._stopping:
            soonest = self._soonest()
            if soonest > _NO_TIME_FOR_A_PASS:
                return
            due, _ = self._watch.attend()
            if due is None or soonest <= 0:
                # What cannot be locked is tried again between passes, which go on.
                return
            self._wait(threading.Event(), due)

    def _await_network(self, give_up: float) -> None:
        """Wait for a route to a server: the service starts before the network does."""
        clocks, servers = self._agent.clocks, self._agent.settings.servers
        with closing(Routes()) as routes:
            while not self._stopping and clocks.monotonic() < give_up and not has_route(servers):
                routes.wait(_NETWORK_POLL)

    def one_pass(self) -> float:
        """Make one pass and return the seconds until the next."""
        agent = self._agent
        try:
            with only_instance(agent.lock_file, "run", min(_LOCK_SECONDS, self._soonest())):
                passed = self._make(agent, ())
            broken = any(each.outcome == "failed" for each in passed.outcomes)
            self._failures = self._failures + 1 if broken else 0
            self._reached = True
            self._away_since = None
            self._facts, self._ticket = passed.facts, passed.ticket
        except AgentError as error:
            # One that failed would be asked for again at once.
            self._ticket = None
            self._failures += 1
            self._count_as_away(error)
            # How a server is away differs from try to try.
            kind = error.code if error.code == UnreachableError.code else ""
            self._tell("", str(error), kind)
            notify_status(str(error))
            passed = Passed(False, failed(agent.memory.devices(), error), _CHECK_INTERVAL)
            self._remember_failure(passed, error)
        else:
            self._tell("", "")
            notify_status("; ".join(_brief(each) for each in passed.outcomes) or "no devices")
            for each in passed.outcomes:
                self._tell(
                    each.device, f"{each.outcome} ({each.code}), {each.volume}: {each.detail}"
                )
        retries = [each.retry_after for each in passed.outcomes if each.outcome == "pending"]
        return ask_again_after(
            retries, self._failures, passed.check_interval, agent.clocks.chance()
        )

    def _count_as_away(self, error: AgentError) -> None:
        """Count from the first try in a row that nobody answered; any answer ends that."""
        if error.code == _WHY_BUSY:
            return
        if not isinstance(error, UnreachableError) or isinstance(error, NotWorkingError):
            self._away_since = None
        elif self._away_since is None:
            self._away_since = self._agent.clocks.monotonic()

    def _go_on_without_a_server(self) -> None:
        """Open what may be opened when no server could be reached within the deadline."""
        clocks, settings = self._agent.clocks, self._agent.settings
        if self._stopping or self._away_since is None:
            return
        if clocks.monotonic() - self._away_since < settings.deadline:
            return
        try:
            with only_instance(self._agent.lock_file, "run", _LOCK_SECONDS):
                outcomes = self._open_kept(self._agent)
        except AgentError as error:
            self._tell(OFFLINE, f"nothing is opened without a server: {error}")
            return
        for each in outcomes:
            self._tell(each.device, f"{each.outcome} ({each.code}), {each.volume}: {each.detail}")
        if outcomes:
            notify_status("; ".join(_brief(each) for each in outcomes))

    def _remember_failure(self, passed: Passed, error: AgentError) -> None:
        if error.code not in ("busy", "state"):
            with warned("the outcome could not be remembered"):
                remember(self._agent, passed.outcomes, None)

    def _tell(self, subject: str, text: str, kind: str = "") -> None:
        """Write a line only when its kind, or else its text, is another than in the last pass."""
        if self._told.get(subject, "") != (kind or text):
            self._told[subject] = kind or text
            if text:
                say(f"{subject}: {text}" if subject else text)


def _brief(outcome: Outcome) -> str:
    """Of an open volume that was denied, also how long it stays so."""
    still_open = outcome.outcome == "denied" and outcome.volume in _OPEN
    how = f" ({outcome.how})" if still_open and outcome.how else ""
    return f"{outcome.device}: {outcome.outcome}, {outcome.volume}{how}"
