"""Watches the graces between two passes: tells people, and locks when one is over."""

from collections.abc import Callable, Collection

from securecloud_agent.decide.grace import TOLD_AT, Grace, in_words, left, told_next
from securecloud_agent.decide.offline import CODE as OFFLINE
from securecloud_agent.decide.plan import KEYLESS
from securecloud_agent.errors import AgentError, printable, say, warned
from securecloud_agent.main.notify import notify_status, notify_terminals
from securecloud_agent.main.outcome import Outcome, remember
from securecloud_agent.main.reports import Report
from securecloud_agent.main.wiring import Agent
from securecloud_agent.state.files import only_instance

_TRY_AGAIN = 15.0
_WHILE_BUSY = 1.0
_WHY_BUSY = "busy"


class Watch:
    """What the service does about graces; see `attend`."""

    def __init__(self, agent: Agent, tell: Callable[[str], None] | None = None) -> None:
        self._agent = agent
        self._graces = agent.graces()
        self._tell_terminals = tell or notify_terminals
        self._told: dict[str, tuple[float, float]] = {}
        self._not_before: dict[str, float] = {}

    def attend(self) -> tuple[float | None, bool]:
        """Lock what is due and tell what is to be told.

        Return the seconds until there is something to do again (None when no grace runs), and
        whether a server has to be told that something was locked.
        """
        waits, locked = [], False
        running = self._graces.running()
        self._tell_cancelled(running.keys())
        for device, known in running.items():
            seconds = left(known, self._agent.clocks.since_boot())
            if seconds > 0:
                self._tell(device, known, seconds)
                waits.append(seconds - told_next(seconds))
                continue
            wait = self._lock(device)
            locked |= wait is None
            if wait is not None:
                waits.append(wait)
        return min(waits, default=None), locked

    def _tell(self, device: str, known: Grace, seconds: float) -> None:
        """Tell at each step once, and again when the end was moved."""
        step = min((each for each in TOLD_AT if each >= seconds), default=float(known.period))
        if self._told.get(device) == (known.ends, step):
            return
        self._told[device] = (known.ends, step)
        text = _warning(device, self._where(device), known, seconds)
        say(text)
        notify_status(text)
        self._tell_terminals(text)

    def _tell_cancelled(self, running: Collection[str]) -> None:
        for device in [each for each in self._told if each not in running]:
            del self._told[device]
            if self._agent.volumes().state(device) not in KEYLESS:
                text = f"{self._where(device)} stays open: {device} is granted again"
                say(text)
                self._tell_terminals(text)

    def _where(self, device: str) -> str:
        try:
            found = self._agent.memory.device(device)
        except AgentError:
            return device
        return (found.mount_point if found is not None else None) or device

    def _lock(self, device: str) -> float | None:
        """Lock `device`; return None when that is done, else the seconds until the next try."""
        now = self._agent.clocks.since_boot()
        wait = self._not_before.get(device, now) - now
        if wait > 0:
            return wait
        try:
            with only_instance(self._agent.lock_file, "run", wait=0):
                # Somebody may have postponed it, or locked it, until we got here.
                again = self._graces.left(device)
                if again is None or again > 0:
                    return _WHILE_BUSY
                self._lock_now(device)
        except AgentError as error:
            if error.code == _WHY_BUSY:
                return _WHILE_BUSY
            self._not_before[device] = self._agent.clocks.since_boot() + _TRY_AGAIN
            say(f"{device}: its grace is over and it could not be locked: {error}")
            return _TRY_AGAIN
        self._not_before.pop(device, None)
        self._told.pop(device, None)
        return None

    def _lock_now(self, device: str) -> None:
        code = (self._graces.of(device) or Grace(0.0, 0, 0)).code
        offline = code == OFFLINE
        what = "its time without a server" if offline else "its grace"
        say(f"{device}: {what} is over ({code})")
        if offline:
            with warned(f"{device}: its sealed key is still on this machine"):
                self._agent.offline_keys().remove(device)
        locked = self._agent.volumes().lock(device)
        self._graces.end(device)
        how = printable(f"{what} was over{f', {locked.how}' if locked.how else ''}")
        say(f"{device}: {locked.state}: {how}")
        if locked.changed:
            self._agent.reports().owe(device, Report(str(locked.state), how))
        word = "failed" if offline else "denied"
        outcome = Outcome(device, word, code, how, str(locked.state), "", None)
        with warned("the outcome could not be remembered"):
            remember(self._agent, [outcome], None)


def _warning(device: str, where: str, known: Grace, seconds: float) -> str:
    if known.code == OFFLINE:
        return (
            f"{where} is locked in {in_words(seconds)} (opened without a server) unless a server is"
            " reached before; finish what uses it"
        )
    may = (
        f"; `securecloud-agent postpone {device}` gives up to {in_words(known.postpone_left)} more"
        if known.postpone_left
        else ""
    )
    return (
        f"{where} is locked in {in_words(seconds)} (denied: {known.code}); finish what uses it{may}"
    )
