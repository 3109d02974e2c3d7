"""API tokens: for automation; shown once, stored hashed, gone the moment they are revoked."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from securecloud_protocol.encoding import b64u_decode, b64u_encode
from securecloud_protocol.errors import ProtocolError

from securecloud_server.domain.errors import Conflict, FieldError, NotAuthenticated
from securecloud_server.domain.names import line_errors, require
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.preconditions import ALWAYS, Precondition
from securecloud_server.domain.privileges import ROLES, Privilege, authorize
from securecloud_server.domain.records import Actor, ApiToken
from securecloud_server.services.admin import (
    SECRET_BYTES,
    Ports,
    Slice,
    found,
    log,
    read_page,
    same_secret,
    secret_hash,
)

_ID_BYTES = 6
_NAME_MAX = 100
_TEXT = re.compile(r"sct\.([0-9a-f]{12})\.([A-Za-z0-9_-]{43})")
_PAGE = 500
_NO_HASH = bytes(32)


def state(token: ApiToken, now: int) -> str:
    """Return active, expired or revoked."""
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= now else "active"


def tag(token: ApiToken, now: int) -> str:
    """Return the entity tag of a token."""
    return f"{token.token_id}-{state(token, now)}"


class ApiTokenService:
    """Mints, lists, revokes and recognises API tokens."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def create(
        self, actor: Actor, name: str, role: str, expires_in: int | None
    ) -> tuple[ApiToken, str]:
        """Return the token's record and its text, which is not kept.

        Conflict when an active token has the name: the audit log names who acted by it.
        """
        authorize(actor, Privilege.MANAGE_TOKENS)
        require(_name_errors(name), _role_errors(role))
        secret, now = self._ports.random(SECRET_BYTES), self._ports.now()
        token_id = self._ports.random(_ID_BYTES).hex()
        record = ApiToken(
            token_id=token_id,
            name=name,
            role=role,
            secret_hash=secret_hash(secret),
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
        )

        def work(tx: Transaction) -> ApiToken:
            if any(_active(page, now) for page in _pages(tx, {"name": name})):
                raise Conflict(f"there is already an active API token {name!r}")
            minted = replace(record, origin=_origin(tx, actor, token_id, now))
            tx.api_tokens.add(minted)
            details = {"name": name, "role": role, "expires_at": record.expires_at}
            log(tx, actor, "api_token.created", f"api_token:{token_id}", details)
            return minted

        return self._ports.database.write(work), f"sct.{token_id}.{b64u_encode(secret)}"

    def get(self, actor: Actor, token_id: str) -> ApiToken:
        """Return the token's record."""
        authorize(actor, Privilege.READ_TOKENS)
        with self._ports.database.read() as tx:
            return found(tx.api_tokens.get(token_id), "API token", token_id)

    def page(self, actor: Actor, part: Slice) -> Sequence[ApiToken]:
        """Return tokens by id."""
        authorize(actor, Privilege.READ_TOKENS)
        return read_page(self._ports, lambda tx: tx.api_tokens.page(part.after, part.limit, {}))

    def revoke(self, actor: Actor, token_id: str, precondition: Precondition = ALWAYS) -> ApiToken:
        """Make the token useless at once."""
        authorize(actor, Privilege.MANAGE_TOKENS)

        def work(tx: Transaction) -> ApiToken:
            token = found(tx.api_tokens.get(token_id), "API token", token_id)
            precondition.check(tag(token, self._ports.now()))
            if token.revoked_at is not None:
                return token
            token = replace(token, revoked_at=self._ports.now())
            tx.api_tokens.replace(token)
            log(tx, actor, "api_token.revoked", f"api_token:{token_id}", {"name": token.name})
            return token

        return self._ports.database.write(work)

    def authenticate(self, text: str, source: str | None) -> Actor:
        """Return who presents the token `text`; NotAuthenticated says nothing more."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise NotAuthenticated("the API token is not valid")
        with self._ports.database.read() as tx:
            token = tx.api_tokens.get(match[1])
        known = token is not None and state(token, self._ports.now()) == "active"
        stored = token.secret_hash if token else _NO_HASH
        if not same_secret(stored, _secret(match[2])) or not known or token is None:
            raise NotAuthenticated("the API token is not valid")
        return Actor("token", token.name, token.role, source, token.token_id)

    def any_active(self) -> bool:
        """Whether some account administrator's token can be used."""
        with self._ports.database.read() as tx:
            pages = _pages(tx, {"role": "account_administrator"})
            return any(_active(page, self._ports.now()) for page in pages)

    def now(self) -> int:
        """Return the time by which `state` is judged."""
        return self._ports.now()


def token_of(tx: Transaction, actor: Actor, now: int) -> ApiToken:
    """Return the token by which the actor acts; NotAuthenticated when it may not any more."""
    token = tx.api_tokens.get(actor.token_id) if actor.token_id else None
    if token is None or state(token, now) != "active":
        raise NotAuthenticated("the API token is not valid")
    return token


def _origin(tx: Transaction, actor: Actor, token_id: str, now: int) -> str:
    """Return the origin of the token that `actor` mints."""
    return token_id if actor.kind != "token" else token_of(tx, actor, now).origin


def _pages(tx: Transaction, filters: Mapping[str, str | None]) -> Iterator[Sequence[ApiToken]]:
    after: str | None = None
    while True:
        page = tx.api_tokens.page(after, _PAGE, filters)
        yield page
        if len(page) < _PAGE:
            return
        after = page[-1].token_id


def _active(tokens: Sequence[ApiToken], now: int) -> bool:
    return any(state(token, now) == "active" for token in tokens)


def _secret(text: str) -> bytes:
    try:
        return b64u_decode(text)
    except ProtocolError:
        return b""


def _name_errors(name: str) -> list[FieldError]:
    if name == name.strip():
        return line_errors("name", name, 1, _NAME_MAX)
    expected = f"one line of 1 to {_NAME_MAX} characters, no space at its ends"
    return [FieldError("name", expected, f"expected {expected}")]


def _role_errors(role: str) -> list[FieldError]:
    if role in ROLES:
        return []
    expected = f"one of {', '.join(ROLES)}"
    return [FieldError("role", expected, f"expected {expected}")]
