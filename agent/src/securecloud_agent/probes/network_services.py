"""Fact `network_services`: what listens, from the kernel's tables in proc_net(5)."""

import ipaddress
import os
import struct
from typing import Any

from securecloud_agent.probes.context import Context, Glance, ProbeError

# Socket states of the kernel: TCP_LISTEN; an unconnected UDP socket stands as TCP_CLOSE.
_TABLES = {"tcp": ("tcp", "0A"), "tcp6": ("tcp", "0A"), "udp": ("udp", "07"), "udp6": ("udp", "07")}
_COLUMNS = 10
_IPV4_DIGITS = 8
_IPV6_DIGITS = 32


def collect(context: Context, _args: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a sorted list of `{protocol, address, port, process}`."""
    listening = _listening(context)
    owners = _owners(context) if listening else {}
    return [
        {"protocol": protocol, "address": address, "port": port, "process": owners.get(inode)}
        for (protocol, address, port), inode in sorted(listening.items())
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


def _owners(context: Context) -> dict[str, str]:
    """Map socket inodes to process names; other users' processes need root."""
    owners: dict[str, str] = {}
    for _, folder in context.processes():
        try:
            links = list(os.scandir(folder / "fd"))
            name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            continue
        for link in links:
            inode = _socket_inode(link.path)
            if inode is not None:
                owners.setdefault(inode, name)
    return owners


def _socket_inode(link: str) -> str | None:
    try:
        target = os.readlink(link)  # noqa: PTH115 - thousands of descriptors; no object for each
    except OSError:
        return None
    return target[8:-1] if target.startswith("socket:[") else None
