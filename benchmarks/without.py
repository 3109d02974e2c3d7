"""The SecureCloud server without its audit log, its keystore, or both, to see what they cost.

``python -m benchmarks.without audit,keystore --config server.toml serve``. The server has no such
switch: parts are replaced here, before it starts. What comes of it must never serve anybody.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from securecloud_audit import merkle
from securecloud_server import app, cli
from securecloud_server.domain.records import Actor, AuditEvent, LoggedEvent, TreeHead
from securecloud_server.keystores.memory import MemoryKeystore
from securecloud_server.services import exchange_audit
from securecloud_server.storage import transaction

_EVENT = AuditEvent(Actor("system", "benchmark"), "nothing", "nothing", "success")
_NUMBERS = itertools.count()


class NoAuditLog:
    """Takes the place of ``SqlAuditLog``: numbers events and forgets them; its head never grows."""

    _head: TreeHead | None = None

    def __init__(
        self,
        _runner: Any,
        clock: Callable[[], float],
        sign: Callable[[int, bytes, int], bytes],
        _heads: Any,
    ) -> None:
        self._clock = clock
        self._sign = sign

    def load(self) -> None:
        """Find nothing."""

    def append(self, _event: AuditEvent) -> int:
        """Return a number that no other event has."""
        return next(_NUMBERS)

    def size(self) -> int:
        """Return that there is nothing."""
        return 0

    def head(self) -> TreeHead:
        """Return the head of an empty log, which is signed once."""
        if NoAuditLog._head is None:
            root, at = merkle.root(()), int(self._clock())
            NoAuditLog._head = TreeHead(0, root, at, self._sign(0, root, at))
        return NoAuditLog._head

    def consistency(self, _old_size: int) -> tuple[bytes, ...]:
        """Return no proof."""
        return ()

    def page(
        self, _after: int | None, _limit: int, _filters: Mapping[str, str | None]
    ) -> Sequence[LoggedEvent]:
        """Return no events."""
        return ()

    def mark(self) -> None:
        """Remember nothing."""

    def go_back(self, _mark: None) -> None:
        """Forget nothing."""

    def flush(self) -> None:
        """Write nothing."""


def _no_audit() -> None:
    """Have nothing recorded, and not even worded."""
    _replace(transaction, "SqlAuditLog", NoAuditLog)
    _replace(exchange_audit, "decision", lambda *_: [_EVENT])
    _replace(exchange_audit, "acknowledged", lambda *_, **__: _EVENT)


def _no_keystore() -> None:
    """Have device keys in a dictionary, neither wrapped nor in the database."""
    _replace(app, "LocalKeystore", lambda _key_ring, random: MemoryKeystore(random))


def _replace(module: ModuleType, name: str, value: Any) -> None:
    """Put `value` in the place of what is there; AttributeError where that is elsewhere now."""
    getattr(module, name)
    setattr(module, name, value)


_PARTS = {"audit": _no_audit, "keystore": _no_keystore}


def main(arguments: Sequence[str]) -> int:
    """Replace what the first argument names, and run the server's command with the others."""
    for part in filter(None, arguments[0].split(",")):
        _PARTS[part]()
    return cli.main(list(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
