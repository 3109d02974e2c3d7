"""Is this machine's clock right?"""

_TOLERATED = 300
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def span(seconds: float) -> str:
    """Return a length of time in words, rounded down to its largest unit."""
    amount = abs(int(seconds))
    for unit, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if amount >= unit:
            count = amount // unit
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{amount} seconds"


def skew_warning(server_time: int, own_time: int) -> str | None:
    """Return what to tell the operator when the two clocks differ by more than five minutes."""
    skew = own_time - server_time
    if abs(skew) <= _TOLERATED:
        return None
    direction = "ahead of" if skew > 0 else "behind"
    return f"this machine's clock is {span(skew)} {direction} the server's; set it (NTP)"
