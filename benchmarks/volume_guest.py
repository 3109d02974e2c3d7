"""Runs on the virtual machine, by the agent's Python: opening and throughput of two LUKS2 volumes.

One is formatted by the agent's own code, the other by hand with cryptsetup's defaults; every figure
is taken from both in turn. Prints them as JSON. Arguments: rounds, both disks.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

from securecloud_agent.run import run
from securecloud_agent.volumes.cryptsetup import Cryptsetup

_SECONDS = 6
_JOBS = {
    "sequential_read": ("--rw=read", "--bs=1M", "--iodepth=8"),
    "sequential_write": ("--rw=write", "--bs=1M", "--iodepth=8"),
    "random_read": ("--rw=randread", "--bs=4k", "--iodepth=16"),
    "random_write": ("--rw=randwrite", "--bs=4k", "--iodepth=16"),
}


class Volume:
    """One of the two, with its key in a file that lies in memory."""

    def __init__(self, name: str, disk: str) -> None:
        self.name = name
        self.disk = disk
        self.mapped = f"/dev/mapper/{name}"
        self.where = f"/run/{name}"
        self.key = Path(f"/run/{name}.key")
        self.figures: dict[str, list[float]] = {}

    def format(self, *, by_agent: bool) -> None:
        """Format it, make a file system and mount it."""
        self.key.write_bytes(os.urandom(64))
        if by_agent:
            size = int(_output("blockdev", "--getsize64", self.disk))
            key = bytearray(self.key.read_bytes())
            Cryptsetup(run, Path(self.disk)).format(key, self.name, str(uuid4()), size)
        else:
            _output("cryptsetup", "luksFormat", "--batch-mode", "--type=luks2",
                    f"--key-file={self.key}", self.disk)  # fmt: skip

    def open(self) -> None:
        """Open it, and note how long that took."""
        begin = time.monotonic()
        _output("cryptsetup", "open", f"--key-file={self.key}", self.disk, self.name)
        self.note("open", time.monotonic() - begin)

    def close(self) -> None:
        """Close it again."""
        _output("cryptsetup", "close", self.name)

    def mount(self) -> None:
        """Make a file system and mount it."""
        Path(self.where).mkdir()
        _output("mkfs.ext4", "-q", self.mapped)
        _output("mount", self.mapped, self.where)

    def work(self, job: str) -> None:
        """Let fio work on it, past the page cache, and note the bytes per second."""
        said = _output("fio", f"--name={job}", f"--filename={self.where}/data", "--size=256M",
                       "--direct=1", "--ioengine=libaio", "--time_based",
                       f"--runtime={_SECONDS}", "--output-format=json", *_JOBS[job])  # fmt: skip
        (done,) = json.loads(said)["jobs"]
        self.note(job, max(done[kind]["bw_bytes"] for kind in ("read", "write")))

    def note(self, figure: str, value: float) -> None:
        """Keep a figure of one round."""
        self.figures.setdefault(figure, []).append(value)

    def parameters(self) -> dict[str, object]:
        """Return what the header says of cipher, sectors and key derivation."""
        found = json.loads(_output("cryptsetup", "luksDump", "--dump-json-metadata", self.disk))
        (segment,), (slot,) = found["segments"].values(), found["keyslots"].values()
        kdf = {name: value for name, value in slot["kdf"].items() if name != "salt"}
        words = ("encryption", "sector_size")
        return {"kdf": kdf, "key_size": slot["key_size"], **{name: segment[name] for name in words}}


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(rounds: int, disks: list[str]) -> None:
    """Measure both volumes and print the figures."""
    ours, manual = (
        Volume(name, disk) for name, disk in zip(("ours", "manual"), disks, strict=True)
    )
    ours.format(by_agent=True)
    manual.format(by_agent=False)
    for _ in range(rounds):
        for volume in (ours, manual):
            volume.open()
            volume.close()
    for volume in (ours, manual):
        volume.open()
        volume.mount()
    for _ in range(rounds):
        for job in _JOBS:
            for volume in (ours, manual):
                volume.work(job)
    print(json.dumps({each.name: {"parameters": each.parameters(), "figures": each.figures}
                      for each in (ours, manual)}))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
