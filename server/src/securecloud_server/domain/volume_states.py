"""What the server knows of a volume on its machine: whether its key is out there.

The machine says so in every exchange (it asks for the key, or for a check of what it has open) and
when it acknowledges. An answer may get lost, so either corrects the other.
"""

RELEASED = "released"
"""The key went out, and no word has come back yet."""
FAILED = "failed"
"""The key went out, and the machine could not use it."""
OPEN = "open"
SUSPENDED = "suspended"
"""The machine has no key, and programs wait for it."""
CLOSED = "closed"

IN_USE = frozenset({RELEASED, OPEN, SUSPENDED})
"""The states in which somebody needs the key."""

_BY_RESULT = {
    "mounted": OPEN,
    "opened": OPEN,
    "checked": OPEN,
    "grace": OPEN,
    "offline": OPEN,
    "suspended": SUSPENDED,
    "closed": CLOSED,
    # Proved to open, on a kernel without device-mapper: nothing is left open.
    "verified": CLOSED,
}


def after_exchange(known: str | None, want: str, *, releases: bool) -> str | None:
    """Return the state after a decision on a device whose agent asked for `want`."""
    if want == "renew":
        return OPEN
    if releases:
        return RELEASED
    if want == "check":
        # Of what is open, or was locked by the machine's operator: an acknowledgement tells.
        return OPEN if known in {RELEASED, FAILED} else known
    # It has no key; only an acknowledgement tells whether somebody waits for one.
    return CLOSED if known in {RELEASED, FAILED, OPEN} else known


def after_result(known: str | None, result: str) -> str | None:
    """Return the state after an acknowledgement with this result."""
    if result == "failed":
        # What was open may be so still; the next exchange says.
        return FAILED if known == RELEASED else known
    return _BY_RESULT[result]
