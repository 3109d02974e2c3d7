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
    """Encrypt what `write` writes to each recipient; nothing of it is in plain on a disk."""
    with _pumped(write) as plain:
        pyrage.encrypt_io(plain, to, list(recipients))


@contextmanager
def decrypted(source: BinaryIO, identities: Sequence[Any]) -> Iterator[BinaryIO]:
    """Give what is in `source` to read; what is wrong with it may be raised at the end."""
    with _pumped(lambda end: pyrage.decrypt_io(source, end, list(identities))) as plain:
        yield plain


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
