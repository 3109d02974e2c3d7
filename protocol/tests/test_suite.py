"""The algorithms are the ones that the specification names, and their traps are shut."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from protocol_world import refusal, stream
from securecloud_protocol import suite
from securecloud_protocol.encoding import length_prefixed
from securecloud_protocol.errors import ErrorCode

P = 2**255 - 19


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), secret, "sha256")


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    assert length <= 32
    return hmac.digest(key, info + b"\x01", "sha256")[:length]


def test_derive_is_hkdf_sha256_with_the_label_as_info() -> None:
    expected = hkdf_expand(hkdf_extract(b"salt", b"secret"), b"securecloud/1 ack mac", 32)
    assert suite.derive(b"secret", b"salt", "ack mac") == expected


def test_mac_is_hmac_sha256_over_label_and_parts() -> None:
    message = length_prefixed((b"securecloud/1 ack mac", b"one", b"two"))
    assert suite.mac(b"k", "ack mac", b"one", b"two") == hmac.digest(b"k", message, "sha256")


def test_kem_is_x_wing_in_rfc_9180_base_mode() -> None:
    """Opens a ciphertext by the definitions alone: KEM 0x647a, KDF 0x0001, AEAD 0x0002."""
    seed = stream("kem")(96)
    key = suite.KemKey(seed)
    sealed = suite.KemPublicKey(key.public).seal(b"plaintext", b"context")
    mlkem_ct, x25519_ct, ct = sealed[:1088], sealed[1088:1120], sealed[1120:]
    mlkem = MLKEM768PrivateKey.from_seed_bytes(seed[:64])
    x25519 = X25519PrivateKey.from_private_bytes(seed[64:])
    shared = hashlib.sha3_256(
        mlkem.decapsulate(mlkem_ct)
        + x25519.exchange(X25519PublicKey.from_public_bytes(x25519_ct))
        + x25519_ct
        + x25519.public_key().public_bytes_raw()
        + b"\\.//^\\"
    ).digest()
    suite_id = b"HPKE" + bytes.fromhex("647a 0001 0002")

    def extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hkdf_extract(salt, b"HPKE-v1" + suite_id + label + ikm)

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", b"context")
    secret = extract(shared, b"secret", b"")

    def expand(label: bytes, length: int) -> bytes:
        info = length.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + context
        return hkdf_expand(secret, info, length)

    opened = AESGCM(expand(b"key", 32)).decrypt(expand(b"base_nonce", 12), ct, b"")
    assert opened == b"plaintext"
    assert key.open(sealed, b"context") == b"plaintext"


def test_sizes_are_those_of_the_keys_and_ciphertexts() -> None:
    key = suite.KemKey(stream("kem")(suite.KEM_SEED_BYTES))
    assert len(key.public) == suite.KEM_KEY_BYTES
    assert len(suite.KemPublicKey(key.public).seal(b"", b"")) == suite.SEALED_OVERHEAD
    assert len(suite.encrypt(bytes(32), b"", b"", stream("n"))) == suite.AEAD_OVERHEAD


@pytest.mark.parametrize("length", [0, 95, 97])
def test_a_kem_seed_of_a_wrong_length_is_an_error_of_the_caller(length: int) -> None:
    with pytest.raises(ValueError, match="96"):
        suite.KemKey(bytes(length))


def test_sealed_octets_open_only_whole_under_their_key_and_context() -> None:
    key, stranger = suite.KemKey(stream("kem")(96)), suite.KemKey(stream("stranger")(96))
    sealed = suite.KemPublicKey(key.public).seal(bytes(32), b"context")
    for attempt in (
        lambda: key.open(sealed, b"other context"),
        lambda: stranger.open(sealed, b"context"),
        lambda: key.open(sealed[:-1], b"context"),
        lambda: key.open(b"", b"context"),
        lambda: key.open(sealed[:1088] + bytes(32) + sealed[1120:], b"context"),
    ):
        assert refusal(attempt) is ErrorCode.NOT_AUTHENTICATED


def test_public_keys_that_are_none_are_malformed() -> None:
    good = suite.KemKey(stream("kem")(96)).public
    for bad in (b"", good[:-1], good + b"\0", b"\xff" * 1184 + good[1184:]):
        assert refusal(lambda bad=bad: suite.KemPublicKey(bad)) is ErrorCode.MALFORMED


def small_order_u() -> set[int]:
    """The u-coordinates whose exchange gives zero, found by asking the primitive."""
    scalar = X25519PrivateKey.from_private_bytes(bytes(32))
    found = set()
    for u in (
        *suite._SMALL_ORDER_X25519,
        *range(2, 20),
        *range(P - 20, P - 1),
        *range(P + 2, 2**255),
    ):
        try:
            scalar.exchange(X25519PublicKey.from_public_bytes(u.to_bytes(32, "little")))
        except ValueError:
            found.add(u)
    return found


def test_x25519_points_of_small_order_are_malformed() -> None:
    assert small_order_u() == suite._SMALL_ORDER_X25519
    good = suite.KemKey(stream("kem")(96)).public
    for u in suite._SMALL_ORDER_X25519:
        for high_bit in (0, 2**255):
            bad = good[:1184] + (u + high_bit).to_bytes(32, "little")
            assert refusal(lambda bad=bad: suite.KemPublicKey(bad)) is ErrorCode.MALFORMED


def square_roots(value: int) -> set[int]:
    root = pow(value, (P + 3) // 8, P)
    candidates = (root, root * pow(2, (P - 1) // 4, P) % P)
    return {sign * each % P for each in candidates if each**2 % P == value % P for sign in (1, -1)}


def torsion_y() -> set[int]:
    """The y-coordinates of the eight points of small order, with their non-canonical forms.

    Orders 1, 2 and 4 have y = 1, -1 and 0. The double of a point of order 8 has y = 0, so its
    x² = -y², and the curve's equation becomes d·y⁴ + 2·y² = 1.
    """
    d = -121665 * pow(121666, -1, P)
    squares = {(root - 1) * pow(d, -1, P) for root in square_roots(1 + d)}
    found = {0, 1, P - 1}.union(*(square_roots(square) for square in squares))
    return found | {y + P for y in found if y + P < 2**255}


def test_ed25519_points_of_small_order_sign_nothing() -> None:
    assert torsion_y() == suite._SMALL_ORDER_ED25519
    identity_and_zero = (1).to_bytes(32, "little") + bytes(32)
    for y in suite._SMALL_ORDER_ED25519:
        for sign in (0, 2**255):
            public = (y + sign).to_bytes(32, "little")
            for number in range(16):
                verdict = refusal(
                    lambda public=public, number=number: suite.verify_signature(
                        public, identity_and_zero, "hello signature", bytes([number])
                    )
                )
                assert verdict is ErrorCode.NOT_AUTHENTICATED


def test_a_signature_holds_for_its_key_purpose_and_parts_only() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = key.public_key().public_bytes_raw()
    signature = suite.sign(key, "hello signature", b"ab", b"c")
    suite.verify_signature(public, signature, "hello signature", b"ab", b"c")
    for attempt in (
        lambda: suite.verify_signature(public, signature, "enrol signature", b"ab", b"c"),
        lambda: suite.verify_signature(public, signature, "hello signature", b"a", b"bc"),
        lambda: suite.verify_signature(public, bytes(64), "hello signature", b"ab", b"c"),
        lambda: suite.verify_signature(public, b"", "hello signature", b"ab", b"c"),
        lambda: suite.verify_signature(b"short", signature, "hello signature", b"ab", b"c"),
    ):
        assert refusal(attempt) is ErrorCode.NOT_AUTHENTICATED


def test_a_mac_holds_for_its_key_purpose_and_parts_only() -> None:
    tag = suite.mac(b"k", "ack mac", b"ab", b"c")
    suite.verify_mac(b"k", tag, "ack mac", b"ab", b"c")
    for attempt in (
        lambda: suite.verify_mac(b"x", tag, "ack mac", b"ab", b"c"),
        lambda: suite.verify_mac(b"k", tag, "receipt mac", b"ab", b"c"),
        lambda: suite.verify_mac(b"k", tag, "ack mac", b"a", b"bc"),
        lambda: suite.verify_mac(b"k", tag[:-1], "ack mac", b"ab", b"c"),
    ):
        assert refusal(attempt) is ErrorCode.NOT_AUTHENTICATED


def test_decryption_refuses_what_was_not_encrypted_so() -> None:
    sealed = suite.encrypt(bytes(32), b"text", b"associated", stream("n"))
    assert suite.decrypt(bytes(32), sealed, b"associated") == b"text"
    assert refusal(lambda: suite.decrypt(bytes(32), sealed[:27], b"")) is ErrorCode.MALFORMED
    for attempt in (
        lambda: suite.decrypt(b"\1" * 32, sealed, b"associated"),
        lambda: suite.decrypt(bytes(32), sealed, b""),
        lambda: suite.decrypt(bytes(32), sealed[:-1], b"associated"),
    ):
        assert refusal(attempt) is ErrorCode.NOT_AUTHENTICATED
