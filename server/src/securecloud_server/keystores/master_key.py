"""The master key: where it comes from, sealing under it, and what was sealed under the one before.

A sealed value is: format (1 octet), check value of the master key (4), nonce (12), AES-256-GCM
ciphertext with tag. Its associated data are format, purpose and context, each length-prefixed.
"""

import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from securecloud_protocol.encoding import b64u_decode, b64u_encode, length_prefixed
from securecloud_protocol.errors import ProtocolError

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import RandomSource

MASTER_KEY_BYTES = 32
SEALED = (
    "the server is sealed: its master key comes of shares; those who have them run"
    " securecloud-server keystore unseal"
)

_FORMAT = b"\x01"
_CHECK_BYTES = 4
_NONCE_BYTES = 12
_HEADER_BYTES = len(_FORMAT) + _CHECK_BYTES + _NONCE_BYTES


class MasterKey:
    """`ports.Sealer` under one AES-256 key."""

    def __init__(self, key: bytes, random: RandomSource = os.urandom) -> None:
        if len(key) != MASTER_KEY_BYTES:
            raise Unavailable(f"the master key does not have {MASTER_KEY_BYTES} octets")
        self._cipher = AESGCM(key)
        self._check = check_value(key)
        self._random = random

    def __repr__(self) -> str:
        return "MasterKey()"

    def sealed_here(self, sealed: bytes) -> bool:
        """Say whether it was this key, by its check value, under which a value was sealed."""
        return sealed[len(_FORMAT) : len(_FORMAT) + _CHECK_BYTES] == self._check

    def seal(self, secret: bytes, purpose: str, *context: str) -> bytes:
        """Return `secret` encrypted and bound to its purpose and context."""
        nonce = self._random(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret, _associated(purpose, context))
        return _FORMAT + self._check + nonce + sealed

    def open(self, sealed: bytes, purpose: str, *context: str) -> bytes:
        """Return the secret; Unavailable when this key, purpose or context is another."""
        if sealed[:1] != _FORMAT:
            raise Unavailable(f"{purpose}: not a value that this version sealed")
        if not self.sealed_here(sealed):
            raise Unavailable(f"{purpose}: sealed under another master key")
        nonce = sealed[1 + _CHECK_BYTES : _HEADER_BYTES]
        try:
            return self._cipher.decrypt(
                nonce, sealed[_HEADER_BYTES:], _associated(purpose, context)
            )
        except (InvalidTag, ValueError):
            raise Unavailable(
                f"{purpose}: does not open; it is damaged or of another object"
            ) from None


class KeyRing:
    """`ports.Sealer` under the present master key; opens what is still under the previous one."""

    def __init__(self, present: MasterKey, previous: MasterKey | None = None) -> None:
        self._present = present
        self._previous = previous

    def seal(self, secret: bytes, purpose: str, *context: str) -> bytes:
        """Return `secret` encrypted and bound to its purpose and context."""
        return self._present.seal(secret, purpose, *context)

    def open(self, sealed: bytes, purpose: str, *context: str) -> bytes:
        """Return the secret; Unavailable when neither key, or purpose or context, is right."""
        key = self._previous if self._is_behind(sealed) else None
        return (key or self._present).open(sealed, purpose, *context)

    def renew(self, sealed: bytes, purpose: str, *context: str) -> bytes | None:
        """Return a value that is sealed under the previous key sealed anew; None for any other."""
        if not self._is_behind(sealed):
            return None
        return self.seal(self.open(sealed, purpose, *context), purpose, *context)

    def _is_behind(self, sealed: bytes) -> bool:
        return self._previous is not None and self._previous.sealed_here(sealed)


def check_value(key: bytes) -> bytes:
    """Return what tells master keys apart, and nothing of the key (4 octets)."""
    return hashlib.sha256(b"securecloud/1 master key check" + key).digest()[:_CHECK_BYTES]


def load_key_ring(present: str, previous: str, random: RandomSource = os.urandom) -> KeyRing:
    """Return the keys of both sources; `previous` is empty except while it is being replaced.

    Unavailable when one is missing, malformed or readable by others, or both are one.
    """
    key = load_master_key(present, random)
    if not previous:
        return KeyRing(key)
    before = load_master_key(previous, random)
    if before.sealed_here(key.seal(b"", "probe")):
        raise Unavailable("keystore.previous_master_key is the same key as keystore.master_key")
    return KeyRing(key, before)


def load_master_key(source: str, random: RandomSource = os.urandom) -> MasterKey:
    """Return the key at `file:/path`, `credential:NAME` (systemd.exec, LoadCredential=) or
    `shares:/path`, where it is when enough people have given their shares.

    Unavailable when it is missing, malformed, or readable by others than its owner.
    """
    path = master_key_path(source)
    try:
        with path.open("rb") as file:
            in_the_open = os.fstat(file.fileno()).st_mode & stat.S_IRWXO
            if in_the_open and not source.startswith("credential:"):
                raise Unavailable(f"the master key {path} can be read by everyone; use mode 0600")
            text = file.read(1024).decode("ascii").strip()
        return MasterKey(b64u_decode(text), random)
    except OSError as error:
        if source.startswith("shares:") and isinstance(error, FileNotFoundError):
            raise Unavailable(SEALED) from None
        raise Unavailable(f"the master key {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, ProtocolError):
        raise Unavailable(f"the master key {path} is not base64url text") from None


def master_key_path(source: str) -> Path:
    """Return where the key of this source is."""
    scheme, _, rest = source.partition(":")
    if scheme != "credential":
        return Path(rest)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise Unavailable(f"systemd passed no credentials, so {source} cannot be read")
    return Path(directory) / rest


def create_master_key(source: str, random: RandomSource = os.urandom) -> bool:
    """Create the key file (mode 0600) unless it exists; return whether it was created.

    A systemd credential is made by `systemd-creds`, never by us: for one that is missing,
    Unavailable.
    """
    path = master_key_path(source)
    if path.exists():
        return False
    if source.startswith("shares:"):
        raise Unavailable(SEALED)
    if not source.startswith("file:"):
        raise Unavailable(f"the systemd credential {path.name} does not exist")
    text = b64u_encode(random(MASTER_KEY_BYTES)) + "\n"
    try:
        write_durably(path, text.encode())
    except FileExistsError:
        return False
    except OSError as error:
        raise Unavailable(f"the master key {path} cannot be created: {error.strerror}") from None
    return True


def write_durably(path: Path, content: bytes, owner: tuple[int, int] | None = None) -> None:
    """Create `path` (mode 0600) with `content`; all of it is on disk, or there is no such file.

    It belongs to `owner`, user and group, or to whoever this process runs as.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _associated(purpose: str, context: tuple[str, ...]) -> bytes:
    return length_prefixed((_FORMAT, purpose.encode(), *(part.encode() for part in context)))
