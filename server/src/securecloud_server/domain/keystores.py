"""The keystores of a server: new keys go into one, each that is there is where its record says."""

from collections.abc import Iterable
from dataclasses import dataclass

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import Keystore
from securecloud_server.domain.records import Key


@dataclass(frozen=True, slots=True)
class Keystores:
    """`active` is where new keys go; `others` are reachable, for the keys that are there."""

    active: Keystore
    others: tuple[Keystore, ...] = ()

    def of(self, key: Key) -> Keystore:
        """Return where `key` is; Unavailable when that is not configured."""
        return self.named(key.keystore)

    def named(self, name: str) -> Keystore:
        """Return the keystore of this name; Unavailable when it is not configured."""
        for keystore in (self.active, *self.others):
            if keystore.name == name:
                return keystore
        raise Unavailable(f"the key is in keystore {name}, which is not configured")

    def destroy(self, keys: Iterable[Key]) -> None:
        """Erase keys that left the database; one that cannot be erased keeps none of the others.

        Unavailable when there is such a one.
        """
        failures = []
        for key in keys:
            try:
                if key.reference:
                    self.of(key).destroy(key.reference)
            except Unavailable as error:
                failures.append(
                    f"version {key.version} of the key is no more of use here, but it is still in"
                    f" keystore {key.keystore}: {error}"
                )
        if failures:
            raise Unavailable("; ".join(failures))

    def with_instead(self, keystore: Keystore) -> "Keystores":
        """Return these with `keystore` in the place of the one of its name."""

        def chosen(each: Keystore) -> Keystore:
            return keystore if each.name == keystore.name else each

        return Keystores(chosen(self.active), tuple(map(chosen, self.others)))

    def close(self) -> None:
        """Give up all connections."""
        for keystore in (self.active, *self.others):
            keystore.close()
