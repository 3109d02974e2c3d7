"""Warm connections, each used by one thread at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from securecloud_server.keystores.kmip_link import Broken, Link, Open

_MOST_IDLE = 16


class Pool:
    """Connections that are not in use. One that failed in any way is closed, not kept."""

    def __init__(self, connect: Open) -> None:
        self._connect = connect
        self._idle: list[Link] = []
        self._lock = threading.Lock()

    @contextmanager
    def link(self) -> Iterator[Link]:
        """Lend a connection, the one last used where there are several."""
        link = self._take() or self._connect()
        try:
            yield link
        except BaseException as error:
            if isinstance(error, Broken) or not link.in_step:
                link.close()
            else:
                self._put_back(link)
            raise
        self._put_back(link)

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def _take(self) -> Link | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                link = self._idle.pop()
            # The server has hung up, or says what nobody asked.
            if not link.has_news():
                return link
            link.close()

    def _put_back(self, link: Link) -> None:
        link.used = True
        with self._lock:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(link)
                return
        link.close()
