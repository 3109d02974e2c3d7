"""How long a key is kept for boots without a server, and when it is sealed anew (decision 11).

The TPM itself counts boots, and the time in which it has power. What it cannot count, the time in
which the machine is off, is counted here by the clock that people set. Times are in seconds, those
of the TPM's clock in milliseconds.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securecloud_protocol.messages import Offline

CODE = "offline"
"""Why an open volume will be locked: it was opened without a server."""

_TRY_AGAIN = 3600


@dataclass(frozen=True, slots=True)
class Sealed:
    """A device key that the TPM gives out while its clock is below `clock_limit` and its count of
    resets below `reset_limit`.
    """

    key_version: int
    public: bytes
    private: bytes
    clock_limit: int
    reset_limit: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What a grant allowed, and what came of it.

    `at` is when the key was sealed, or was tried to be, in the boot `boot_id`, and `seen` the
    latest time at which it was used. Without `sealed` there is no copy: it is still to be made, or
    `problem` says why not. `boots_left` are those after the boot in which it was used last.
    """

    period: int
    boots: int
    pcrs: tuple[int, ...]
    at: int
    boot_id: str
    seen: int
    boots_left: int
    sealed: Sealed | None = None
    problem: str = ""


def begin(offer: "Offline", boot_id: str, now: float) -> Kept:
    """Return what is to be kept under `offer`, without a copy."""
    at = int(now)
    return Kept(offer.period, offer.boots, offer.pcrs, at, boot_id, at, offer.boots)


def is_under(kept: Kept, offer: "Offline") -> bool:
    """Say whether what is kept has just the bounds that are offered now."""
    return (kept.period, kept.boots, kept.pcrs) == (offer.period, offer.boots, offer.pcrs)


def is_due(kept: Kept, boot_id: str, now: float) -> bool:
    """Say whether to ask for the key of an open volume, so that its bounds count from now.

    That is due in another boot than the one in which it was sealed, which has used up one, and when
    half of the period is over. Where it could not be sealed, once an hour is enough.
    """
    if kept.sealed is None and not kept.problem:
        return True
    rest = max(_TRY_AGAIN, kept.period / 2) if kept.problem else kept.period / 2
    return kept.boot_id != boot_id or not 0 <= now - kept.at < rest


def why_not(kept: Kept, now: float) -> str | None:
    """Return why this machine's clock forbids to use the copy, or None."""
    if now < kept.seen:
        return "this machine's clock went back since the key was sealed or used last"
    if now >= kept.at + kept.period:
        return f"it was sealed for {kept.period} s, which are over by this machine's clock"
    return None


def is_over(kept: Kept, clock: int, resets: int) -> str | None:
    """Return which of the TPM's own bounds is passed, or None; none of them ever comes back."""
    sealed = kept.sealed
    if sealed is None:
        return "there is no copy"
    if resets >= sealed.reset_limit:
        boots = "1 boot, which is" if kept.boots == 1 else f"{kept.boots} boots, which are"
        return f"it was sealed for {boots} used up"
    if clock >= sealed.clock_limit:
        return f"it was sealed for {kept.period} s, which are over by the TPM's clock"
    return None


def seconds_left(kept: Kept, now: float, clock: int) -> int:
    """Return how long a volume that is opened now may stay open: until the first clock says no."""
    by_tpm = (kept.sealed.clock_limit - clock) // 1000 if kept.sealed is not None else 0
    return max(0, min(int(kept.at + kept.period - now), by_tpm))
