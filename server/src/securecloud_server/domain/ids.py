"""Identifiers."""

import uuid
from collections.abc import Callable


def uuid7(unix_ms: int, random: Callable[[int], bytes]) -> str:
    """Return a UUID version 7 (RFC 9562, section 5.7): its text sorts by time of creation."""
    octets = bytearray(unix_ms.to_bytes(6, "big") + random(10))
    octets[6] = 0x70 | octets[6] & 0x0F
    octets[8] = 0x80 | octets[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(octets)))
