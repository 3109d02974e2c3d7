"""What the server must remember between two messages, sealed into tokens that only it can read.

A token is salt (32 octets) ‖ AES-256-GCM output. Each has a key of its own, derived from its salt,
so that the number of tokens under one long-lived key is not bounded by the 96-bit nonce (NIST SP
800-38D, section 8.3). The layouts are private to the server; a change of one changes its purpose
string, and then agents simply begin anew.
"""

import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.suite import RandomSource, derive

_SALT_BYTES = 32
_NONCE = bytes(12)
_SESSION = struct.Struct(">36s36s32s32s1216sQQQQ")
_ACK = struct.Struct(">36s16s32s32s32s32s32s32s32sQQ")


class TokenSealer:
    """Seals tokens of one purpose."""

    def __init__(self, key: bytes, purpose: str, random: RandomSource) -> None:
        self._key = key
        self._purpose = purpose
        self._random = random

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """Return a token that opens only together with `associated`."""
        salt = self._random(_SALT_BYTES)
        return salt + self._cipher(salt).encrypt(_NONCE, plaintext, associated)

    def open(self, token: bytes, associated: bytes) -> bytes:
        """Return what `seal` sealed; refuse everything else."""
        salt, sealed = token[:_SALT_BYTES], token[_SALT_BYTES:]
        try:
            return self._cipher(salt).decrypt(_NONCE, sealed, associated)
        except InvalidTag:
            raise ProtocolError(
                ErrorCode.NOT_AUTHENTICATED, f"{self._purpose}: not made by this server"
            ) from None

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(derive(self._key, salt, self._purpose))


@dataclass(frozen=True, slots=True)
class SessionState:
    """What the challenge token seals.

    `last_check` is the number of the last check that was asked for when the Hello came, 0 for none.
    """

    agent_id: str
    boot_id: str
    hello_digest: bytes
    secret: bytes = field(repr=False)
    reply_key: bytes = field(repr=False)
    issued_at: int
    agent_time: int
    seen_audit_size: int
    last_check: int = 0

    def pack(self) -> bytes:
        """Return the fixed layout."""
        return _SESSION.pack(
            self.agent_id.encode(),
            self.boot_id.encode(),
            self.hello_digest,
            self.secret,
            self.reply_key,
            self.issued_at,
            self.agent_time,
            self.seen_audit_size,
            self.last_check,
        )


def unpack_session(packed: bytes) -> SessionState:
    """Return the state; `packed` comes out of a token of ours and so has the layout."""
    agent_id, boot_id, *rest = _SESSION.unpack(packed)
    return SessionState(agent_id.decode(), boot_id.decode(), *rest)


@dataclass(frozen=True, slots=True)
class AckState:
    """What the ack token seals; `devices` are those that the release decided on.

    `last_check` is the session's.
    """

    agent_id: str
    session_id: bytes
    transcript: bytes
    ack_key: bytes = field(repr=False)
    receipt_key: bytes = field(repr=False)
    copy_key: bytes = field(repr=False)
    kept_key: bytes = field(repr=False)
    wait_key: bytes = field(repr=False)
    wake_key: bytes = field(repr=False)
    issued_at: int
    last_check: int
    devices: tuple[str, ...]

    def pack(self) -> bytes:
        """Return the fixed layout, then the names."""
        fixed = _ACK.pack(
            self.agent_id.encode(),
            self.session_id,
            self.transcript,
            self.ack_key,
            self.receipt_key,
            self.copy_key,
            self.kept_key,
            self.wait_key,
            self.wake_key,
            self.issued_at,
            self.last_check,
        )
        return fixed + " ".join(self.devices).encode()


def unpack_ack(packed: bytes) -> AckState:
    """Return the state; `packed` comes out of a token of ours and so has the layout."""
    agent_id, *rest = _ACK.unpack_from(packed)
    rest.append(tuple(packed[_ACK.size :].decode().split()))
    return AckState(agent_id.decode(), *rest)
