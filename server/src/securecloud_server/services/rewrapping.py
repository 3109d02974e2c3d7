"""Replacing the master key: what is wrapped under the previous one is wrapped anew, bit by bit.

While both are configured everything opens, so this can end anywhere and begin again, on any number
of nodes at the same time. The previous key is needed until nothing is left.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.ports import Database, Transaction
from securecloud_server.domain.records import Actor, Key
from securecloud_server.services.admin import log
from securecloud_server.services.every_key import Progress, every_key, unchanged

_AT_ONCE = 50
_REWRAPPED = "key.rewrapped"
_SERVER = "server:identity"


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What came of it: how many values were wrapped anew, and why others were not, by device."""

    renewed: int
    failed: dict[str, str]


class Rewrapping:
    """Wraps anew; `renew_identity(check)` does so, or says that it is needed, for the server's own
    identity.
    """

    def __init__(
        self, database: Database, keystores: Keystores, renew_identity: Callable[[bool], bool]
    ) -> None:
        self._database = database
        self._keystores = keystores
        self._renew_identity = renew_identity

    def left(self) -> int:
        """Return how many values are still wrapped under the previous master key."""
        keys, failed = self._behind()
        return len(keys) + len(failed) + self._renew_identity(True)

    def run(self, actor: Actor, progress: Progress) -> Rewrapped:
        """Wrap everything anew, several keys in each transaction."""
        renewed = 0
        if self._renew_identity(False):
            renewed += 1
            self._database.write(lambda tx: log(tx, actor, _REWRAPPED, _SERVER, {}))
        keys, failed = self._behind()
        for begin in range(0, len(keys), _AT_ONCE):
            progress(begin, len(keys))
            some = keys[begin : begin + _AT_ONCE]
            renewed += self._database.write(partial(_put, actor, some))
        progress(len(keys), len(keys))
        return Rewrapped(renewed, failed)

    def _behind(self) -> tuple[list[tuple[str, Key, bytes]], dict[str, str]]:
        behind, failed = [], {}
        with self._database.read() as tx:
            for device, key in every_key(tx):
                try:
                    fresh = self._keystores.of(key).renew(key.reference, key.device_id, key.version)
                except Unavailable as error:
                    failed[device.name] = str(error)
                    continue
                if fresh is not None:
                    behind.append((device.name, key, fresh))
        return behind, failed


def _put(actor: Actor, keys: list[tuple[str, Key, bytes]], tx: Transaction) -> int:
    renewed = 0
    for device, key, reference in keys:
        now = unchanged(tx, key)
        if now is not None:
            tx.keys.put(replace(now, reference=reference))
            log(tx, actor, _REWRAPPED, f"device:{device}", {"key_version": key.version})
            renewed += 1
    return renewed
