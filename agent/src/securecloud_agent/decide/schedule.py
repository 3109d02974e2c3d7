"""When to ask again."""

_PENDING = 15
_LONGEST_BACKOFF = 60.0
_JITTER = 0.2


def ask_again_after(
    retries: list[int | None], failures: int, check_interval: int, chance: float
) -> float:
    """Return the seconds until the next exchange.

    `retries` has one entry per pending device: the server's wish, or None. `failures` counts
    failed passes in a row. `chance` in [0, 1) spreads a fleet that was started at once.
    """
    if failures:
        return backoff(failures - 1, chance)
    if retries:
        wanted = min(wish if wish else _PENDING for wish in retries)
        return max(1.0, wanted * (1 + _JITTER * chance))
    return max(1.0, check_interval * (1 - _JITTER * chance))


def backoff(attempt: int, chance: float, first: float = 1.0) -> float:
    """Return the seconds to wait after failed attempt number `attempt` (from 0), with jitter."""
    ceiling = min(_LONGEST_BACKOFF, first * 2.0 ** min(attempt, 16))
    return ceiling * (0.5 + chance / 2)


def exit_status(outcomes: list[str]) -> int:
    """Return the exit status for the outcomes of all devices: the worst one speaks."""
    for outcome, status in (("failed", 1), ("denied", 4), ("pending", 3)):
        if outcome in outcomes:
            return status
    return 0
