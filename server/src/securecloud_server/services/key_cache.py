"""Empties the memory of keys that no machine may have any more, on every node."""

from collections.abc import Iterable, Iterator

from securecloud_server.domain.ports import Database, KeptKey, KeyCache, Transaction

_AT_ONCE = 100


class KeyCacheWatch:
    """Looks whether what this process keeps may still be released; to be run every second.

    It asks for the records themselves, so it does not matter who changed them, on which node, and
    whether the key was revoked, destroyed, replaced or moved, or its device deleted.
    """

    def __init__(self, database: Database, cache: KeyCache) -> None:
        self._database = database
        self._cache = cache

    def look(self) -> None:
        """Drop what may not be released now; everything where that cannot be known."""
        kept = self._cache.kept()
        if not kept:
            return
        try:
            with self._database.read() as tx:
                self._cache.drop(kept - _releasable(tx, {each.device_id for each in kept}))
        except BaseException:
            self._cache.clear()
            raise


def _releasable(tx: Transaction, device_ids: Iterable[str]) -> set[KeptKey]:
    return {
        KeptKey(key.device_id, key.version, key.reference)
        for some in _parts(list(device_ids))
        for life in tx.keys.lives(some).values()
        for key in life.releasable()
    }


def _parts(everything: list[str]) -> Iterator[list[str]]:
    for begin in range(0, len(everything), _AT_ONCE):
        yield everything[begin : begin + _AT_ONCE]
