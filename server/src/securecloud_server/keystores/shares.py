"""A master key that no one person has: any `needed` of its shares make it (Shamir).

What is shared is a secret of 128 bits, from which the master key is derived (HKDF, RFC 5869). A
share is text to be written down: base32 (RFC 4648) of format (1 octet), `needed` (1), number (1),
check value of the master key (4), the share (16), checksum (4).
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securecloud_server.domain.errors import FieldError, Invalid
from securecloud_server.domain.ports import RandomSource
from securecloud_server.keystores.master_key import MASTER_KEY_BYTES, check_value

MOST_SHARES = 16

_FORMAT = 1
_FEWEST = 2
_SECRET_BYTES = 16
_CHECK_BYTES = 4
_CHECKSUM_BYTES = 4
_SHARE_BYTES = 3 + _CHECK_BYTES + _SECRET_BYTES + _CHECKSUM_BYTES
_GROUP = 4
_INFO = b"securecloud/1 master key of shares"


@dataclass(frozen=True, slots=True)
class Share:
    """One person's share of the master key with this check value."""

    needed: int
    number: int
    check: bytes
    value: bytes

    def __repr__(self) -> str:
        return f"Share({self.number}, needed={self.needed})"

    def text(self) -> str:
        """Return it as it is written down: groups of four letters and digits."""
        head = bytes((_FORMAT, self.needed, self.number)) + self.check + self.value
        letters = base64.b32encode(head + _checksum(head)).decode().rstrip("=")
        return "-".join(letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP))


def split(shares: int, needed: int, random: RandomSource = os.urandom) -> list[Share]:
    """Make a fresh master key and return its shares; nobody has it until `needed` come together."""
    if not _FEWEST <= needed <= shares <= MOST_SHARES:
        expected = f"{_FEWEST} to the number of shares, which is at most {MOST_SHARES}"
        raise Invalid([FieldError("needed", expected, f"{needed} of {shares} is not possible")])
    from Crypto.Protocol.SecretSharing import Shamir  # noqa: PLC0415 - only for this command

    secret = random(_SECRET_BYTES)
    check = check_value(_master_key(secret))
    return [
        Share(needed, number, check, value)
        for number, value in Shamir.split(needed, shares, secret)
    ]


def parse(text: str) -> Share:
    """Return the share that somebody typed, in capitals or not, with or without hyphens."""
    letters = "".join(text.split()).replace("-", "").upper()
    try:
        octets = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except ValueError:
        raise _wrong("holds what is neither a letter nor one of the digits 2 to 7") from None
    if len(octets) != _SHARE_BYTES:
        raise _wrong("is not complete, or too long")
    head = octets[:-_CHECKSUM_BYTES]
    if _checksum(head) != octets[-_CHECKSUM_BYTES:]:
        raise _wrong("has a mistake in it")
    if head[0] != _FORMAT:
        raise _wrong("is not of a form that this version knows")
    return Share(head[1], head[2], head[3 : 3 + _CHECK_BYTES], head[3 + _CHECK_BYTES :])


def combine(shares: Sequence[Share]) -> bytes:
    """Return the master key of `needed` different shares."""
    from Crypto.Protocol.SecretSharing import Shamir  # noqa: PLC0415 - only for this command

    key = _master_key(bytes(Shamir.combine([(each.number, each.value) for each in shares])))
    if check_value(key) != shares[0].check:
        raise _wrong("does not go together with the others")
    return key


def require_related(share: Share, others: Sequence[Share]) -> None:
    """Raise Invalid when `share` is of another key than the others, or one of them."""
    if any((each.check, each.needed) != (share.check, share.needed) for each in others):
        raise _wrong("is of another master key than those that are here")
    if any(each.number == share.number for each in others):
        raise _wrong(f"is number {share.number}, which is here already")


def _master_key(secret: bytes) -> bytes:
    return HKDF(SHA256(), MASTER_KEY_BYTES, salt=None, info=_INFO).derive(secret)


def _checksum(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()[:_CHECKSUM_BYTES]


def _wrong(how: str) -> Invalid:
    return Invalid(
        [FieldError("share", "44 letters and digits in groups of four", f"the share {how}")]
    )
