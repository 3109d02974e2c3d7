"""Every key, for the day when no server is there to release one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.ports import Database, Transaction
from securecloud_server.domain.records import Actor, AuditEvent, Device, Key
from securecloud_server.services.admin import log
from securecloud_server.services.every_key import Progress, every_key

_TARGET = "server:keystore"


@dataclass(frozen=True, slots=True)
class Escrowed:
    """One version of a device's key: what opens the volume with this LUKS UUID, if it was seen."""

    device: Device
    luks_uuid: str | None
    key: Key
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Escrow:
    """How many keys of how many devices were taken, and why others were not, by device."""

    keys: int
    devices: int
    failed: dict[str, str]


class KeyEscrow:
    """Fetches every key that was not destroyed."""

    def __init__(self, database: Database, keystores: Keystores) -> None:
        self._database = database
        self._keystores = keystores

    def run(
        self,
        actor: Actor,
        recipients: Sequence[str],
        take: Callable[[Escrowed], None],
        progress: Progress,
    ) -> Escrow:
        """Give them all to `take`; before the first, for whom that is done is in the audit log.

        One that cannot be fetched keeps no other from it. Unavailable when none can.
        """
        with self._database.read() as tx:
            found = _all(tx)
        begun = {"keys": len(found), "recipients": list(recipients)}
        self._database.write(lambda tx: log(tx, actor, "server.escrow_begun", _TARGET, begun))
        taken, failed = [], {}
        for done, (device, luks_uuid, key) in enumerate(found):
            progress(done, len(found))
            try:
                secret = self._keystores.of(key).fetch(key.reference, key.device_id, key.version)
            except Unavailable as error:
                failed[f"{device.name} version {key.version}"] = str(error)
                continue
            take(Escrowed(device, luks_uuid, key, secret))
            taken.append(device.name)
        progress(len(found), len(found))
        escrow = Escrow(len(taken), len(set(taken)), failed)
        self._database.write(lambda tx: _log_end(tx, actor, escrow))
        if failed and not taken:
            raise Unavailable(f"no key can be fetched: {next(iter(failed.values()))}")
        return escrow


def _all(tx: Transaction) -> list[tuple[Device, str | None, Key]]:
    found = sorted(every_key(tx), key=lambda each: (each[0].name, each[1].version))
    states = {
        device.device_id: tx.devices.states([device.device_id])[device.device_id]
        for device, _ in found
    }
    return [(device, states[device.device_id].luks_uuid, key) for device, key in found]


def _log_end(tx: Transaction, actor: Actor, escrow: Escrow) -> None:
    details = {"keys": escrow.keys, "failed": len(escrow.failed)}
    outcome = "failed" if escrow.failed else "success"
    tx.audit.append(AuditEvent(actor, "server.escrow_ended", _TARGET, outcome, "", details))
