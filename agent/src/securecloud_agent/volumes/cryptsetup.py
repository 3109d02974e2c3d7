"""The four cryptsetup commands that are needed. The key goes through a pipe, never into argv."""

from pathlib import Path

from securecloud_agent.run import Finished, Runner
from securecloud_agent.volumes.header import CIPHER, KEY_BYTES, ram_copy
from securecloud_agent.volumes.trouble import VolumeError

_FORMAT_SECONDS = 120
_OPEN_SECONDS = 60
_CLOSE_SECONDS = 60
_LARGE_SECTOR = 4096
_SMALL_SECTOR = 512
_WRONG_KEY = 2

_KEY_FROM_PIPE = ("--key-file=-", f"--keyfile-size={KEY_BYTES}")


class Cryptsetup:
    """Runs cryptsetup on one volume."""

    def __init__(self, run: Runner, source: Path) -> None:
        self._run = run
        self._source = str(source)

    def format(self, key: bytearray, label: str, uuid: str, size: int) -> None:
        """Write LUKS2 headers. PBKDF2 is minimal because the key has full entropy already."""
        sector = _LARGE_SECTOR if size % _LARGE_SECTOR == 0 else _SMALL_SECTOR
        done = self._run(
            [
                "cryptsetup",
                "luksFormat",
                "--batch-mode",
                "--type=luks2",
                f"--cipher={CIPHER}",
                f"--key-size={KEY_BYTES * 8}",
                "--pbkdf=pbkdf2",
                "--pbkdf-force-iterations=1000",
                f"--sector-size={sector}",
                f"--label={label}",
                f"--uuid={uuid}",
                *_KEY_FROM_PIPE,
                "--",
                self._source,
            ],
            timeout=_FORMAT_SECONDS,
            secret=key,
        )
        self._require(done, "format")

    def verify(self, key: bytearray, header: bytes) -> None:
        """Prove that `key` opens the volume, without opening it."""
        self._open(key, header, ["--test-passphrase"])

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
        if done.status == _WRONG_KEY:
            raise VolumeError(
                f"the server's key does not open {self._source}: it was formatted with another"
                " key, or replaced"
            )
        self._require(done, "open")

    def close(self, mapper: str) -> None:
        """Unmap the volume, which wipes its key from the kernel."""
        done = self._run(["cryptsetup", "close", "--", mapper], timeout=_CLOSE_SECONDS)
        self._require(done, "close")

    def _require(self, done: Finished, step: str) -> None:
        if done.status != 0:
            raise VolumeError(f"cryptsetup could not {step} {self._source}: {done.complaint}")
