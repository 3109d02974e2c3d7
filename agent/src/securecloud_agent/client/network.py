"""Is there a way to a server yet? Asked at boot, before the first exchange."""

import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

_PORT = 443
_NEWS_GROUPS = 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE and the same for IPv6 (rtnetlink(7))."""
_NEWS_BYTES = 65536


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


class Routes:
    """The kernel's news of addresses and routes; a plain pause where it tells none."""

    def __init__(self) -> None:
        self._news: socket.socket | None = None
        with suppress(OSError):
            self._news = _subscribe()

    def wait(self, seconds: float) -> None:
        """Return at the first news, those since the last call included, or after `seconds`."""
        if self._news is None:
            time.sleep(seconds)
            return
        ready, _, _ = select.select([self._news], [], [], seconds)
        # Until nothing is left; that some were missed (ENOBUFS) is news too.
        with suppress(OSError):
            while ready:
                self._news.recv(_NEWS_BYTES)

    def close(self) -> None:
        """Listen no more."""
        if self._news is not None:
            self._news.close()


def _subscribe() -> socket.socket:
    news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        news.bind((0, _NEWS_GROUPS))
        news.setblocking(False)
    except OSError:
        news.close()
        raise
    return news
