"""The life of a key's export: who may take which step, and how often one may be begun."""

from collections.abc import Sequence
from dataclasses import replace

from securecloud_server.domain.errors import Conflict, TooMany, WrongPerson
from securecloud_server.domain.keys import KeyLife
from securecloud_server.domain.records import ApiToken, Key, KeyExport

PENDING = "pending"
GRANTED = "granted"
DENIED = "denied"
COLLECTED = "collected"
EXPIRED = "expired"

OPEN = frozenset({PENDING, GRANTED})

LIFETIME = 3600
"""Seconds that a request waits for the other person, and a grant for the requester."""
WINDOW = 86_400
PER_REQUESTER = 10
PER_SERVER = 30
"""How many exports may be asked for within the last WINDOW seconds, by one and by all."""


def exportable(device: str, life: KeyLife) -> Key:
    """Return the version of the device's key that is in use; Conflict when nobody is to have it.

    One that is not active yet may open the volume already: its machine has not said so.
    """
    key = life.current
    if key.state not in {"pre_active", "active"}:
        raise Conflict(f"the key of device {device!r} is {key.state}, not active or pre_active")
    return key


def require_rare(asked_at: Sequence[int], limit: int, whose: str, now: int) -> None:
    """Raise TooMany when `limit` exports, at the times `asked_at` (newest first), are enough."""
    if len(asked_at) >= limit:
        message = f"{whose} may ask for {limit} exports in {WINDOW // 3600} hours"
        raise TooMany(message, asked_at[limit - 1] + WINDOW - now)


def grant(export: KeyExport, by: ApiToken, reason: str, now: int) -> KeyExport:
    """Return the pending export, granted from now on for LIFETIME seconds."""
    return _decide(export, frozenset({PENDING}), GRANTED, by, reason, now, now + LIFETIME)


def deny(export: KeyExport, by: ApiToken, reason: str, now: int) -> KeyExport:
    """Return the export, denied; that may be thought better of until it was collected."""
    return _decide(export, OPEN, DENIED, by, reason, now, export.expires_at)


def _decide(
    export: KeyExport,
    sources: frozenset[str],
    state: str,
    by: ApiToken,
    reason: str,
    now: int,
    expires_at: int,
) -> KeyExport:
    if by.origin == export.requester_origin:
        why = "this token asked for it"
        if by.token_id != export.requester_id:
            why = "both tokens descend from one, and count as one person"
        raise WrongPerson(f"key export {export.export_id} is decided by another person: {why}")
    _require(export, sources, now)
    return replace(
        export,
        state=state,
        decided_by=f"token:{by.name}",
        decided_reason=reason,
        decided_at=now,
        decider_id=by.token_id,
        expires_at=expires_at,
    )


def collect(export: KeyExport, by: ApiToken, now: int) -> KeyExport:
    """Return the granted export, collected."""
    if by.token_id != export.requester_id:
        raise WrongPerson(
            f"key export {export.export_id} is collected with the token by which it was asked for"
        )
    _require(export, frozenset({GRANTED}), now)
    return replace(export, state=COLLECTED, collected_at=now)


def require_same(export: KeyExport, key: Key) -> None:
    """Raise Conflict when the export is of another key than `key`."""
    if (key.device_id, key.version) != (export.device_id, export.key_version):
        raise Conflict(f"device {export.device!r} has another key than was asked for; ask anew")


def is_overdue(export: KeyExport, now: int) -> bool:
    """Whether nobody came in time."""
    return export.state in OPEN and export.expires_at <= now


def _require(export: KeyExport, sources: frozenset[str], now: int) -> None:
    state = EXPIRED if is_overdue(export, now) else export.state
    if state not in sources:
        wanted = " or ".join(sorted(sources))
        raise Conflict(f"key export {export.export_id} is {state}, not {wanted}")
