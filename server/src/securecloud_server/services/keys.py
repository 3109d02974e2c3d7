"""The life of a device's key, in KMIP's words (KMIP 2.1, section 4.57)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from securecloud_server.domain import requests
from securecloud_server.domain.errors import Conflict, NotFound
from securecloud_server.domain.keys import KeyLife
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.names import reason_errors, require
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, Check, Device, Key
from securecloud_server.services.admin import Ports, device_and_key, log


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

    def get(self, actor: Actor, device: str) -> KeyLife:
        """Return the version of the device's key that is in use, and its successor."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            return device_and_key(tx, device)[1]

    def rotate(self, actor: Actor, device: str, reason: str) -> KeyLife:
        """Make a successor, and ask the machine to put it in the place of the present key."""
        authorize(actor, Privilege.MANAGE_KEYS)
        require(reason_errors(reason))
        with self._ports.database.read() as tx:
            known, life = device_and_key(tx, device)
            _require_rotatable(known, life)
            version = _next_version(tx, known)
        keystore = self._keystores.active
        reference = keystore.create(known.device_id, version)
        successor = Key(
            known.device_id, version, "pre_active", keystore.name, reference, self._ports.now()
        )
        try:
            return self._ports.database.write(
                lambda tx: self._begin(tx, actor, device, successor, reason)
            )
        except (Conflict, NotFound):
            # After any other failure it may be in the database all the same.
            keystore.destroy(reference)
            raise

    def _begin(
        self, tx: Transaction, actor: Actor, name: str, successor: Key, reason: str
    ) -> KeyLife:
        device, life = device_and_key(tx, name)
        _require_rotatable(device, life)
        if (device.device_id, _next_version(tx, device)) != (
            successor.device_id,
            successor.version,
        ):
            raise Conflict(f"device {name!r} was changed meanwhile; try again")
        tx.keys.put(successor)
        details = {"key_version": life.current.version, "successor": successor.version}
        log(tx, actor, "key.rotation_begun", f"device:{name}", details, reason)
        agent = tx.agents.get(device.agent)
        if agent is not None:
            # The event's number is the check's: higher than any before.
            tx.checks.put(Check(agent.agent_id, tx.audit.size(), self._ports.now()))
        return KeyLife(life.current, successor)

    def cancel(self, actor: Actor, device: str, reason: str) -> KeyLife:
        """Give up a rotation that has not ended, and destroy the successor."""
        authorize(actor, Privilege.MANAGE_KEYS)
        require(reason_errors(reason))

        def work(tx: Transaction) -> tuple[KeyLife, Key]:
            life, now = device_and_key(tx, device)[1], self._ports.now()
            if life.successor is None:
                raise Conflict(f"the key of device {device!r} is not being replaced")
            tx.keys.put(replace(life.successor, state="destroyed", destroyed_at=now, reference=b""))
            details = {"successor": life.successor.version}
            log(tx, actor, "key.rotation_cancelled", f"device:{device}", details, reason)
            return KeyLife(life.current), life.successor

        left, gone = self._ports.database.write(work)
        self._keystores.destroy([gone])
        return left

    def revoke(self, actor: Actor, device: str, reason: str) -> KeyLife:
        """Deactivate: no agent gets the key, and those that hold it are told to lock."""
        return self._step(actor, device, REVOKE, reason)[0]

    def restore(self, actor: Actor, device: str, reason: str) -> KeyLife:
        """Activate a deactivated key again."""
        return self._step(actor, device, RESTORE, reason)[0]

    def destroy(self, actor: Actor, device: str, reason: str) -> KeyLife:
        """Erase a deactivated key, all versions of it; what it encrypts is lost for ever."""
        life, gone = self._step(actor, device, DESTROY, reason)
        self._keystores.destroy(gone)
        return life

    def _step(
        self, actor: Actor, device: str, step: Step, reason: str
    ) -> tuple[KeyLife, Sequence[Key]]:
        """Return the life after the step, and the keys that the step took out of the database."""
        authorize(actor, Privilege.MANAGE_KEYS)
        require(reason_errors(reason))
        return self._ports.database.write(lambda tx: self._move(tx, actor, device, step, reason))

    def _move(
        self, tx: Transaction, actor: Actor, name: str, step: Step, reason: str
    ) -> tuple[KeyLife, Sequence[Key]]:
        device, life = device_and_key(tx, name)
        key = life.current
        if key.state not in step.sources:
            wanted = " or ".join(sorted(step.sources))
            raise Conflict(f"the key of device {name!r} is {key.state}, not {wanted}")
        moved, gone = _moved(key, step, self._ports.now()), []
        tx.keys.put(moved)
        if step is DESTROY:
            gone = [each for each in tx.keys.versions([device.device_id]) if each.reference]
            for each in gone:
                tx.keys.put(_moved(each, step, self._ports.now()))
            gone.append(key)
        details: dict[str, object] = {"key_version": key.version}
        if step is DESTROY:
            details["versions"] = sorted(each.version for each in gone)
        log(tx, actor, step.action, f"device:{name}", details, reason)
        if step is REVOKE:
            self._revoke_request(tx, actor, device, reason)
        return KeyLife(moved, None if step is DESTROY else life.successor), gone

    def _revoke_request(self, tx: Transaction, actor: Actor, device: Device, reason: str) -> None:
        request = tx.requests.open_of([device.device_id]).get(device.device_id)
        if request is None or requests.REVOKED not in requests.TRANSITIONS[request.state]:
            return
        now = self._ports.now()
        tx.requests.replace(requests.move(request, requests.REVOKED, str(actor), reason, now))
        target = f"device:{device.name}"
        log(tx, actor, "key_request.revoked", target, {"request": request.request_id}, reason)


def _require_rotatable(device: Device, life: KeyLife) -> None:
    if life.successor is not None:
        raise Conflict(
            f"the key of device {device.name!r} is being replaced already, by version"
            f" {life.successor.version}"
        )
    if life.current.state != "active":
        why = "was never released" if life.current.state == "pre_active" else "is not in use"
        raise Conflict(
            f"the key of device {device.name!r} is {life.current.state}: a key that {why} has"
            " nothing to be replaced on its machine"
        )
    if device.volume.get("read_only"):
        raise Conflict(
            f"device {device.name!r} is read-only, so nothing can be written to its LUKS header"
        )


def _next_version(tx: Transaction, device: Device) -> int:
    return tx.keys.versions([device.device_id])[-1].version + 1


def _moved(key: Key, step: Step, now: int) -> Key:
    if step is REVOKE:
        return replace(key, state=step.target, deactivated_at=now)
    if step is DESTROY:
        # The wrapped key leaves the database with this very transaction.
        return replace(key, state=step.target, destroyed_at=now, reference=b"")
    return replace(
        key, state=step.target, deactivated_at=None, activated_at=key.activated_at or now
    )
