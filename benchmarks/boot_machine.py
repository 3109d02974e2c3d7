"""The machine of the boot benchmark: switched on, watched from outside, asked afterwards."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lab.machine import Machine

GUEST = Path(__file__).with_name("boot_guest.py")
_READY = "benchmark: the volume is in use"
_BOOT_SECONDS = 300.0
_POLL_SECONDS = 0.2
_SETTLE_SECONDS = 6.0
"""What a contender does after the volume is there (acknowledgement, state) counts as its CPU."""

_MARK_UNIT = """\
[Unit]
Description=Notes when the kernel gets its default route
DefaultDependencies=no
[Service]
ExecStart=/sbin/ip -ts -4 monitor route
StandardOutput=file:/run/network-mark
[Install]
WantedBy=sysinit.target
"""

_USER_UNIT = """\
[Unit]
Description=Needs the volume at {where}
RequiresMountsFor={where}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo "{ready}" >/dev/ttyS0'
[Install]
WantedBy=multi-user.target
"""


class BootError(RuntimeError):
    """A boot did not get as far as the volume."""


class Contender(Protocol):
    """One way to open a volume at boot."""

    name: str
    where: str
    """Where its volume is mounted."""
    masked: tuple[str, ...]
    """Units that are masked while the other one is measured."""
    counted: tuple[str, ...]
    """Units, besides the mount's, that run for its sake and whose CPU counts."""

    def server_cpu(self) -> float:
        """Return the CPU seconds that its server has used so far."""


@dataclass(frozen=True)
class Boot:
    """One boot. Seconds; those of the machine's own clock begin with its kernel."""

    contender: str
    number: int
    network_up: float
    """The kernel has a default route."""
    mounted: float
    """The mount unit is active."""
    usable: float
    """A service that requires the mount was started."""
    cpu: float
    """Used by the contender's units and the programs that they started."""
    server_cpu: float

    @property
    def wait(self) -> float:
        """From network up to the volume mounted."""
        return self.mounted - self.network_up

    @property
    def wait_usable(self) -> float:
        """From network up to the start of what requires the mount."""
        return self.usable - self.network_up


def mount_unit(where: str) -> str:
    """Return the name of the unit that mounts at `where`."""
    return f"{where.strip('/').replace('/', '-')}.mount"


def user_unit(where: str) -> str:
    """Return the name of the service that needs what is mounted at `where`."""
    return f"needs-{where.strip('/').replace('/', '-')}.service"


def install_marks(machine: Machine, wheres: tuple[str, ...]) -> None:
    """Install what notes the moments, the same for every contender."""
    units = {"network-mark.service": _MARK_UNIT}
    units |= {user_unit(where): _USER_UNIT.format(where=where, ready=_READY) for where in wheres}
    for name, text in units.items():
        machine.ssh(f"cat >/etc/systemd/system/{name}", stdin=text)
    machine.ssh(f"systemctl daemon-reload; systemctl --quiet enable {' '.join(units)}")


def measure(machine: Machine, contender: Contender, others: list[Contender], number: int) -> Boot:
    """Switch the machine on with `contender` alone, and off again when its figures are read."""
    silent = [unit for each in others for unit in _units_to_mask(each)]
    before = contender.server_cpu()
    machine.start(" ".join(f"systemd.mask={unit}" for unit in silent))
    try:
        _wait_for_user(machine)
        time.sleep(_SETTLE_SECONDS)
        machine.wait_for_ssh()
        seen = _ask(machine, contender)
    finally:
        machine.shut_down()
    mount = seen["units"][mount_unit(contender.where)]
    return Boot(
        contender=contender.name,
        number=number,
        network_up=round(seen["network_up"], 3),
        mounted=mount["active_enter"],
        usable=seen["units"][user_unit(contender.where)]["exec_start"],
        cpu=round(sum(unit["cpu"] for unit in seen["units"].values()), 3),
        server_cpu=round(contender.server_cpu() - before, 4),
    )


def _units_to_mask(contender: Contender) -> tuple[str, ...]:
    where = contender.where
    return (*contender.masked, mount_unit(where), user_unit(where))


def _wait_for_user(machine: Machine) -> None:
    """Read the console's log only: whoever logs in, or tries to, takes time from the boot."""
    give_up = time.monotonic() + _BOOT_SECONDS
    while _READY not in machine.serial_log.read_text(errors="replace"):
        if time.monotonic() > give_up or not machine.is_running():
            log = machine.serial_log.read_text(errors="replace")
            raise BootError(f"the volume did not open; the console's end:\n{log[-2000:]}")
        time.sleep(_POLL_SECONDS)


def _ask(machine: Machine, contender: Contender) -> dict[str, Any]:
    units = (*contender.counted, mount_unit(contender.where), user_unit(contender.where))
    words = " ".join(f"'{unit}'" for unit in units)
    found: dict[str, Any] = json.loads(machine.ssh(f"python3 - {words}", stdin=GUEST.read_text()))
    return found
