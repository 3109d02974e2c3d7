"""Identifiers."""

import uuid
from collections.abc import Callable


def uuid7(unix_ms: int, random: Callable[[int], bytes]) -> str:
    """Return a UUID version 7 (RFC 9562, section 5.7): its text sorts by time of creation."""
    octets = bytearray(unix_ms.to_bytes(6, "big") + random(10))
    octets[6] = 0x70 | octets[6] & 0x0F
    octets[8] = 0x80 | octets[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(octets)))


def uuid7_after(previous: str | None, unix_ms: int, random: Callable[[int], bytes]) -> str:
    """Return a UUID version 7 that sorts behind `previous`, even when the clock went back."""
    if previous is not None:
        unix_ms = max(unix_ms, int(previous.replace("-", "")[:12], 16) + 1)
    return uuid7(unix_ms, random)
