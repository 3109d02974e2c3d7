"""Exports of keys: one person asks, another one grants, and the first collects it, once.

What is handed out is sealed to the requester's public key. It is made when it is collected, and is
in the audit log, on disk, before it leaves.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from securecloud_server.domain import exports as life
from securecloud_server.domain.errors import Conflict, TooMany, Unavailable, WrongPerson
from securecloud_server.domain.ids import uuid7
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.names import reason_errors, require
from securecloud_server.domain.ports import RecipientSealer, Transaction
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, ApiToken, AuditEvent, Key, KeyExport
from securecloud_server.services.admin import (
    Ports,
    Slice,
    device_and_key,
    found,
    log,
    read_page,
)
from securecloud_server.services.api_tokens import state, token_of

_EVENTS = {
    life.PENDING: "key.export_requested",
    life.GRANTED: "key.export_granted",
    life.DENIED: "key.export_denied",
    life.COLLECTED: "key.exported",
    life.EXPIRED: "key.export_expired",
}
_REFUSED = "key.export_refused"

Decision = Callable[[Transaction, KeyExport, ApiToken, int], KeyExport]
"""Returns the export as it is to be, decided by the holder of this token now."""


class KeyExportService:
    """Begins, decides and ends exports; every step and every refused one is in the audit log."""

    def __init__(self, ports: Ports, keystores: Keystores, sealer: RecipientSealer) -> None:
        self._ports = ports
        self._keystores = keystores
        self._sealer = sealer

    def get(self, actor: Actor, export_id: str) -> KeyExport:
        """Return the export; it holds no key."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        return self._known(export_id)

    def page(
        self, actor: Actor, part: Slice, filters: Mapping[str, str | None]
    ) -> Sequence[KeyExport]:
        """Return exports, newest first; filters `state`, `device`."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        return read_page(self._ports, lambda tx: tx.exports.page(part.after, part.limit, filters))

    def request(self, actor: Actor, device: str, recipient: str, reason: str) -> KeyExport:
        """Ask for the version of the device's key that is in use now, sealed to `recipient`."""
        authorize(actor, Privilege.EXPORT_KEYS)
        require(self._sealer.errors(recipient), reason_errors(reason))

        def work(tx: Transaction) -> KeyExport:
            now = self._ports.now()
            token = token_of(tx, actor, now)
            known, keys = device_and_key(tx, device)
            key = life.exportable(device, keys)
            _require_rare(tx, token, now)
            export = KeyExport(
                export_id=uuid7(int(self._ports.clock() * 1000), self._ports.random),
                device_id=known.device_id,
                device=known.name,
                key_version=key.version,
                recipient=recipient,
                state=life.PENDING,
                requested_by=str(actor),
                requester_id=token.token_id,
                requester_origin=token.origin,
                reason=reason,
                created_at=now,
                expires_at=now + life.LIFETIME,
            )
            tx.exports.add(export)
            log_step(tx, actor, export, reason)
            return export

        with self._watched(actor, "request", device):
            return self._ports.database.write(work)

    def grant(self, actor: Actor, export_id: str, reason: str) -> KeyExport:
        """Let the requester have the key, if it is in use still."""

        def granted(tx: Transaction, export: KeyExport, by: ApiToken, now: int) -> KeyExport:
            decided = life.grant(export, by, reason, now)
            _key_of(tx, export)
            return decided

        return self._decide(actor, export_id, "grant", reason, granted)

    def deny(self, actor: Actor, export_id: str, reason: str) -> KeyExport:
        """Refuse the requester the key; also after a grant, until the key was collected."""

        def denied(_tx: Transaction, export: KeyExport, by: ApiToken, now: int) -> KeyExport:
            return life.deny(export, by, reason, now)

        return self._decide(actor, export_id, "deny", reason, denied)

    def collect(self, actor: Actor, export_id: str) -> tuple[KeyExport, str]:
        """Return the key, sealed; to the requester alone, and once."""
        authorize(actor, Privilege.EXPORT_KEYS)
        known = self._known(export_id)
        with self._watched(actor, "collect", known.device, export_id):
            with self._ports.database.read() as tx:
                key = self._collected(tx, actor, export_id)[1]
            sealed = self._sealed(actor, known, key)

            def work(tx: Transaction) -> KeyExport:
                export = self._collected(tx, actor, export_id)[0]
                tx.exports.replace(export)
                log_step(tx, actor, export, export.reason)
                return export

            return self._ports.database.write(work), sealed

    def _decide(
        self,
        actor: Actor,
        export_id: str,
        step: str,
        reason: str,
        decided: Decision,
    ) -> KeyExport:
        authorize(actor, Privilege.DECIDE_EXPORTS)
        require(reason_errors(reason))
        known = self._known(export_id)

        def work(tx: Transaction) -> KeyExport:
            now = self._ports.now()
            export = found(tx.exports.get(export_id), "key export", export_id)
            export = decided(tx, export, token_of(tx, actor, now), now)
            tx.exports.replace(export)
            log_step(tx, actor, export, reason)
            return export

        with self._watched(actor, step, known.device, export_id):
            return self._ports.database.write(work)

    def _collected(self, tx: Transaction, actor: Actor, export_id: str) -> tuple[KeyExport, Key]:
        """Return what the export is once it is collected, and the key, if it may be now."""
        now = self._ports.now()
        export = found(tx.exports.get(export_id), "key export", export_id)
        collected = life.collect(export, token_of(tx, actor, now), now)
        _require_granter(tx, export, now)
        return collected, _key_of(tx, export)

    def _sealed(self, actor: Actor, export: KeyExport, key: Key) -> str:
        try:
            secret = self._keystores.of(key).fetch(key.reference, key.device_id, key.version)
        except Unavailable as error:
            self._log_end(actor, "collect", export.device, export.export_id, "failed", str(error))
            raise
        return self._sealer.seal(secret, export.recipient)

    def _known(self, export_id: str) -> KeyExport:
        with self._ports.database.read() as tx:
            return found(tx.exports.get(export_id), "key export", export_id)

    @contextmanager
    def _watched(
        self, actor: Actor, step: str, device: str, export_id: str | None = None
    ) -> Iterator[None]:
        """Put a refusal in the audit log: nothing else of its transaction is there."""
        try:
            yield
        except (Conflict, WrongPerson, TooMany) as refusal:
            self._log_end(actor, step, device, export_id, "refused", str(refusal))
            raise

    def _log_end(
        self,
        actor: Actor,
        step: str,
        device: str,
        export_id: str | None,
        outcome: str,
        reason: str,
    ) -> None:
        details = {"step": step, "export": export_id, "token": actor.token_id}
        event = AuditEvent(actor, _REFUSED, f"device:{device}", outcome, reason, details)
        self._ports.database.write(lambda tx: tx.audit.append(event))


def log_step(tx: Transaction, actor: Actor, export: KeyExport, reason: str) -> None:
    """Append the step that led the export to its state to the audit log."""
    details = {
        "export": export.export_id,
        "key_version": export.key_version,
        "recipient": export.recipient,
        "requested_by": export.requested_by,
        "decided_by": export.decided_by,
        "token": actor.token_id,
    }
    log(tx, actor, _EVENTS[export.state], f"device:{export.device}", details, reason)


def _require_rare(tx: Transaction, token: ApiToken, now: int) -> None:
    """Raise TooMany when this person, or all together, asked often enough."""
    since = now - life.WINDOW
    for limit, origin, whose in (
        (life.PER_REQUESTER, token.origin, "one person"),
        (life.PER_SERVER, None, "all together"),
    ):
        life.require_rare(tx.exports.asked_at(since, limit, origin), limit, whose, now)


def _require_granter(tx: Transaction, export: KeyExport, now: int) -> None:
    """Raise Conflict when the token that granted it was taken away: so was its word."""
    granter = tx.api_tokens.get(export.decider_id or "")
    if granter is None or state(granter, now) != "active":
        raise Conflict(
            f"key export {export.export_id} was granted by {export.decided_by}, which is not valid"
            " any more; ask anew"
        )


def _key_of(tx: Transaction, export: KeyExport) -> Key:
    """Return the key that was asked for; Conflict unless it is in use still."""
    keys = tx.keys.lives([export.device_id]).get(export.device_id)
    if keys is None:
        raise Conflict(f"device {export.device!r} is gone, and its key with it")
    key = life.exportable(export.device, keys)
    life.require_same(export, key)
    return key
