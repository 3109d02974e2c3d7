"""The life of a device's key, in KMIP's words (KMIP 2.1, section 4.57)."""

from dataclasses import dataclass, replace

from securecloud_server.domain import requests as life
from securecloud_server.domain.errors import Conflict, NotFound
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.names import reason_errors, require
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, Device, Key
from securecloud_server.services.admin import Ports, found, log


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a key's state: from which states it may start, where it leads."""

    action: str
    sources: frozenset[str]
    target: str


REVOKE = Step("key.revoked", frozenset({"pre_active", "active"}), "deactivated")
RESTORE = Step("key.restored", frozenset({"deactivated"}), "active")
DESTROY = Step("key.destroyed", frozenset({"deactivated"}), "destroyed")


class KeyService:
    """Shows and changes the state of keys; nobody ever sees one."""

    def __init__(self, ports: Ports, keystores: Keystores) -> None:
        self._ports = ports
        self._keystores = keystores

    def get(self, actor: Actor, device: str) -> Key:
        """Return the newest version of the device's key."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            return _current(tx, device)[1]

    def revoke(self, actor: Actor, device: str, reason: str) -> Key:
        """Deactivate: no agent gets the key, and those that hold it are told to lock."""
        return self._step(actor, device, REVOKE, reason)

    def restore(self, actor: Actor, device: str, reason: str) -> Key:
        """Activate a deactivated key again."""
        return self._step(actor, device, RESTORE, reason)

    def destroy(self, actor: Actor, device: str, reason: str) -> Key:
        """Erase a deactivated key; what it encrypts is lost for ever."""
        key = self._step(actor, device, DESTROY, reason)
        self._keystores.of(key).destroy(key.reference)
        return key

    def _step(self, actor: Actor, device: str, step: Step, reason: str) -> Key:
        authorize(actor, Privilege.MANAGE_KEYS)
        require(reason_errors(reason))
        return self._ports.database.write(lambda tx: self._move(tx, actor, device, step, reason))

    def _move(self, tx: Transaction, actor: Actor, name: str, step: Step, reason: str) -> Key:
        device, key = _current(tx, name)
        if key.state not in step.sources:
            wanted = " or ".join(sorted(step.sources))
            raise Conflict(f"the key of device {name!r} is {key.state}, not {wanted}")
        moved = _moved(key, step, self._ports.now())
        tx.keys.put(moved)
        log(tx, actor, step.action, f"device:{name}", {"key_version": key.version}, reason)
        if step is REVOKE:
            self._revoke_request(tx, actor, device, reason)
        return replace(moved, reference=key.reference)

    def _revoke_request(self, tx: Transaction, actor: Actor, device: Device, reason: str) -> None:
        request = tx.requests.open_of([device.device_id]).get(device.device_id)
        if request is None or life.REVOKED not in life.TRANSITIONS[request.state]:
            return
        now = self._ports.now()
        tx.requests.replace(life.move(request, life.REVOKED, str(actor), reason, now))
        target = f"device:{device.name}"
        log(tx, actor, "key_request.revoked", target, {"request": request.request_id}, reason)


def _moved(key: Key, step: Step, now: int) -> Key:
    if step is REVOKE:
        return replace(key, state=step.target, deactivated_at=now)
    if step is DESTROY:
        # The wrapped key leaves the database with this very transaction.
        return replace(key, state=step.target, destroyed_at=now, reference=b"")
    return replace(
        key, state=step.target, deactivated_at=None, activated_at=key.activated_at or now
    )


def _current(tx: Transaction, name: str) -> tuple[Device, Key]:
    device = found(tx.devices.get(name), "device", name)
    key = tx.keys.current([device.device_id]).get(device.device_id)
    if key is None:
        raise NotFound("key of device", name)
    return device, key
