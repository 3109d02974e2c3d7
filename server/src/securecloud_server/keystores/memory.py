"""A keystore for tests that forgets everything when it goes; it can be switched off."""

import os

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import RandomSource

DEVICE_KEY_BYTES = 64


class MemoryKeystore:
    """`ports.Keystore` in a dictionary. While `away`, everything raises Unavailable."""

    name = "memory"

    def __init__(self, random: RandomSource = os.urandom) -> None:
        self._random = random
        self._keys: dict[bytes, tuple[str, int, bytes]] = {}
        self.away = False

    def create(self, device_id: str, version: int) -> bytes:
        """Make a fresh key and return its reference."""
        return self.adopt(self._random(DEVICE_KEY_BYTES), device_id, version)

    def adopt(self, key: bytes, device_id: str, version: int) -> bytes:
        """Keep the key and return its reference."""
        self.check()
        reference = self._random(16)
        self._keys[reference] = (device_id, version, key)
        return reference

    def fetch(self, reference: bytes, device_id: str, version: int) -> bytes:
        """Return the key."""
        self.check()
        owner, its_version, key = self._keys.get(reference, ("", -1, b""))
        if (owner, its_version) != (device_id, version):
            raise Unavailable("device key: there is none under this reference")
        return key

    def renew(self, _reference: bytes, _device_id: str, _version: int) -> None:
        """Do nothing: nothing here goes out of use."""

    def destroy(self, reference: bytes) -> None:
        """Forget the key."""
        self.check()
        self._keys.pop(reference, None)

    def close(self) -> None:
        """Do nothing."""

    def check(self) -> None:
        """Raise Unavailable while the keystore is away."""
        if self.away:
            raise Unavailable("the keystore is away")
