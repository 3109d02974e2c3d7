"""What the administrative services share: their ports, paging, and unusual-access events."""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from securecloud_server.domain.errors import NotFound
from securecloud_server.domain.keys import KeyLife
from securecloud_server.domain.ports import Clock, Database, RandomSource, Transaction
from securecloud_server.domain.records import Actor, AuditEvent, Device

R = TypeVar("R")

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Ports:
    """What every service needs of the world."""

    database: Database
    clock: Clock
    random: RandomSource

    def now(self) -> int:
        """Return the time in whole seconds."""
        return int(self.clock())


@dataclass(frozen=True, slots=True)
class Slice:
    """Which part of a list is wanted: up to `limit` entries behind the key `after`."""

    after: str | None = None
    limit: int = 100


def found(record: R | None, kind: str, name: str) -> R:
    """Return the record; NotFound when there is none."""
    if record is None:
        raise NotFound(kind, name)
    return record


def device_and_key(tx: Transaction, name: str) -> tuple[Device, KeyLife]:
    """Return the device and the life of its key; NotFound when there is none."""
    device = found(tx.devices.get(name), "device", name)
    life = tx.keys.lives([device.device_id]).get(device.device_id)
    return device, found(life, "key of device", name)


def log(
    tx: Transaction,
    actor: Actor,
    action: str,
    target: str,
    details: Mapping[str, Any],
    reason: str = "",
) -> None:
    """Append the event of a successful act to the audit log."""
    tx.audit.append(AuditEvent(actor, action, target, "success", reason, details))


def secret_hash(secret: bytes) -> bytes:
    """Return what is kept of a random 256-bit secret."""
    return hashlib.sha256(secret).digest()


def same_secret(stored: bytes, presented: bytes) -> bool:
    """Compare a stored hash with a presented secret in constant time."""
    return hmac.compare_digest(stored, secret_hash(presented))


def read_page(ports: Ports, read: Callable[[Transaction], Sequence[R]]) -> Sequence[R]:
    """Return one page, from a consistent view."""
    with ports.database.read() as tx:
        return read(tx)
