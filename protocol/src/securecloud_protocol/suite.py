"""The one set of algorithms of protocol version 1. Nothing is negotiated.

HPKE base mode (RFC 9180) with KEM ML-KEM-768+X25519, KDF HKDF-SHA256 and AEAD AES-256-GCM; Ed25519
(RFC 8032); HMAC-SHA256 (RFC 2104); HKDF-SHA256 (RFC 5869); AES-256-GCM with a random 96-bit nonce.
"""

import hashlib
import hmac
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securecloud_protocol.encoding import length_prefixed
from securecloud_protocol.errors import ErrorCode, ProtocolError, malformed

RandomSource = Callable[[int], bytes]

SECRET_BYTES = 32
NONCE_BYTES = 32
MAC_BYTES = 32
SIGNATURE_BYTES = 64
SIGNING_KEY_BYTES = 32
KEM_SEED_BYTES = 96
"""A KEM private key: the ML-KEM-768 seed d‖z (64 octets), then the X25519 scalar (32)."""
KEM_KEY_BYTES = 1216
"""A KEM public key: the ML-KEM-768 encapsulation key (1184 octets), then the X25519 key (32)."""
SEALED_OVERHEAD = 1120 + 16
"""An HPKE ciphertext: encapsulated key (1088 + 32 octets), then the AES-256-GCM output."""
AEAD_OVERHEAD = 12 + 16
"""Nonce before, tag behind."""

_FIELD = 2**255 - 19
_SMALL_ORDER_X25519 = frozenset(
    (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD - 1,
        _FIELD,
        _FIELD + 1,
    )
)
"""u-coordinates with which every X25519 exchange gives zero (RFC 7748, section 6.1)."""
_SMALL_ORDER_ED25519 = frozenset(
    (
        0,
        1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
        _FIELD - 1,
        _FIELD,
        _FIELD + 1,
    )
)
"""y-coordinates of the points of order 1, 2, 4 and 8: anyone can sign for such a public key."""

_MLKEM_SEED_BYTES = 64
_MLKEM_KEY_BYTES = 1184
_AEAD_NONCE_BYTES = 12
_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def label(purpose: str) -> bytes:
    """Return the domain separation label of `purpose`."""
    return b"securecloud/1 " + purpose.encode("ascii")


def _refused(detail: str) -> ProtocolError:
    return ProtocolError(ErrorCode.NOT_AUTHENTICATED, detail)


class KemKey:
    """An ML-KEM-768+X25519 private key with its public half as octets."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEM_SEED_BYTES:
            raise ValueError(f"a KEM seed has {KEM_SEED_BYTES} octets")
        mlkem = MLKEM768PrivateKey.from_seed_bytes(seed[:_MLKEM_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(seed[_MLKEM_SEED_BYTES:])
        self._private = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return what `kem_seal` sealed to this key under `info`."""
        try:
            return _HPKE.decrypt(sealed, self._private, info=info)
        except (InvalidTag, ValueError):
            raise _refused("HPKE ciphertext does not open") from None


def _is_small_order(point: bytes, small: frozenset[int]) -> bool:
    return int.from_bytes(point, "little") % 2**255 in small


class KemPublicKey:
    """An ML-KEM-768+X25519 public key (1216 octets), checked once and then used."""

    def __init__(self, octets: bytes) -> None:
        mlkem, x25519 = octets[:_MLKEM_KEY_BYTES], octets[_MLKEM_KEY_BYTES:]
        if _is_small_order(x25519, _SMALL_ORDER_X25519):
            raise malformed("KEM public key: X25519 point of small order")
        try:
            self._key = MLKEM768X25519PublicKey(
                MLKEM768PublicKey.from_public_bytes(mlkem),
                X25519PublicKey.from_public_bytes(x25519),
            )
        except ValueError:
            raise malformed("not an ML-KEM-768+X25519 public key") from None

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """Return the encapsulated key and the ciphertext of `plaintext` under `info`."""
        return _HPKE.encrypt(plaintext, self._key, info=info)


def derive(secret: bytes, salt: bytes, purpose: str) -> bytes:
    """Return the 32-octet key for one direction and one purpose."""
    return HKDF(hashes.SHA256(), 32, salt, label(purpose)).derive(secret)


def mac(key: bytes, purpose: str, *parts: bytes) -> bytes:
    """Return HMAC-SHA256 over the length-prefixed label and `parts`."""
    return hmac.digest(key, length_prefixed((label(purpose), *parts)), hashlib.sha256)


def verify_mac(key: bytes, tag: bytes, purpose: str, *parts: bytes) -> None:
    """Raise unless `tag` is the MAC of `parts`."""
    if not hmac.compare_digest(tag, mac(key, purpose, *parts)):
        raise _refused(f"{purpose}: wrong MAC")


def sign(key: Ed25519PrivateKey, purpose: str, *parts: bytes) -> bytes:
    """Return the Ed25519 signature over the length-prefixed label and `parts`."""
    return key.sign(length_prefixed((label(purpose), *parts)))


def verify_signature(public: bytes, signature: bytes, purpose: str, *parts: bytes) -> None:
    """Raise unless `signature` was made by the key whose public half (32 octets) is `public`."""
    if _is_small_order(public, _SMALL_ORDER_ED25519):
        raise _refused(f"{purpose}: public key of small order")
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(signature, length_prefixed((label(purpose), *parts)))
    except (InvalidSignature, ValueError):
        raise _refused(f"{purpose}: wrong signature") from None


def encrypt(key: bytes, plaintext: bytes, associated: bytes, random: RandomSource) -> bytes:
    """Return nonce ‖ AES-256-GCM ciphertext ‖ tag."""
    nonce = random(_AEAD_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def decrypt(key: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """Return the plaintext of `encrypt`."""
    if len(ciphertext) < AEAD_OVERHEAD:
        raise malformed("ciphertext is shorter than its nonce and tag")
    nonce, body = ciphertext[:_AEAD_NONCE_BYTES], ciphertext[_AEAD_NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, body, associated)
    except InvalidTag:
        raise _refused("ciphertext does not decrypt") from None
