"""age (https://age-encryption.org): encryption to people, whose secret keys no server has."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyrage

from securecloud_server.domain.errors import FieldError, Invalid

_AT_ONCE = 64 * 1024


class AgeSealer:
    """`ports.RecipientSealer`: what is sealed is text, which `age --decrypt` takes as it is."""

    def errors(self, recipient: str) -> list[FieldError]:
        """Return what is wrong with a public key."""
        try:
            pyrage.x25519.Recipient.from_str(recipient)
        except pyrage.RecipientError:
            expected = "a public key of age (age1…)"
            return [FieldError("recipient", expected, f"expected {expected}")]
        return []

    def seal(self, secret: bytes, recipient: str) -> str:
        """Return `secret`, exactly as it is, encrypted to the public key."""
        key = pyrage.x25519.Recipient.from_str(recipient)
        sealed: bytes = pyrage.encrypt(secret, [key], armored=True)
        return sealed.decode("ascii")


def recipients_of(texts: Sequence[str]) -> list[Any]:
    """Return age recipients; Invalid when one is none, or there is none."""
    if not texts:
        raise Invalid([FieldError("recipient", "age1…", "at least one is needed")])
    try:
        return [pyrage.x25519.Recipient.from_str(text) for text in texts]
    except pyrage.RecipientError:
        message = "one of them is not a public key of age (age-keygen makes them)"
        raise Invalid([FieldError("recipient", "age1…", message)]) from None


def identities_of(text: str) -> list[Any]:
    """Return the age identities in the text of a file; Invalid when there is none."""
    lines = [line.strip() for line in text.splitlines()]
    try:
        found = [
            pyrage.x25519.Identity.from_str(line)
            for line in lines
            if line and not line.startswith("#")
        ]
    except pyrage.IdentityError:
        found = []
    if not found:
        message = "the file holds no secret key of age (age-keygen makes them)"
        raise Invalid([FieldError("identity", "AGE-SECRET-KEY-1…", message)])
    return found


def encrypt(write: Callable[[BinaryIO], None], to: BinaryIO, recipients: Sequence[Any]) -> None:
    """Encrypt what `write` writes to each recipient; nothing of it is in plain on a disk.

    What is raised by `write` or in `to` is raised here as it was.
    """
    raised: list[BaseException] = []
    with _pumped(write) as plain:
        try:
            pyrage.encrypt_io(_Witness(plain, raised), _Witness(to, raised), list(recipients))
        except pyrage.EncryptError:
            if raised:
                raise raised[0] from None
            raise


@contextmanager
def decrypted(source: BinaryIO, identities: Sequence[Any]) -> Iterator[BinaryIO]:
    """Give what is in `source` to read; what is wrong with it may be raised at the end."""
    with _pumped(lambda end: pyrage.decrypt_io(source, end, list(identities))) as plain:
        yield plain


class _Witness:
    """A file that keeps what is raised in it: pyrage would make an error of its own of that."""

    def __init__(self, file: BinaryIO, raised: list[BaseException]) -> None:
        self._file = file
        self._raised = raised

    def read(self, size: int = -1) -> bytes:
        with self._kept():
            return self._file.read(size)

    def write(self, data: bytes) -> int:
        with self._kept():
            return self._file.write(data)

    def flush(self) -> None:
        with self._kept():
            self._file.flush()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._raised.append(error)
            raise


@contextmanager
def _pumped(write: Callable[[BinaryIO], None]) -> Iterator[BinaryIO]:
    """Give what `write` writes, in another thread, to read; its error is raised at the end."""
    reading, writing = os.pipe()
    failures: list[BaseException] = []

    def pump() -> None:
        try:
            with os.fdopen(writing, "wb") as end:
                write(end)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=pump)
    thread.start()
    try:
        with os.fdopen(reading, "rb") as start:
            yield start
            # An archive may end before its padding does.
            while start.read(_AT_ONCE):
                pass
    finally:
        thread.join()
    if failures:
        raise failures[0]
