"""Who calls: an API token in the Authorization header (RFC 6750, section 2.1)."""

import logging
from collections.abc import Callable
from typing import Protocol

from flask import g, request

from securecloud_server.domain.errors import DomainError, NotAuthenticated, Unavailable
from securecloud_server.domain.records import Actor

_LOG = logging.getLogger("securecloud.admin_api")
_TARGET_MAX = 200


class Tokens(Protocol):
    """Recognises API tokens."""

    def authenticate(self, text: str, source: str | None) -> Actor:
        """Return who presents the token `text`; NotAuthenticated says nothing more."""


class Refusals(Protocol):
    """Keeps what was refused."""

    def record(self, actor: Actor, action: str, target: str, reason: str) -> None:
        """Append the refusal unless one like it was appended just now."""


def authenticate(tokens: Tokens) -> Callable[[], None]:
    """Return what to run before each view: it finds out who calls, or raises NotAuthenticated."""

    def before() -> None:
        text = bearer(request.headers.get("Authorization"))
        g.actor = tokens.authenticate(text, request.remote_addr)

    return before


def caller() -> Actor:
    """Return who calls this view."""
    actor: Actor = g.actor
    return actor


def bearer(authorization: str | None) -> str:
    """Return the token in an Authorization header."""
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise NotAuthenticated("send an API token: Authorization: Bearer TOKEN")
    return text.strip()


def _printable(text: str) -> str:
    """Return the text without what a database may refuse to keep, such as NUL."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def audit_refusals(refusals: Refusals) -> Callable[[DomainError], None]:
    """Return what to tell of each caller who was not let in."""

    def refused(error: DomainError) -> None:
        unknown = Actor("anonymous", "unknown", None, request.remote_addr)
        actor: Actor = g.get("actor", unknown)
        action = "access.unauthenticated" if actor is unknown else "access.unauthorized"
        target = _printable(f"{request.method} {request.path}")[:_TARGET_MAX]
        try:
            refusals.record(actor, action, target, str(error))
        except Unavailable as cause:
            _LOG.error("a refusal was not audited", extra={"cause": str(cause), "object": target})

    return refused
