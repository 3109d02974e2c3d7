"""What goes wrong while something is encrypted is told as it is."""

import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pyrage
import pytest
from securecloud_server import age

PLAIN = b"x" * 300_000


@pytest.fixture
def identity() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def encrypt(identity: pyrage.x25519.Identity) -> Callable[[BinaryIO], None]:
    recipients = age.recipients_of([str(identity.to_public())])
    return lambda to: age.encrypt(_writes, to, recipients)


def _writes(end: BinaryIO) -> None:
    end.write(PLAIN)


class Ended(io.BytesIO):
    """A signal comes while it is written to."""

    def write(self, _: object) -> int:
        raise KeyboardInterrupt


def test_what_is_encrypted_can_be_read_by_age(
    encrypt: Callable[[BinaryIO], None], identity: pyrage.x25519.Identity, tmp_path: Path
) -> None:
    with (tmp_path / "file.age").open("wb") as file:
        encrypt(file)
    (tmp_path / "identity").write_text(str(identity))
    command = ["age", "--decrypt", "--identity", tmp_path / "identity", tmp_path / "file.age"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == PLAIN


def test_a_disk_without_room_is_told(encrypt: Callable[[BinaryIO], None]) -> None:
    with (
        pytest.raises(OSError, match="No space left on device"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        encrypt(full)


def test_whoever_is_interrupted_is_not_told_of_a_failure(
    encrypt: Callable[[BinaryIO], None],
) -> None:
    with pytest.raises(KeyboardInterrupt):
        encrypt(Ended())


def test_what_fails_to_be_made_is_not_taken_for_whole(identity: pyrage.x25519.Identity) -> None:
    def fails(end: BinaryIO) -> None:
        end.write(PLAIN)
        raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        age.encrypt(fails, io.BytesIO(), [identity.to_public()])


@pytest.mark.parametrize("count", [0, 1, 64])
def test_what_is_sealed_is_text_and_comes_back_exactly(
    identity: pyrage.x25519.Identity, count: int
) -> None:
    secret = bytes(range(count))
    sealed = age.AgeSealer().seal(secret, str(identity.to_public()))
    assert sealed.startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
    assert pyrage.decrypt(sealed.encode(), [identity]) == secret
