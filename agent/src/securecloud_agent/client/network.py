"""Is there a way to a server yet? Asked at boot, before the first exchange."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

_PORT = 443


def has_route(urls: Sequence[str]) -> bool:
    """Say whether this machine has an address for one of the servers, and a route to it.

    Connecting a datagram socket makes the kernel look for a route and sends nothing.
    """
    return any(_routed(url) for url in urls)


def _routed(url: str) -> bool:
    parts = urlsplit(url)
    with suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(
            parts.hostname, parts.port or _PORT, type=socket.SOCK_DGRAM
        ):
            with suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.connect(address)
                return True
    return False
