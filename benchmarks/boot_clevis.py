"""clevis and tang, as Debian packages them: the volume, and tang on this host's side."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from lab.machine import Machine

DISK = "clevis"
PORT = 80
_TANG = Path("/usr/libexec")

# A key slot with a minimal key derivation, no second key slot, large sectors and no file system
# check: all that would make it slower than our volume for no reason of its own is left out.
_PREPARE = """\
set -eu
disk=/dev/disk/by-id/virtio-{disk}
umask 077
head -c 32 /dev/urandom | base64 -w 0 >/run/first.key
cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \\
    --sector-size 4096 --key-size 512 "$disk" /run/first.key
clevis luks bind -y -k /run/first.key -d "$disk" tang '{pin}'
cryptsetup open --key-file /run/first.key "$disk" clevis
mkfs.ext4 -q /dev/mapper/clevis
cryptsetup close clevis
cryptsetup luksKillSlot --batch-mode "$disk" 0
rm /run/first.key
mkdir -p {where}
echo "clevis $disk none _netdev" >>/etc/crypttab
echo "/dev/mapper/clevis {where} ext4 defaults,_netdev 0 0" >>/etc/fstab
systemctl --quiet enable clevis-luks-askpass.path
"""


class Tang:
    """tangd's keys in `directory`, and the program that answers one connection with them."""

    def __init__(self, directory: Path) -> None:
        self._keys = directory / "keys"
        self._cpu = directory / "cpu"
        self.program = directory / "answer"

    def make(self) -> None:
        """Make keys and program."""
        self._keys.mkdir(parents=True)
        subprocess.run([_TANG / "tangd-keygen", self._keys], check=True, capture_output=True)
        self._cpu.touch()
        # The second line of `times` is what the children used: tangd, without the shell.
        self.program.write_text(
            f"#!/bin/bash\n{_TANG}/tangd {self._keys} 2>>{self._keys.parent}/log\n"
            f"times >>{self._cpu}\n"
        )
        self.program.chmod(0o700)

    def thumbprint(self) -> str:
        """Return the thumbprint of the signing key, after which its file is named."""
        for path in self._keys.glob("*.jwk"):
            if "verify" in json.loads(path.read_text()).get("key_ops", []):
                return path.stem
        raise FileNotFoundError(f"no signing key in {self._keys}")

    def cpu(self) -> float:
        """Return the CPU seconds that all answers together took."""
        children = self._cpu.read_text().splitlines()[1::2]
        times = [found for line in children for found in re.findall(r"(\d+)m([\d.]+)s", line)]
        return sum(60 * int(minutes) + float(seconds) for minutes, seconds in times)


class Clevis:
    """A contender of the boot benchmark (see `boot_machine.Contender`)."""

    name = "clevis"
    where = "/srv/clevis"
    masked: tuple[str, ...] = ("systemd-cryptsetup@clevis.service", "clevis-luks-askpass.path")
    # Nothing but the _netdev of its volume asks for wait-online.
    counted: tuple[str, ...] = (
        "systemd-cryptsetup@clevis.service",
        "clevis-luks-askpass.service",
        "systemd-networkd-wait-online.service",
    )

    def __init__(self, tang: Tang) -> None:
        self._tang = tang

    def prepare(self, machine: Machine) -> None:
        """Make the volume and what opens it at boot."""
        pin = json.dumps({"url": f"http://keys.lab:{PORT}", "thp": self._tang.thumbprint()})
        machine.ssh(_PREPARE.format(disk=DISK, pin=pin, where=self.where))

    def server_cpu(self) -> float:
        """Return the CPU seconds of tangd so far."""
        return self._tang.cpu()

    def version(self, machine: Machine) -> str:
        """Return the version of the package."""
        return machine.ssh("dpkg-query -W -f '${Version}' clevis").strip()
