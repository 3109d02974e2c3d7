"""Fact `network_services`: what listens, from the kernel's tables in proc_net(5)."""

import ipaddress
import os
import struct
from pathlib import Path
from typing import Any

from securecloud_agent.probes.context import Context, Glance, ProbeError

# Socket states of the kernel: TCP_LISTEN; an unconnected UDP socket stands as TCP_CLOSE.
_TABLES = {"tcp": ("tcp", "0A"), "tcp6": ("tcp", "0A"), "udp": ("udp", "07"), "udp6": ("udp", "07")}
_COLUMNS = 10
_UNIT_KINDS = (".service", ".socket", ".scope")
_IPV4_DIGITS = 8
_IPV6_DIGITS = 32


def collect(context: Context, _args: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a sorted list of `{protocol, address, port, process, unit}`.

    `unit` is the systemd unit that the process belongs to; both are None where nobody owns the
    socket, as with the kernel's own.
    """
    listening = _listening(context)
    owners = _owners(context) if listening else {}
    return [
        {"protocol": protocol, "address": address, "port": port, "process": process, "unit": unit}
        for (protocol, address, port), inode in sorted(listening.items())
        for process, unit in [owners.get(inode, (None, None))]
    ]


def glance(context: Context, _args: tuple[str, ...]) -> Glance:
    """Return what changes with the fact, see watch.py: who owns the sockets is dear to know."""
    return tuple(sorted(_listening(context)))


def _listening(context: Context) -> dict[tuple[str, str, int], str]:
    """Map (protocol, address, port) to the socket's inode."""
    listening = {}
    for table, (protocol, state) in _TABLES.items():
        text = context.optional_text(f"/proc/net/{table}") or ""
        for line in text.splitlines()[1:]:
            found = _parse(line, state)
            if found is not None:
                address, port, inode = found
                listening[protocol, address, port] = inode
    return listening


def _parse(line: str, state: str) -> tuple[str, int, str] | None:
    columns = line.split()
    if len(columns) < _COLUMNS or columns[3] != state:
        return None
    digits, _, port = columns[1].partition(":")
    try:
        return _address(digits), int(port, 16), columns[9]
    except (ValueError, struct.error):
        raise ProbeError("a line of /proc/net is not understood") from None


def _address(digits: str) -> str:
    """The kernel prints each 32-bit word in its own byte order."""
    if len(digits) not in (_IPV4_DIGITS, _IPV6_DIGITS):
        raise ValueError("neither IPv4 nor IPv6")
    words = [int(digits[place : place + 8], 16) for place in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def _owners(context: Context) -> dict[str, tuple[str, str | None]]:
    """Map socket inodes to process name and unit; other users' processes need root."""
    owners: dict[str, tuple[str, str | None]] = {}
    # systemd holds the sockets of its socket units, too: whoever serves them says more.
    for _, folder in sorted(context.processes(), reverse=True):
        try:
            links = list(os.scandir(folder / "fd"))
            name = _read(folder / "comm").strip()
            unit = _unit(_read(folder / "cgroup"))
        except OSError:
            continue
        for link in links:
            inode = _socket_inode(link.path)
            if inode is not None:
                owners.setdefault(inode, (name, unit))
    return owners


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _unit(groups: str) -> str | None:
    """Return the innermost unit in the text of /proc/PID/cgroup, see cgroups(7)."""
    for line in groups.splitlines():
        # Version 2, or systemd's own hierarchy of version 1.
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number, controllers) == ("0", "") or controllers == "name=systemd":
            units = [name for name in path.split("/") if name.endswith(_UNIT_KINDS)]
            if units:
                return units[-1]
    return None


def _socket_inode(link: str) -> str | None:
    try:
        target = os.readlink(link)  # noqa: PTH115 - thousands of descriptors; no object for each
    except OSError:
        return None
    return target[8:-1] if target.startswith("socket:[") else None
