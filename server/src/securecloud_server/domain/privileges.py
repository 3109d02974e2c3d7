"""Roles and what each may do. One table, checked in services, never in views."""

from enum import StrEnum

from securecloud_server.domain.errors import NotAuthorized
from securecloud_server.domain.records import Actor


class Privilege(StrEnum):
    """Kinds of acts that roles are granted."""

    READ_CONFIGURATION = "configuration.read"
    EDIT_CONFIGURATION = "configuration.edit"
    DECIDE_REQUESTS = "key_requests.decide"
    MANAGE_KEYS = "keys.manage"
    EXPORT_KEYS = "keys.export"
    DECIDE_EXPORTS = "key_exports.decide"
    MANAGE_TOKENS = "tokens.manage"
    READ_TOKENS = "tokens.read"
    READ_AUDIT = "audit.read"


_P = Privilege

ROLES: dict[str, frozenset[Privilege]] = {
    "account_administrator": frozenset(Privilege),
    "security_administrator": frozenset(
        {
            _P.READ_CONFIGURATION,
            _P.EDIT_CONFIGURATION,
            _P.DECIDE_REQUESTS,
            _P.MANAGE_KEYS,
            _P.EXPORT_KEYS,
            _P.DECIDE_EXPORTS,
            _P.READ_AUDIT,
        }
    ),
    "auditor": frozenset({_P.READ_CONFIGURATION, _P.READ_TOKENS, _P.READ_AUDIT}),
    "data_analyst": frozenset({_P.READ_AUDIT}),
    "key_approver": frozenset({_P.READ_CONFIGURATION, _P.DECIDE_REQUESTS}),
}


def authorize(actor: Actor, privilege: Privilege) -> None:
    """Raise NotAuthorized unless the actor's role includes `privilege`; the CLI may do all."""
    if actor.kind in {"cli", "system"}:
        return
    if privilege not in ROLES.get(actor.role or "", frozenset()):
        raise NotAuthorized(actor.role or "none", privilege)
