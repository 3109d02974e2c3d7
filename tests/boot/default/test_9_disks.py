"""Switched off: what somebody who takes the disks can read."""

import errno
import mmap
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lab.lab import Lab
from lab.machine import Machine
from tests.boot.guests import Api, Guest
from tests.boot.keys import Keys, spellings


def test_no_disk_holds_a_key(
    lab: Lab, server: Machine, api: Api, agent1: Guest, agent2: Guest, keys: Keys, tmp_path: Path
) -> None:
    """Every device key and every volume key, on the agents' root and data disks."""
    del api
    wanted = dict(keys.of_devices)
    for guest in (agent1, agent2):
        for serial in guest.machine.facts.disks:
            device = f"{guest.name}-{serial}"
            if device in keys.of_devices:
                disk = guest.machine.disk(serial)
                wanted[f"volume {device}"] = keys.of_volume(disk, device)
    assert len(wanted) >= 4
    for machine in lab.machines():
        machine.shut_down()
    found = []
    for guest in (agent1, agent2):
        root = tmp_path / "root.raw"
        command = ["qemu-img", "convert", "-O", "raw", guest.machine.directory / "root.qcow2"]
        subprocess.run([*command, root], check=True)
        disks = [guest.machine.disk(serial) for serial in guest.machine.facts.disks]
        found += [hit for disk in (root, *disks) for hit in hits(guest.name, disk, wanted)]
    assert found == []


def hits(machine: str, disk: Path, wanted: dict[str, bytes]) -> list[str]:
    found = []
    with disk.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        written = list(extents(file.fileno(), len(content)))
        for name, key in wanted.items():
            pieces = {**spellings(key), "first half": key[:32], "second half": key[32:]}
            found += [
                f"{name} as {how} on {machine}'s {disk.name}"
                for how, piece in pieces.items()
                if any(content.find(piece, start, end) >= 0 for start, end in written)
            ]
    return found


def extents(file: int, size: int) -> Iterator[tuple[int, int]]:
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
