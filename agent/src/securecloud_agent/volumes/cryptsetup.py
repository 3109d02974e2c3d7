"""The cryptsetup commands that are needed. The key goes through a pipe, never into argv."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from securecloud_agent.run import Finished, Follower, Runner
from securecloud_agent.volumes.header import CIPHER, KEY_BYTES, ram_copy
from securecloud_agent.volumes.trouble import VolumeError, WrongKeyError

REDUCTION = 32 * 1024 * 1024

_FORMAT_SECONDS = 120
_BEGIN_SECONDS = 600
_OPEN_SECONDS = 60
_CLOSE_SECONDS = 60
_SUSPEND_SECONDS = 300
_LARGE_SECTOR = 4096
_SMALL_SECTOR = 512
_WRONG_KEY = 2

_PBKDF = ("--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000")
_KEY_FROM_PIPE = ("--key-file=-", f"--keyfile-size={KEY_BYTES}")


class Cryptsetup:
    """Runs cryptsetup on one volume."""

    def __init__(self, run: Runner, source: Path) -> None:
        self._run = run
        self._source = str(source)

    def format(self, key: bytearray, label: str, uuid: str, size: int) -> None:
        """Write LUKS2 headers on the device of `size` octets."""
        argv = ["cryptsetup", "luksFormat", *_parameters(label, uuid, largest_sector(size))]
        done = self._run(
            [*argv, *_KEY_FROM_PIPE, "--", self._source], timeout=_FORMAT_SECONDS, secret=key
        )
        self._require(done, "format")

    def begin_encryption(
        self,
        key: bytearray,
        label: str,
        uuid: str,
        sector: int,
        pass_fds: tuple[int, ...],
        folder: Path,
    ) -> None:
        """Put LUKS2 headers before what is on the device; its last REDUCTION octets must be free.

        All data is plain still, and `encrypt` goes on from here. cryptsetup leaves a file in its
        working directory where it is killed, and would not begin again beside it.
        """
        argv = [
            "cryptsetup",
            "reencrypt",
            "--encrypt",
            "--init-only",
            f"--reduce-device-size={REDUCTION // 1024}k",
            *_parameters(label, uuid, sector),
        ]
        with TemporaryDirectory(prefix="luks-", dir=folder) as private:
            done = self._run(
                [*argv, *_KEY_FROM_PIPE, "--", self._source],
                timeout=_BEGIN_SECONDS,
                secret=key,
                pass_fds=pass_fds,
                cwd=private,
            )
        self._require(done, "begin to encrypt")

    def encrypt(
        self,
        key: bytearray,
        follow: Follower,
        pass_fds: tuple[int, ...],
        line: Callable[[bytes], None],
        stop: Callable[[], bool],
    ) -> None:
        """Encrypt what is still plain, chunk by chunk; an interruption at any moment loses nothing.

        Offline: the volume is not open meanwhile. Ended in the middle of an online one, cryptsetup
        would leave behind a device that hangs whoever touches it until the machine is reset.
        """
        self._recover(key, pass_fds)
        argv = ["cryptsetup", "reencrypt", "--resume-only", "--batch-mode", "--type=luks2"]
        if Path(self._source).is_file():
            # Nobody can have opened it unnoticed: see usage.py.
            argv.append("--force-offline-reencrypt")
        argv += ["--progress-json", "--progress-frequency=1"]
        done = follow(
            [*argv, *_KEY_FROM_PIPE, "--", self._source],
            secret=key,
            pass_fds=pass_fds,
            line=line,
            stop=stop,
        )
        self._require(done, "encrypt")

    def _recover(self, key: bytearray, pass_fds: tuple[int, ...]) -> None:
        """Put right the chunk that a power cut came into; does nothing where there was none."""
        argv = ["cryptsetup", "repair", "--batch-mode", "--type=luks2", *_KEY_FROM_PIPE]
        done = self._run(
            [*argv, "--", self._source], timeout=_BEGIN_SECONDS, secret=key, pass_fds=pass_fds
        )
        self._require(done, "recover")

    def repair_header(self) -> None:
        """Write the newer of two headers that differ over the older one."""
        argv = ["cryptsetup", "repair", "--batch-mode", "--type=luks2", "--", self._source]
        self._require(self._run(argv, timeout=_FORMAT_SECONDS), "repair the header of")

    def restore_header(self, header: bytes, pass_fds: tuple[int, ...]) -> None:
        """Put `header`, a copy of 16 MiB, in the place of the one on the device."""
        with ram_copy(header) as descriptor:
            done = self._run(
                [
                    "cryptsetup",
                    "luksHeaderRestore",
                    "--batch-mode",
                    f"--header-backup-file=/dev/fd/{descriptor}",
                    "--",
                    self._source,
                ],
                timeout=_FORMAT_SECONDS,
                pass_fds=(descriptor, *pass_fds),
            )
        self._require(done, "write the header of")

    def verify(self, key: bytearray, header: bytes, slot: str | None = None) -> None:
        """Prove that `key` opens the volume, by that `slot` if it is named, without opening it."""
        by = [f"--key-slot={slot}"] if slot is not None else []
        self._open(key, header, ["--test-passphrase", *by])

    def add_key(self, key: bytearray, another: bytearray, slot: str) -> None:
        """Let `another` key open the volume as well, by `slot`, which must be free."""
        with _pipe(another) as descriptor:
            done = self._run(
                [
                    "cryptsetup",
                    "luksAddKey",
                    "--batch-mode",
                    f"--key-slot={slot}",
                    *_PBKDF,
                    f"--new-keyfile-size={KEY_BYTES}",
                    *_KEY_FROM_PIPE,
                    "--",
                    self._source,
                    f"/dev/fd/{descriptor}",
                ],
                timeout=_FORMAT_SECONDS,
                secret=key,
                pass_fds=(descriptor,),
            )
        self._require(done, "add a key to")

    def remove_slot(self, slot: str) -> None:
        """Wipe a key slot. cryptsetup asks for no key then, and would wipe the last one as well:
        the caller has seen another.
        """
        done = self._run(
            ["cryptsetup", "luksKillSlot", "--batch-mode", "--", self._source, slot],
            timeout=_FORMAT_SECONDS,
        )
        self._require(done, "remove a key from")

    def open(self, key: bytearray, header: bytes, mapper: str, read_only: bool) -> None:
        """Map the volume to /dev/mapper/`mapper`."""
        self._open(key, header, ["--readonly"] if read_only else [], mapper)

    def _open(
        self, key: bytearray, header: bytes, options: list[str], mapper: str | None = None
    ) -> None:
        with ram_copy(header) as descriptor:
            done = self._run(
                [
                    "cryptsetup",
                    "open",
                    "--batch-mode",
                    "--type=luks2",
                    *options,
                    *_KEY_FROM_PIPE,
                    f"--header=/dev/fd/{descriptor}",
                    "--",
                    self._source,
                    *([mapper] if mapper else []),
                ],
                timeout=_OPEN_SECONDS,
                secret=key,
                pass_fds=(descriptor,),
            )
        self._require(done, "open")

    def suspend(self, mapper: str) -> None:
        """Freeze the file system on the open volume, write out all of it, and wipe the key from the
        kernel; whoever reads or writes waits from then on.

        device-mapper freezes by itself. On Linux 6.1 a file system that fsfreeze(8) has frozen
        cannot be suspended ("Device or resource busy").
        """
        done = self._run(["cryptsetup", "luksSuspend", "--", mapper], timeout=_SUSPEND_SECONDS)
        self._require(done, "suspend")

    def resume(self, key: bytearray, header: bytes, mapper: str) -> None:
        """Give the key back to a suspended volume and let go on whoever waits for it."""
        with ram_copy(header) as descriptor:
            done = self._run(
                [
                    "cryptsetup",
                    "luksResume",
                    "--batch-mode",
                    *_KEY_FROM_PIPE,
                    f"--header=/dev/fd/{descriptor}",
                    "--",
                    mapper,
                ],
                timeout=_OPEN_SECONDS,
                secret=key,
                pass_fds=(descriptor,),
            )
        self._require(done, "resume")

    def close(self, mapper: str) -> None:
        """Unmap the volume, which wipes its key from the kernel."""
        done = self._run(["cryptsetup", "close", "--", mapper], timeout=_CLOSE_SECONDS)
        self._require(done, "close")

    def _require(self, done: Finished, step: str) -> None:
        if done.status == _WRONG_KEY:
            raise WrongKeyError(
                f"the server's key does not {step} {self._source}: it was formatted with another"
                " key, or replaced"
            )
        if done.status != 0:
            raise VolumeError(f"cryptsetup could not {step} {self._source}: {done.complaint}")


@contextmanager
def _pipe(secret: bytearray) -> Iterator[int]:
    """Give a file descriptor that `secret`, which a pipe has room for, can be read from once."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            os.write(writing, secret)
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)


def largest_sector(size: int, limit: int = _LARGE_SECTOR) -> int:
    """Return the sector size for a volume of `size` octets whose content takes up to `limit`.

    Large sectors cost the processor less for each octet.
    """
    return _LARGE_SECTOR if size % _LARGE_SECTOR == 0 and limit >= _LARGE_SECTOR else _SMALL_SECTOR


def _parameters(label: str, uuid: str, sector: int) -> list[str]:
    """PBKDF2 is minimal because the key has full entropy already."""
    return [
        "--batch-mode",
        "--type=luks2",
        f"--cipher={CIPHER}",
        f"--key-size={KEY_BYTES * 8}",
        *_PBKDF,
        f"--sector-size={sector}",
        f"--label={label}",
        f"--uuid={uuid}",
    ]
