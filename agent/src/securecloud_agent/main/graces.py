"""The graces that run on this machine, remembered over restarts of the agent."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from securecloud_agent.decide import grace
from securecloud_agent.decide.grace import Grace
from securecloud_agent.decide.model import State
from securecloud_agent.decide.offline import CODE as OFFLINE
from securecloud_agent.errors import AgentError, warn, warned
from securecloud_agent.state.files import StateError
from securecloud_agent.state.memory import BootMarks

if TYPE_CHECKING:
    from securecloud_protocol.messages import DeviceDecision

GRACE = "grace"

_IN_USE = frozenset({State.VERIFIED, State.OPENED, State.MOUNTED})
"""What people can have unfinished work on."""

_OVER = Grace(begun=0.0, period=0, postpone=0)


class GraceError(AgentError):
    """An end cannot be moved so far, or there is none to move."""

    code = "grace"


class Graces:
    """Graces by device. What cannot be read counts as over, what cannot be written as none."""

    def __init__(self, marks: BootMarks, now: Callable[[], float]) -> None:
        self._marks = marks
        self._now = now

    def of(self, device: str) -> Grace | None:
        """Return the grace that runs for `device`, if any."""
        try:
            found = self._marks.content(GRACE, device)
            return None if found is None else _parsed(found)
        except (StateError, TypeError, ValueError):
            warn(f"what is remembered of the grace of {device} is damaged, so it is over")
            return _OVER

    def running(self) -> dict[str, Grace]:
        """Return every grace that runs, by device."""
        found = {device: self.of(device) for device in sorted(self._marks.devices(GRACE))}
        return {device: known for device, known in found.items() if known is not None}

    def left(self, device: str) -> float | None:
        """Return the seconds that are left to `device`, 0 or less at the end; None without one."""
        known = self.of(device)
        return None if known is None else grace.left(known, self._now())

    def soonest(self) -> float | None:
        """Return the seconds until the first grace ends; None when none runs."""
        now = self._now()
        return min((grace.left(each, now) for each in self.running().values()), default=None)

    def ask_before(self) -> float | None:
        """Return in how many seconds a server is to be asked a last time before an end."""
        now = self._now()
        found = [grace.ask_before(each, now) for each in self.running().values()]
        return min((each for each in found if each is not None), default=None)

    def heed(self, decision: "DeviceDecision", state: State) -> float | None:
        """Begin, tighten or end the grace as the server's decision on `device` says.

        Return the seconds that are left, None when no grace runs. One that was denied without
        stays remembered until it is locked: `plan` sees to that at once.
        """
        device = decision.device
        if state not in _IN_USE or decision.outcome == "granted":
            self.end(device)
            return None
        if decision.outcome == "denied" and decision.grace is not None:
            known, now = self.of(device), self._now()
            if known is None or known.code == OFFLINE:
                # With its answer the server's time has begun, and the one without a server ended.
                self._keep(device, grace.begin(decision.grace, decision.code, now))
            else:
                self._keep(device, grace.tighten(known, decision.grace, decision.code))
        return self.left(device)

    def _keep(self, device: str, known: Grace) -> None:
        """Remember; a grace that cannot be would begin anew with each denial, so it is over."""
        if known == self.of(device):
            return
        try:
            self._marks.put(GRACE, device, asdict(known))
        except StateError as error:
            warn(f"no grace for {device}: {error}")

    def begin(self, device: str, known: Grace) -> None:
        """Have `device` locked at the end of `known`; raises StateError where it would not be."""
        self._marks.put(GRACE, device, asdict(known))

    def postpone(self, device: str, by: int) -> Grace:
        """Move the end by `by` seconds; raises GraceError beyond what the policy allows."""
        known = self.of(device)
        if known is None:
            raise GraceError(f"{device}: no grace runs, so there is nothing to postpone")
        if grace.left(known, self._now()) <= 0:
            raise GraceError(f"{device}: its grace is over")
        try:
            later = grace.postponed(known, by)
        except ValueError:
            most = grace.in_words(known.postpone_left)
            allowed = f"at most {most} more" if known.postpone_left else "not any more"
            raise GraceError(
                f"{device}: the policy allows to postpone it by {allowed},"
                f" not by {grace.in_words(by)}"
            ) from None
        self._marks.put(GRACE, device, asdict(later))
        return later

    def end(self, device: str) -> None:
        """Forget the grace. One that stays on disk is over in its time, which is the safe side."""
        with warned(f"the grace of {device} could not be forgotten"):
            self._marks.clear(GRACE, [device])

    def shown(self, device: str) -> dict[str, Any] | None:
        """Return the grace as `status` prints it, times in seconds."""
        known = self.of(device)
        if known is None:
            return None
        seconds = round(max(0.0, grace.left(known, self._now())))
        return {
            "seconds_left": seconds,
            "code": known.code,
            "postponed": known.postponed,
            "postpone_left": known.postpone_left,
            "text": f"locked in {grace.in_words(seconds)}",
        }


def _parsed(found: dict[str, Any]) -> Grace:
    known = Grace(**found)
    counts = (known.period, known.postpone, known.postponed)
    sound = all(type(each) is int and each >= 0 for each in counts)
    if not sound or type(known.begun) not in (int, float) or known.postpone_left < 0:
        raise ValueError("not a grace")
    return known
