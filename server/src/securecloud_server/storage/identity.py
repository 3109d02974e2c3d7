"""The server's identity, kept in the database under the master key, so that all nodes share it."""

import json

from securecloud_protocol.encoding import b64u_decode, b64u_encode
from securecloud_protocol.server import ServerKeys
from sqlalchemy import Engine, insert, select, update

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import Sealer
from securecloud_server.storage.dialects import dialect_of, explained
from securecloud_server.storage.schema import SERVER_IDENTITY

_PURPOSE = "server identity"


def load_identity(engine: Engine, sealer: Sealer) -> ServerKeys | None:
    """Return the identity, or None before there is one.

    Unavailable when the master key is not the one under which it was stored.
    """
    dialect = dialect_of(engine)
    with explained(dialect), engine.connect() as connection:
        row = connection.execute(
            select(SERVER_IDENTITY.c.server_id, SERVER_IDENTITY.c.wrapped)
        ).one_or_none()
    if row is None:
        return None
    return _unpack(row.server_id, sealer.open(row.wrapped, _PURPOSE, row.server_id))


def store_identity(engine: Engine, sealer: Sealer, keys: ServerKeys, now: int) -> ServerKeys:
    """Store `keys` unless an identity is there already; return the one that is there."""
    row = {
        "id": 1,
        "server_id": keys.server_id,
        "wrapped": sealer.seal(_pack(keys), _PURPOSE, keys.server_id),
        "created_at": now,
    }
    dialect = dialect_of(engine)
    with explained(dialect), engine.connect() as connection:
        connection.exec_driver_sql(dialect.begin_write)
        if connection.execute(select(SERVER_IDENTITY.c.id)).one_or_none() is None:
            connection.execute(insert(SERVER_IDENTITY), row)
        connection.exec_driver_sql("COMMIT")
    stored = load_identity(engine, sealer)
    if stored is None:
        raise Unavailable("the server identity was not stored")
    return stored


def renew_identity(engine: Engine, sealer: Sealer, *, check: bool = False) -> bool:
    """Seal the identity anew where the master key was replaced since; return whether it was.

    With `check`, only say whether it is to be.
    """
    dialect = dialect_of(engine)
    with explained(dialect), engine.connect() as connection:
        if not check:
            connection.exec_driver_sql(dialect.begin_write)
        row = connection.execute(select(SERVER_IDENTITY)).one_or_none()
        fresh = row and sealer.renew(row.wrapped, _PURPOSE, row.server_id)
        if fresh and not check:
            connection.execute(update(SERVER_IDENTITY).values(wrapped=fresh))
            connection.exec_driver_sql("COMMIT")
    return fresh is not None


def _pack(keys: ServerKeys) -> bytes:
    secrets = (keys.kem_seed, keys.signing_seed, keys.token_key)
    return json.dumps([b64u_encode(secret) for secret in secrets]).encode()


def _unpack(server_id: str, packed: bytes) -> ServerKeys:
    return ServerKeys(server_id, *(b64u_decode(text) for text in json.loads(packed)))
