"""The proof that every key can still be fetched, made before somebody needs one of them."""

from dataclasses import dataclass

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.ports import Database, Transaction
from securecloud_server.domain.records import Actor, AuditEvent
from securecloud_server.services.every_key import Progress, every_key


@dataclass(frozen=True, slots=True)
class Proof:
    """How many keys were tried, and why some of them cannot be fetched, by device."""

    tried: int
    failed: dict[str, str]


class KeyProof:
    """Fetches every key that was not destroyed, and forgets it at once."""

    def __init__(self, database: Database, keystores: Keystores) -> None:
        self._database = database
        self._keystores = keystores

    def run(self, actor: Actor, progress: Progress) -> Proof:
        """Try them all; what came of it is in the audit log."""
        with self._database.read() as tx:
            keys = [(device.name, key) for device, key in every_key(tx)]
        failed = {}
        for done, (device, key) in enumerate(keys):
            progress(done, len(keys))
            try:
                self._keystores.of(key).fetch(key.reference, key.device_id, key.version)
            except Unavailable as error:
                failed[device] = str(error)
        progress(len(keys), len(keys))
        proof = Proof(len(keys), failed)
        self._database.write(lambda tx: _log(tx, actor, proof))
        return proof


def _log(tx: Transaction, actor: Actor, proof: Proof) -> None:
    for device, reason in proof.failed.items():
        event = AuditEvent(actor, "key.unavailable", f"device:{device}", "failed", reason, {})
        tx.audit.append(event)
    details = {"keys": proof.tried, "failed": len(proof.failed)}
    outcome = "failed" if proof.failed else "success"
    tx.audit.append(AuditEvent(actor, "keystore.proven", "server:keystore", outcome, "", details))
