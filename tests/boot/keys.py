"""Keys as the server has them, and where else somebody could find them."""

import base64
import errno
import mmap
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

from securecloud_server.keystores.local import LocalKeystore
from securecloud_server.keystores.master_key import load_key_ring

from tests.boot.guests import Guest


class Keys:
    """Device keys out of the server, and volume keys out of the disks that they open."""

    def __init__(self, database: Path, master_key: Path) -> None:
        keystore = LocalKeystore(load_key_ring(f"file:{master_key}", ""))
        query = """
            SELECT devices.name, keys.device_id, keys.version, keys.reference
            FROM keys JOIN devices ON devices.device_id = keys.device_id
        """
        rows = sqlite3.connect(database).execute(query).fetchall()
        self.of_devices = {
            name: keystore.fetch(reference, device_id, version)
            for name, device_id, version, reference in rows
            if reference
        }
        self._folder = database.parent

    def of_volume(self, disk: Path, device: str) -> bytes:
        """Return the key that dm-crypt uses for the LUKS2 volume on `disk`."""
        passphrase, found = self._folder / "passphrase", self._folder / "volume.key"
        passphrase.write_bytes(self.of_devices[device])
        found.unlink(missing_ok=True)
        command = ["cryptsetup", "luksDump", "--batch-mode", "--dump-volume-key"]
        subprocess.run(
            [*command, f"--volume-key-file={found}", f"--key-file={passphrase}", str(disk)],
            check=True,
            capture_output=True,
        )
        return found.read_bytes()


def spellings(key: bytes) -> dict[str, bytes]:
    """Return a key as it might lie around: raw, and as text."""
    return {
        "raw": key,
        "hex": key.hex().encode(),
        "base64": base64.b64encode(key)[:-4],
        "base64url": base64.urlsafe_b64encode(key)[:-4],
    }


def places(dump: Path, needle: bytes) -> list[int]:
    """Return where `needle` lies in the file `dump`."""
    found = []
    with dump.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(needle)
        while at >= 0:
            found.append(at)
            at = content.find(needle, at + 1)
    return found


def memory(guest: Guest, folder: Path) -> Path:
    dump = folder / "memory"
    guest.machine.memory(dump)
    return dump


def found(dump: Path, key: bytes) -> dict[str, int]:
    """Count a key in memory: whole, in text, and its two halves, for XTS keeps them apart."""
    wanted = {**spellings(key), "first half": key[:32], "second half": key[32:]}
    counted = {name: len(places(dump, needle)) for name, needle in wanted.items()}
    return {name: count for name, count in counted.items() if count}


def on_disks(guest: Guest, wanted: dict[str, bytes], folder: Path) -> list[str]:
    """Return where the keys `wanted` lie on the disks of a machine that is switched off."""
    machine, root = guest.machine, folder / "root.raw"
    command = ["qemu-img", "convert", "-O", "raw", machine.directory / "root.qcow2", root]
    subprocess.run(command, check=True)
    disks = (root, *(machine.disk(serial) for serial in machine.facts.disks))
    return [hit for disk in disks for hit in _hits(guest.name, disk, wanted)]


def _hits(machine: str, disk: Path, wanted: dict[str, bytes]) -> list[str]:
    found = []
    with disk.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        written = list(_extents(file.fileno(), len(content)))
        for name, key in wanted.items():
            pieces = {**spellings(key), "first half": key[:32], "second half": key[32:]}
            found += [
                f"{name} as {how} on {machine}'s {disk.name}"
                for how, piece in pieces.items()
                if any(content.find(piece, start, end) >= 0 for start, end in written)
            ]
    return found


def _extents(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a sparse file holds more than holes: no key lies in those, for they are all zeros."""
    end = 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield start, end
