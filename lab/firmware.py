"""What a machine may have on its board: UEFI firmware, with Secure Boot or without, and a TPM."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from lab.place import LabError

_FIRMWARE = Path("/usr/share/OVMF")
_CODE = _FIRMWARE / "OVMF_CODE_4M.fd"
_WITH_KEYS, _WITHOUT_KEYS = "OVMF_VARS_4M.snakeoil.fd", "OVMF_VARS_4M.fd"
"""Secure Boot is on as soon as a platform key is enrolled: here one that Debian makes for tests."""


def uefi(directory: Path, *, secure_boot: bool) -> list[str]:
    """Return the emulator's options for firmware whose variables are kept in `directory`.

    They begin anew each time. A kernel that the emulator hands over is booted even if no enrolled
    key has signed it: this is about what the machine knows of itself, not about what it refuses.
    """
    if not _CODE.exists():
        raise LabError("UEFI firmware needs the package ovmf; `make lab-packages`")
    variables = directory / "uefi.fd"
    shutil.copyfile(_FIRMWARE / (_WITH_KEYS if secure_boot else _WITHOUT_KEYS), variables)
    return [
        *("-drive", f"file={_CODE},if=pflash,unit=0,format=raw,readonly=on"),
        *("-drive", f"file={variables},if=pflash,unit=1,format=raw"),
    ]


class Tpm:
    """A machine's TPM, whose memory is in `directory` and outlasts any power cut."""

    def __init__(self, directory: Path, sockets: str) -> None:
        self._directory = directory / "tpm"
        self._socket = f"{sockets}/tpm"

    def plug_in(self) -> list[str]:
        """Start it, and return the emulator's options for it. It ends when the emulator does."""
        self.unplug()
        self._directory.mkdir(exist_ok=True)
        command = [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._directory}"),
            *("--ctrl", f"type=unixio,path={self._socket}", "--pid", f"file={self._pid_file}"),
            *("--terminate", "--daemon"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"the TPM does not start: {done.stderr.strip()}")
        return [
            *("-chardev", f"socket,id=tpm,path={self._socket}"),
            *("-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"),
        ]

    def unplug(self) -> None:
        """End it where the emulator has not done so, because it was never connected."""
        with suppress(OSError, ValueError):
            pid = int(self._pid_file.read_text())
            if f"dir={self._directory}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    @property
    def _pid_file(self) -> Path:
        return self._directory / "swtpm.pid"
