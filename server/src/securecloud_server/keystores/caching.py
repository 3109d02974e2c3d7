"""Keys that were fetched stay in this process's memory for some seconds: its keystore is far away.

What is kept here is never a reason to release a key: the release reads the key's record in the
transaction that commits the decision. Nothing lives longer than it was set to, and whatever
leaves is overwritten. See docs/adr/0019-key-cache.md.
"""

import threading
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

from securecloud_server.domain.ports import KeptKey, Keystore

MOST_KEPT = 4096


def since_boot() -> float:
    """Return seconds on a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _nobody(_change: int) -> None:
    """Count nothing."""


@dataclass(eq=False, slots=True)
class _Entry:
    """A key, and when it has to be gone."""

    key: bytearray
    ends: float

    def __repr__(self) -> str:
        return f"_Entry(ends={self.ends})"


class CachingKeystore:
    """`ports.Keystore` in front of another one, and `ports.KeyCache` for those who empty it.

    A key is kept for `seconds` since it was asked for, at most `most` of them: the oldest makes
    room. `changed` is told by how many their number changes.
    """

    def __init__(
        self,
        keystore: Keystore,
        seconds: float,
        elapsed: Callable[[], float] = since_boot,
        most: int = MOST_KEPT,
        changed: Callable[[int], None] = _nobody,
    ) -> None:
        self.name = keystore.name
        self._keystore = keystore
        self._seconds = seconds
        self._elapsed = elapsed
        self._most = most
        self._changed = changed
        self._entries: dict[KeptKey, _Entry] = {}
        self._lock = threading.Lock()

    def create(self, device_id: str, version: int) -> bytes:
        """Have the keystore make a key; it is not kept here."""
        return self._keystore.create(device_id, version)

    def adopt(self, key: bytes, device_id: str, version: int) -> bytes:
        """Have the keystore keep the key; it is not kept here."""
        return self._keystore.adopt(key, device_id, version)

    def fetch(self, reference: bytes, device_id: str, version: int) -> bytes:
        """Return the key, from here where it was fetched a moment ago."""
        which = KeptKey(device_id, version, reference)
        asked = self._elapsed()
        found = self._found(which, asked)
        if found is None:
            found = self._keystore.fetch(reference, device_id, version)
            self._keep(which, found, asked + self._seconds)
        return found

    def renew(self, reference: bytes, device_id: str, version: int) -> bytes | None:
        """Return what the keystore does; the key stays under its old reference until it goes."""
        return self._keystore.renew(reference, device_id, version)

    def destroy(self, reference: bytes) -> None:
        """Forget the key, and have the keystore destroy it."""
        self.drop([which for which in self.kept() if which.reference == reference])
        self._keystore.destroy(reference)

    def check(self) -> None:
        """Raise Unavailable unless the keystore itself can be used."""
        self._keystore.check()

    def close(self) -> None:
        """Forget all keys, and close the keystore."""
        self.clear()
        self._keystore.close()

    # --- what empties it

    def kept(self) -> Set[KeptKey]:
        """Return which keys are here."""
        with self._lock:
            return frozenset(self._entries)

    def drop(self, keys: Iterable[KeptKey]) -> None:
        """Forget these; one that is not here is no error."""
        with self._lock:
            for which in keys:
                self._forget(which)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            for which in list(self._entries):
                self._forget(which)

    def expire(self) -> None:
        """Forget those whose time is over."""
        now = self._elapsed()
        with self._lock:
            for which in [each for each, entry in self._entries.items() if entry.ends <= now]:
                self._forget(which)

    def _found(self, which: KeptKey, now: float) -> bytes | None:
        with self._lock:
            entry = self._entries.get(which)
            return None if entry is None or entry.ends <= now else bytes(entry.key)

    def _keep(self, which: KeptKey, key: bytes, ends: float) -> None:
        with self._lock:
            self._forget(which)
            while len(self._entries) >= self._most:
                self._forget(next(iter(self._entries)))
            self._entries[which] = _Entry(bytearray(key), ends)
            self._changed(1)

    def _forget(self, which: KeptKey) -> None:
        entry = self._entries.pop(which, None)
        if entry is not None:
            entry.key[:] = bytes(len(entry.key))
            self._changed(-1)
