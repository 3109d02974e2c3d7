"""Which version of a device's key opens it, and which is to follow.

A device begins with one version. A rotation adds a successor, which takes over when the machine has
proved that its volume opens with it (KMIP 2.1, section 4.57, has the states).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from securecloud_server.domain.records import Key

USABLE = frozenset({"pre_active", "active"})
"""The states in which a key may be released."""


@dataclass(frozen=True, slots=True)
class KeyLife:
    """The version in use, whatever its state, and the one that is to replace it, if any."""

    current: Key
    successor: Key | None = None

    def releasable(self) -> tuple[Key, ...]:
        """Return the versions that a machine may be given."""
        if self.current.state not in USABLE:
            return ()
        return (self.current,) if self.successor is None else (self.current, self.successor)


def life_of(versions: Sequence[Key]) -> KeyLife:
    """Return the life of one device's key; `versions` are all of them, in their order.

    The version in use is the last that was ever activated. Before any was, it is the first.
    """
    activated = [key for key in versions if key.activated_at is not None]
    current, newest = (activated or versions[:1])[-1], versions[-1]
    is_next = newest.version > current.version and newest.state == "pre_active"
    return KeyLife(current, newest if is_next else None)
