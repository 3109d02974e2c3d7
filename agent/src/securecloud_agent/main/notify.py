"""Tells systemd that the service is ready (sd_notify(3)); elsewhere nobody listens."""

import os
import socket
from contextlib import suppress

from securecloud_agent.errors import AgentError, printable
from securecloud_agent.run import run

_WALL_SECONDS = 5


def notify_ready() -> None:
    """Say that what was asked for at the start is decided; saying it again changes nothing."""
    _notify("READY=1")


def notify_status(text: str) -> None:
    """Set the line that `systemctl status` shows."""
    _notify(f"STATUS={printable(text, 200)}")


def notify_terminals(text: str) -> None:
    """Write to the terminals of all who are logged in, with wall(1); nobody is waited for."""
    with suppress(AgentError):
        run(["wall", "--timeout", "3", "--", printable(text, 300)], timeout=_WALL_SECONDS)


def notify_still_stopping(seconds: int) -> None:
    """Ask for `seconds` more to stop in."""
    _notify(f"EXTEND_TIMEOUT_USEC={seconds * 1_000_000}")


def _notify(line: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(line.encode(), address)
