"""Device keys in a KMIP server.

A key is a Secret Data object of our making, for no symmetric key that a server would generate has
64 octets. The reference that the database keeps is: format (1 octet), a tag over device, version
and key (16), the object's identifier. Whatever a server answers, it is this device's key or none.
"""

import hashlib
import hmac
import os
from collections.abc import Callable
from typing import TypeVar

from securecloud_protocol.encoding import length_prefixed

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import RandomSource
from securecloud_server.keystores.kmip_link import Absent, Broken, Link, Open
from securecloud_server.keystores.kmip_pool import Pool

DEVICE_KEY_BYTES = 64

_FORMAT = b"\x01"
_TAG_BYTES = 16
_HEADER_BYTES = len(_FORMAT) + _TAG_BYTES
_LONGEST_IDENTIFIER = 256
_NEEDED = ("REGISTER", "ACTIVATE", "GET", "GET_ATTRIBUTES", "REVOKE", "DESTROY")

T = TypeVar("T")


class KmipKeystore:
    """`ports.Keystore` in a KMIP server, with warm connections that no two threads share."""

    name = "kmip"

    def __init__(self, connect: Open, random: RandomSource = os.urandom) -> None:
        self._pool = Pool(connect)
        self._random = random

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def create(self, device_id: str, version: int) -> bytes:
        """Register a fresh key, activate it, and return its reference."""
        return self.adopt(self._random(DEVICE_KEY_BYTES), device_id, version)

    def adopt(self, key: bytes, device_id: str, version: int) -> bytes:
        """Register the key, activate it, and return its reference."""
        identifier = self._once(lambda link: link.register(key, f"{device_id} {version}"))
        self._once(lambda link: link.activate(identifier))
        return _FORMAT + _tag(key, device_id, version) + identifier.encode()

    def fetch(self, reference: bytes, device_id: str, version: int) -> bytes:
        """Return the key (64 octets) of an object that is active."""
        tag, identifier = _parts(reference)
        try:
            state, key = self._repeatable(lambda link: link.get(identifier))
        except Absent:
            raise Unavailable("device key: the KMIP server does not have it") from None
        if state != "ACTIVE":
            raise Unavailable(f"device key: its state in the KMIP server is {state}")
        if not hmac.compare_digest(tag, _tag(key, device_id, version)):
            raise Unavailable("device key: what the KMIP server has is not of this device")
        return key

    def renew(self, _reference: bytes, _device_id: str, _version: int) -> None:
        """Do nothing: an identifier stays what it is."""

    def destroy(self, reference: bytes) -> None:
        """Deactivate and destroy the key; does nothing where it is gone."""
        _, identifier = _parts(reference)
        try:
            if self._repeatable(lambda link: link.state(identifier)) == "ACTIVE":
                self._once(lambda link: link.revoke(identifier))
            self._once(lambda link: link.destroy(identifier))
        except Absent:
            return

    def check(self) -> None:
        """Raise Unavailable unless the server answers and offers what keys need."""
        offered = self._repeatable(lambda link: link.operations())
        missing = [each for each in _NEEDED if each not in offered]
        if missing:
            raise Unavailable(f"the KMIP server does not offer {', '.join(missing)}")

    def _once(self, work: Callable[[Link], T]) -> T:
        with self._pool.link() as link:
            return work(link)

    def _repeatable(self, work: Callable[[Link], T]) -> T:
        """Do `work`; once more where a warm connection turns out to be closed, never after a
        time-out: the late answer to one question would be taken for that to the next.
        """
        try:
            return self._once(work)
        except Broken as broken:
            if not broken.unanswered:
                raise
        return self._once(work)


def _tag(key: bytes, device_id: str, version: int) -> bytes:
    bound = length_prefixed((b"securecloud/1 kmip key", device_id.encode(), b"%d" % version, key))
    return hashlib.sha256(bound).digest()[:_TAG_BYTES]


def _parts(reference: bytes) -> tuple[bytes, str]:
    tag, octets = reference[1:_HEADER_BYTES], reference[_HEADER_BYTES:]
    identifier = octets.decode("ascii", "replace")
    sound = octets.isascii() and identifier.isprintable()
    if reference[:1] != _FORMAT or not sound or not 0 < len(octets) <= _LONGEST_IDENTIFIER:
        raise Unavailable("device key: not a reference of this keystore")
    return tag, identifier
