"""Puts the parts together. Nothing else chooses an adapter."""

import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from securecloud_protocol.server import Responder, ServerKeys, generate_keys

from securecloud_server.domain.errors import FieldError, Invalid, Unavailable
from securecloud_server.domain.ports import Clock, Keystore, RandomSource
from securecloud_server.keystores.local import LocalKeystore
from securecloud_server.keystores.master_key import (
    MasterKey,
    create_master_key,
    load_master_key,
    master_key_path,
)
from securecloud_server.settings import Settings
from securecloud_server.storage import migrations
from securecloud_server.storage.database import SqlDatabase, make_engine, open_database
from securecloud_server.storage.identity import load_identity, store_identity


@dataclass(frozen=True, slots=True)
class Application:
    """Everything that serves, wired."""

    settings: Settings
    database: SqlDatabase
    keystore: Keystore
    responder: Responder
    clock: Clock
    random: RandomSource

    def close(self) -> None:
        """Give up all connections."""
        self.database.close()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` made, in words, and who the server is (None where a check stopped it)."""

    created: tuple[str, ...]
    server_id: str | None
    fingerprint: str | None
    schema_version: int


def build(
    settings: Settings,
    certificates: Sequence[bytes] = (),
    *,
    clock: Clock = time.time,
    random: RandomSource = os.urandom,
) -> Application:
    """Wire an initialised server; Unavailable with the reason when it is not.

    `certificates` (DER) are those under which agents see this server: see `load_certificates`.
    Commands that answer no agents need none.
    """
    master_key = load_master_key(settings.keystore.master_key, random)
    keys = _identity(settings, master_key)
    responder = Responder(keys, certificates, random)
    database = open_database(settings.storage.url, responder.sign_audit_head, clock)
    keystore = LocalKeystore(master_key, random)
    return Application(settings, database, keystore, responder, clock, random)


def prepare(settings: Settings, *, check: bool = False, clock: Clock = time.time) -> Prepared:
    """Create master key, schema and identity where they are missing; with `check`, only say so."""
    if check:
        return _missing(settings)
    created = []
    if create_master_key(settings.keystore.master_key):
        created.append("master key")
    master_key = load_master_key(settings.keystore.master_key)
    engine = make_engine(settings.storage.url)
    try:
        created += [f"schema version {number}" for number in migrations.upgrade(engine)]
        keys = load_identity(engine, master_key)
        if keys is None:
            fresh = generate_keys(str(uuid.uuid4()))
            keys = store_identity(engine, master_key, fresh, int(clock()))
            created.append("server identity")
        version = migrations.schema_version(engine)
    finally:
        engine.dispose()
    return Prepared(tuple(created), keys.server_id, Responder(keys, ()).fingerprint, version)


def load_certificates(path: str) -> list[bytes]:
    """Return the leaf certificate (DER) of a PEM file, as TLS shows it to agents."""
    try:
        leaf = x509.load_pem_x509_certificates(Path(path).read_bytes())[0]
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise Invalid([FieldError("server.tls_certificate", "a readable file", message)]) from None
    except ValueError:
        message = f"{path} holds no certificate in PEM form"
        raise Invalid([FieldError("server.tls_certificate", "PEM", message)]) from None
    return [leaf.public_bytes(Encoding.DER)]


def _missing(settings: Settings) -> Prepared:
    if not master_key_path(settings.keystore.master_key).exists():
        everything = ("master key", f"schema version {migrations.LATEST}", "server identity")
        return Prepared(everything, None, None, 0)
    if _sqlite_is_absent(settings.storage.url):
        return Prepared((f"schema version {migrations.LATEST}", "server identity"), None, None, 0)
    engine = make_engine(settings.storage.url)
    try:
        version = migrations.schema_version(engine)
        missing = tuple(f"schema version {n}" for n in range(version + 1, migrations.LATEST + 1))
        keys = None
        if version:
            keys = load_identity(engine, load_master_key(settings.keystore.master_key))
    finally:
        engine.dispose()
    if keys is None:
        return Prepared((*missing, "server identity"), None, None, version)
    return Prepared(missing, keys.server_id, Responder(keys, ()).fingerprint, version)


def _sqlite_is_absent(url: str) -> bool:
    return url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:///")).exists()


def _identity(settings: Settings, master_key: MasterKey) -> ServerKeys:
    if _sqlite_is_absent(settings.storage.url):
        raise Unavailable("there is no database; run securecloud-server init")
    engine = make_engine(settings.storage.url)
    try:
        version = migrations.schema_version(engine)
        if version != migrations.LATEST:
            raise Unavailable(
                f"the database has schema version {version}, this server needs "
                f"{migrations.LATEST}; run securecloud-server db upgrade"
            )
        keys = load_identity(engine, master_key)
    finally:
        engine.dispose()
    if keys is None:
        raise Unavailable("the server has no identity; run securecloud-server init")
    return keys
