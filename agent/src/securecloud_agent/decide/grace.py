"""The time between a denial and the locking of an open volume: counted here, and nowhere else.

Times are seconds of a clock that only this boot has and that nobody sets (CLOCK_BOOTTIME, see
clock_gettime(2)).
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securecloud_protocol import messages as wire

TOLD_AT = (86400, 43200, 21600, 10800, 7200, 3600, 1800, 900, 600, 300, 120, 60, 30, 10)
"""At how many seconds left people are told, besides at the beginning."""

_ASK_AGAIN_BEFORE = 60.0


@dataclass(frozen=True, slots=True)
class Grace:
    """A grace that runs: when it began, its length, how much of that may be and was postponed.

    `code` is why the device was denied.
    """

    begun: float
    period: int
    postpone: int
    postponed: int = 0
    code: str = "policy"

    @property
    def ends(self) -> float:
        """When the volume is to be locked."""
        return self.begun + self.period + self.postponed

    @property
    def postpone_left(self) -> int:
        """By how many seconds the end may still be moved."""
        return self.postpone - self.postponed


def begin(offered: "wire.Grace", code: str, now: float) -> Grace:
    """Return the grace that begins with the first denial."""
    return Grace(now, offered.period, offered.postpone, 0, code)


def tighten(known: Grace, offered: "wire.Grace", code: str) -> Grace:
    """Return the grace after another denial, which never moves its end to a later time."""
    postpone = min(known.postpone, offered.postpone)
    return replace(
        known,
        period=min(known.period, offered.period),
        postpone=postpone,
        postponed=min(known.postponed, postpone),
        code=code,
    )


def postponed(known: Grace, by: int) -> Grace:
    """Return the grace with its end moved by `by` seconds; ValueError beyond what is allowed."""
    if not 0 < by <= known.postpone_left:
        raise ValueError(f"at most {known.postpone_left} s")
    return replace(known, postponed=known.postponed + by)


def left(known: Grace, now: float) -> float:
    """Return the seconds left; 0 or less when the volume is to be locked now.

    A beginning that is yet to come is none that this boot has seen: nothing is left then.
    """
    return known.ends - now if known.begun <= now else 0.0


def told_next(seconds: float) -> float:
    """Return how many seconds will be left when people are told next; 0 is the end itself."""
    return float(max((step for step in TOLD_AT if step < seconds), default=0))


def ask_before(known: Grace, now: float) -> float | None:
    """Return in how many seconds the server is asked a last time; None when that has been.

    In time before the end for an answer, and not at once after the denial.
    """
    lead = min(_ASK_AGAIN_BEFORE, known.period / 2)
    until = left(known, now) - lead
    return until if until > 0 else None


def in_words(seconds: float) -> str:
    """Return a time as people say it, rounded: `45 s`, `12 min`, `2 h 30 min`."""
    whole = max(0, round(seconds))
    if whole < 120:  # noqa: PLR2004 - below two minutes seconds count
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 120:  # noqa: PLR2004 - below two hours minutes do
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
