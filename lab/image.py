"""The image that the lab's machines boot: Debian 12, built once for each recipe."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.place import LabError, say

_RECIPE = Path(__file__).with_name("recipe.sh")
_SUITE = "bookworm"
_SIZE = "3G"
_PACKAGES = (
    *("ca-certificates", "createrepo-c", "cryptsetup-bin", "dbus", "dmsetup", "dnf", "e2fsprogs"),
    *("iproute2", "kmod", "open-iscsi", "openssh-server", "python3", "rpm", "systemd"),
    *("systemd-sysv", "tgt", "tpm2-tools", "udev", "xfsprogs"),
)
_PEERS = ("clevis", "clevis-luks", "clevis-systemd", "cryptsetup", "curl", "fio")
_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "socat": "socat",
    "ssh-keygen": "openssh-client",
    "swtpm": "swtpm",
}


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: `root` is a raw ext4 file system that nobody writes to."""

    directory: Path

    @property
    def root(self) -> Path:
        """The root file system."""
        return self.directory / "root.img"

    @property
    def kernel(self) -> Path:
        """The kernel, booted without an initial ramdisk."""
        return self.directory / "vmlinuz"

    @property
    def user_key(self) -> Path:
        """The private key that opens root's account on every machine of the lab."""
        return self.directory / "ssh/user"

    @property
    def known_host(self) -> str:
        """The host key that every machine of the lab has, as in a known_hosts file."""
        return " ".join((self.directory / "ssh/host.pub").read_text().split()[:2])


def ensure_image(cache: Path, *, with_peers: bool = False) -> Image:
    """Return the image of the present recipe, building it first where it is not in `cache`.

    With what the boot benchmark compares and measures with, when asked for.
    """
    _require_tools()
    packages = (*_PACKAGES, *(_PEERS if with_peers else ()))
    recipe = "\n".join([_SUITE, _SIZE, *packages, _RECIPE.read_text()])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    directory = cache / f"image-{digest}"
    if not (directory / "complete").exists():
        say("building the Debian 12 image (under a minute, once for each recipe)")
        _build(directory, packages)
    return Image(directory)


def _require_tools() -> None:
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = sorted(
        {package for tool, package in _TOOLS.items() if not shutil.which(tool, path=search)}
    )
    if missing:
        raise LabError(f"the lab needs these packages: {' '.join(missing)}; `make lab-packages`")


def _build(directory: Path, packages: tuple[str, ...]) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "ssh").mkdir(parents=True)
    for name in ("host", "user"):
        key = directory / "ssh" / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key)]
        subprocess.run(command, check=True)
    log = directory / "build.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [
                *("mmdebstrap", "--variant=minbase", "--quiet"),
                f"--include={','.join(packages)}",
                *("--aptopt=APT::Install-Recommends false", "--dpkgopt=force-unsafe-io"),
                f"--customize-hook={_RECIPE} $1 {directory} {_SIZE}",
                *("--skip=cleanup/apt", _SUITE, "/dev/null"),
            ],
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"the image could not be built; the end of {log}:\n{tail}")
    (directory / "complete").touch()
