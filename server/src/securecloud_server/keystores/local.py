"""Device keys under the master key: the reference that the database keeps is the sealed key."""

import hmac
import os

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import RandomSource, Sealer

DEVICE_KEY_BYTES = 64

_PURPOSE = "device key"


class LocalKeystore:
    """`ports.Keystore` that needs nothing but the master key."""

    name = "local"

    def __init__(self, master_key: Sealer, random: RandomSource = os.urandom) -> None:
        self._master_key = master_key
        self._random = random

    def create(self, device_id: str, version: int) -> bytes:
        """Make a fresh key and return it sealed, bound to device and version."""
        return self.adopt(self._random(DEVICE_KEY_BYTES), device_id, version)

    def adopt(self, key: bytes, device_id: str, version: int) -> bytes:
        """Return the key sealed, bound to device and version."""
        return self._master_key.seal(key, _PURPOSE, device_id, str(version))

    def fetch(self, reference: bytes, device_id: str, version: int) -> bytes:
        """Return the key (64 octets)."""
        return self._master_key.open(reference, _PURPOSE, device_id, str(version))

    def renew(self, reference: bytes, device_id: str, version: int) -> bytes | None:
        """Return the key sealed anew where the master key was replaced since, else None."""
        return self._master_key.renew(reference, _PURPOSE, device_id, str(version))

    def destroy(self, reference: bytes) -> None:
        """Do nothing: the key is gone when the caller forgets the reference."""

    def close(self) -> None:
        """Do nothing."""

    def check(self) -> None:
        """Raise Unavailable unless a key can be sealed and opened."""
        probe = self.fetch(self.create("probe", 0), "probe", 0)
        if hmac.compare_digest(probe, bytes(DEVICE_KEY_BYTES)):
            raise Unavailable("the random source gives zeros")
