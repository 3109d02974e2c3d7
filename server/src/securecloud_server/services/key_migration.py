"""Moves keys from one keystore to another, one at a time, while the server serves.

A key is fetched, kept in the other store, fetched from there and compared; then one transaction
points its record there; then the first store destroys it. Killed in between, at worst a copy that
no record points to stays in a store; the key itself is always where its record says.
"""

from dataclasses import dataclass, replace
from hmac import compare_digest

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.ports import Database, Keystore, Transaction
from securecloud_server.domain.records import Actor, Key
from securecloud_server.services.admin import log
from securecloud_server.services.every_key import Progress, every_key, unchanged


@dataclass(frozen=True, slots=True)
class Migrated:
    """What came of it: how many keys were moved, and what is in the way of others, by device."""

    moved: int
    failed: dict[str, str]


class KeyMigration:
    """Moves every key that is not in a keystore yet."""

    def __init__(self, database: Database, keystores: Keystores) -> None:
        self._database = database
        self._keystores = keystores

    def count(self, target: str) -> int:
        """Return how many keys are to be moved to the keystore `target`."""
        self._keystores.named(target)
        return len(self._left(target))

    def run(self, actor: Actor, target: str, progress: Progress) -> Migrated:
        """Move all keys; one that cannot be moved keeps no other from it."""
        store = self._keystores.named(target)
        store.check()
        left, moved, failed = self._left(target), 0, {}
        for done, (device, key) in enumerate(left):
            progress(done, len(left))
            try:
                moved += self._move(actor, device, key, store)
            except Unavailable as error:
                failed[device] = str(error)
        progress(len(left), len(left))
        return Migrated(moved, failed)

    def _left(self, target: str) -> list[tuple[str, Key]]:
        with self._database.read() as tx:
            return [(d.name, key) for d, key in every_key(tx) if key.keystore != target]

    def _move(self, actor: Actor, device: str, key: Key, store: Keystore) -> bool:
        source = self._keystores.of(key)
        material = source.fetch(key.reference, key.device_id, key.version)
        reference = store.adopt(material, key.device_id, key.version)
        if not compare_digest(store.fetch(reference, key.device_id, key.version), material):
            raise Unavailable(f"keystore {store.name} gives back another key than it got")
        moved = replace(key, keystore=store.name, reference=reference)
        if not self._database.write(lambda tx: _point(tx, actor, device, key, moved)):
            # Somebody destroyed or moved it meanwhile.
            store.destroy(reference)
            return False
        source.destroy(key.reference)
        return True


def _point(tx: Transaction, actor: Actor, device: str, before: Key, after: Key) -> bool:
    """Point the record to where the key is now, unless it is another by now."""
    now = unchanged(tx, before)
    if now is None:
        return False
    # Its state may have changed meanwhile, and stays as it is.
    tx.keys.put(replace(now, keystore=after.keystore, reference=after.reference))
    details = {"key_version": before.version, "from": before.keystore, "to": after.keystore}
    log(tx, actor, "key.moved", f"device:{device}", details)
    return True
