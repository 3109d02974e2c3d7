"""One virtual machine: its disks, its emulator, and ways to look at it from outside."""

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.firmware import Tpm, uefi
from lab.image import Image
from lab.place import LabError

_BOOT_SECONDS = 180
_STOP_SECONDS = 120
_POLL_SECONDS = 0.2
_SERVER_ADDRESS = "10.0.2.100"
_SERVER_PORTS = (443, 3260)
"""What the server's machine may offer to the others: its API, and disks on iSCSI."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a machine is made of. `disks` gives the size of each data disk by its serial number.

    `forwards` gives, for each port of the guest that this host's loopback shall reach, nothing
    but the port; which port of the loopback is chosen when the machine is made. `services` gives,
    for more ports of the address behind keys.lab, the program on this host that answers one
    connection on its standard input and output.
    """

    name: str
    disks: dict[str, str] = field(default_factory=dict)
    forwards: tuple[int, ...] = ()
    services: dict[int, str] = field(default_factory=dict)
    memory: int = 1024


@dataclass(frozen=True, slots=True)
class Facts:
    """What was chosen for a machine when it was made, kept in machine.json."""

    name: str
    memory: int
    disks: list[str]
    ports: dict[str, int]
    """Guest port (as text) to port on 127.0.0.1."""
    sockets: str
    kernel: str
    key: str
    known_hosts: str
    services: dict[str, str] = field(default_factory=dict)


class Machine:
    """A machine in `directory`; made by `make`, found again by its constructor."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.facts = Facts(**json.loads((directory / "machine.json").read_text()))

    @classmethod
    def make(cls, directory: Path, plan: Plan, image: Image) -> "Machine":
        """Make the disks of a new machine in `directory`."""
        directory.mkdir(parents=True)
        base = ["-b", str(image.root), "-F", "raw", str(directory / "root.qcow2")]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *base], check=True)
        for serial, size in plan.disks.items():
            subprocess.run(["truncate", "--size", size, directory / f"{serial}.raw"], check=True)
        # A socket's path must be short, and this one has no comma or space in it.
        sockets = tempfile.mkdtemp(prefix="securecloud-lab-")
        facts = Facts(
            name=plan.name,
            memory=plan.memory,
            disks=list(plan.disks),
            ports={str(port): _free_port() for port in (22, *plan.forwards)},
            sockets=sockets,
            kernel=str(image.kernel),
            key=str(image.user_key),
            known_hosts=str(directory / "known_hosts"),
            services={str(port): program for port, program in plan.services.items()},
        )
        host = f"[127.0.0.1]:{facts.ports['22']}"
        Path(facts.known_hosts).write_text(f"{host} {image.known_host}\n")
        _write_forwarder(Path(sockets))
        (directory / "machine.json").write_text(json.dumps(asdict(facts), indent=2))
        return cls(directory)

    @property
    def name(self) -> str:
        """The machine's host name."""
        return self.facts.name

    def port(self, guest: int) -> int:
        """Return the port on 127.0.0.1 that leads to the guest's port `guest`."""
        return self.facts.ports[str(guest)]

    def disk(self, serial: str) -> Path:
        """Return the file behind a data disk, /dev/disk/by-id/virtio-SERIAL in the guest."""
        return self.directory / f"{serial}.raw"

    @property
    def serial_log(self) -> Path:
        """What the kernel and systemd said on the console."""
        return self.directory / "serial.log"

    # --- life

    def reach(self, port: int | None, of: int = 443) -> None:
        """Let port `of` of the guest's keys.lab lead to `port` of this host's loopback, or nowhere.

        443 and 3260 can be led. From inside, a port that leads nowhere hangs up at once.
        """
        target = Path(self.facts.sockets) / f"target-{of}"
        fresh = target.with_suffix(".new")
        fresh.write_text(f"{port or ''}\n")
        fresh.rename(target)

    def start(
        self,
        kernel_words: str = "",
        *,
        clock: str = "utc",
        secure_boot: bool | None = None,
        tpm: bool = False,
    ) -> None:
        """Switch the machine on; returns before it has booted.

        `clock` is what its battery-backed clock says: `utc`, or for instance `2035-01-01T00:00:00`.
        With `secure_boot` on or off it has UEFI firmware until it is switched off, else a BIOS;
        with `tpm` it has its TPM.
        """
        if self.is_running():
            return
        command = [
            *_emulator(),
            *self._hardware(),
            *self._boot(kernel_words),
            *("-rtc", f"base={clock}"),
            *([] if secure_boot is None else uefi(self.directory, secure_boot=secure_boot)),
            *(self._tpm.plug_in() if tpm else []),
        ]
        # Mitogen binds what it starts to one processor, where all machines would have to run.
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self._tpm.unplug()
            raise LabError(f"{self.name} does not start: {done.stderr.strip()}")

    @property
    def _tpm(self) -> Tpm:
        return Tpm(self.directory, self.facts.sockets)

    def _hardware(self) -> list[str]:
        sockets, ports = self.facts.sockets, self.facts.ports
        forwards = "".join(
            f",hostfwd=tcp:127.0.0.1:{outer}-:{inner}" for inner, outer in ports.items()
        )
        forwarders = {str(port): f"{sockets}/forward-{port}" for port in _SERVER_PORTS}
        services = {**forwarders, **self.facts.services}
        server = "".join(
            f",guestfwd=tcp:{_SERVER_ADDRESS}:{port}-cmd:{program}"
            for port, program in services.items()
        )
        root = f"file={self.directory / 'root.qcow2'},if=none,id=root,cache=unsafe"
        devices = [
            *("-smp", "2", "-m", str(self.facts.memory)),
            *("-netdev", f"user,id=n0,restrict=on{forwards}{server}"),
            *("-device", "virtio-net-pci,netdev=n0,romfile="),
            *("-device", "virtio-rng-pci"),
            *("-drive", root, "-device", "nvme,drive=root,serial=root"),
        ]
        for number, serial in enumerate(self.facts.disks):
            drive = f"file={self.disk(serial)},if=none,id=d{number},format=raw,cache=writeback"
            devices += ["-drive", drive]
            devices += ["-device", f"virtio-blk-pci,drive=d{number},serial={serial}"]
        return devices

    def _boot(self, more: str) -> list[str]:
        # Without tsc=reliable Linux takes the HPET for a clock, for each reading of which the
        # emulated processors wait for each other: timers then fire again before they are handled,
        # and a machine on a busy host hangs in its boot.
        clock = "tsc=reliable"
        words = "root=/dev/nvme0n1 rw console=ttyS0 quiet net.ifnames=0 mitigations=off"
        return [
            *("-name", f"securecloud-{self.name}", "-daemonize"),
            *("-pidfile", str(self.directory / "qemu.pid")),
            *("-serial", f"file:{self.serial_log}"),
            *("-qmp", f"unix:{self.facts.sockets}/qmp,server=on,wait=off"),
            *("-kernel", self.facts.kernel),
            *("-append", f"{words} {clock} systemd.hostname={self.name} {more}".rstrip()),
        ]

    def pid(self) -> int | None:
        """Return the emulator's process id while it runs."""
        try:
            pid = int((self.directory / "qemu.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if f"securecloud-{self.name}".encode() in words else None

    def is_running(self) -> bool:
        """Say whether the machine is switched on."""
        return self.pid() is not None

    def power_cut(self) -> None:
        """Switch the machine off at once, without telling it."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self._until(lambda: not self.is_running(), 30, "switched off", off=True)

    def shut_down(self) -> None:
        """Let the machine shut down, and wait for it."""
        if self.is_running():
            self.ssh("systemctl poweroff", check=False)
            self._until(lambda: not self.is_running(), _STOP_SECONDS, "shut down", off=True)

    def remove(self) -> None:
        """Switch off and leave nothing."""
        self.power_cut()
        self._tpm.unplug()
        shutil.rmtree(self.facts.sockets, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait_for_ssh(self, seconds: float = _BOOT_SECONDS) -> None:
        """Return once the machine's ssh server greets."""
        self._until(self._greets, seconds, "answering on ssh")

    def wait_for_new_boot(self, old_boot_id: str, seconds: float = _BOOT_SECONDS) -> None:
        """Return once the machine answers and has another boot id than `old_boot_id`."""
        self._until(lambda: self._booted_after(old_boot_id), seconds, "booted anew")

    def boot_id(self) -> str:
        """Return the kernel's id of this boot."""
        return self.ssh("cat /proc/sys/kernel/random/boot_id").strip()

    def reboot(self) -> None:
        """Reboot in order, and wait until it answers again."""
        old = self.boot_id()
        self.ssh("systemctl reboot", check=False)
        self.wait_for_new_boot(old)

    def _booted_after(self, old: str) -> bool:
        if not self._greets():
            return False
        found = self._ssh("cat /proc/sys/kernel/random/boot_id", timeout=60).stdout.strip()
        return bool(found) and found != old

    def _greets(self) -> bool:
        with contextlib.suppress(OSError):
            address = ("127.0.0.1", self.port(22))
            with socket.create_connection(address, timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        return False

    def _until(
        self, holds: Callable[[], bool], seconds: float, what: str, *, off: bool = False
    ) -> None:
        give_up = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > give_up:
                tail = "\n".join(self.serial_log.read_text(errors="replace").splitlines()[-20:])
                raise LabError(f"{self.name} is not {what} after {seconds:g} s:\n{tail}")
            if not off and not self.is_running():
                raise LabError(f"{self.name}: the emulator has ended")
            time.sleep(_POLL_SECONDS)

    # --- ways in

    def ssh_options(self) -> list[str]:
        """Return the options that ssh needs for this machine, without its address."""
        return [
            *("-i", self.facts.key, "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={self.facts.known_hosts}"),
            *("-o", "GlobalKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
            *("-o", "BatchMode=yes", "-o", "ConnectTimeout=30"),
        ]

    def ssh_command(self) -> list[str]:
        """Return the argv that opens a shell on the machine."""
        return ["ssh", *self.ssh_options(), "-p", str(self.port(22)), "root@127.0.0.1"]

    def _ssh(
        self, command: str, *, stdin: str | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        share = [
            *("-o", "ControlMaster=auto", "-o", "ControlPersist=30"),
            *("-o", f"ControlPath={self.facts.sockets}/ssh"),
        ]
        argv = self.ssh_command()
        return subprocess.run(
            [argv[0], *share, *argv[1:], command],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def ssh(
        self, command: str, *, stdin: str | None = None, check: bool = True, timeout: float = 300
    ) -> str:
        """Run a shell command on the machine as root and return its standard output."""
        done = self._ssh(command, stdin=stdin, timeout=timeout)
        if check and done.returncode != 0:
            said = f"{done.stdout}{done.stderr}".strip()
            raise LabError(f"{self.name}: `{command}` ended with {done.returncode}: {said}")
        return done.stdout

    # --- what the emulator sees

    def monitor(self, command: str, **arguments: Any) -> Any:
        """Give the emulator one QMP command and return what it answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(300)
            connection.connect(f"{self.facts.sockets}/qmp")
            stream = connection.makefile("rw", encoding="utf-8")
            stream.readline()
            for request in (
                {"execute": "qmp_capabilities"},
                {"execute": command, "arguments": arguments},
            ):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer = _answer(stream)
        if "error" in answer:
            raise LabError(f"{self.name}: {command}: {answer['error']['desc']}")
        return answer["return"]

    def memory(self, target: Path) -> None:
        """Write all of the guest's memory to `target`, while it stands still."""
        self.monitor("stop")
        try:
            size = self.facts.memory * 1024 * 1024
            self.monitor("pmemsave", val=0, size=size, filename=str(target))
        finally:
            self.monitor("cont")


def _answer(stream: Any) -> dict[str, Any]:
    while True:
        answer: dict[str, Any] = json.loads(stream.readline())
        if "event" not in answer:
            return answer


_HARDWARE = ("-machine", "q35", "-cpu", "max", "-nodefaults", "-no-user-config", "-display", "none")


def _emulator() -> list[str]:
    accelerator = "kvm" if _kvm_works() else "tcg,thread=multi,tb-size=256"
    return ["qemu-system-x86_64", *_HARDWARE, "-accel", accelerator]


@functools.cache
def _kvm_works() -> bool:
    """Try it: inside some virtual machines /dev/kvm is there and no processor can be made."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    command = ["qemu-system-x86_64", *_HARDWARE, "-accel", "kvm", "-S", "-monitor", "stdio"]
    done = subprocess.run(command, input="quit\n", capture_output=True, text=True, check=False)
    return done.returncode == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _write_forwarder(directory: Path) -> None:
    """Write what carries one connection of the guest to wherever `reach` points."""
    for each in _SERVER_PORTS:
        script = directory / f"forward-{each}"
        script.write_text(
            "#!/bin/sh\n"
            f"read -r port <{directory}/target-{each} || exit 1\n"
            '[ -n "$port" ] || exit 1\n'
            'exec socat STDIO "TCP:127.0.0.1:$port" 2>/dev/null\n'
        )
        script.chmod(0o700)
        (directory / f"target-{each}").write_text("\n")
