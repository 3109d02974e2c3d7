"""Makes, upgrades and examines what a server stands on: master key, database, identity, log."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securecloud_audit.manifest import Manifest
from securecloud_protocol.server import Responder, generate_keys

from securecloud_server.app import build
from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import Clock
from securecloud_server.domain.records import Actor
from securecloud_server.keystores.master_key import (
    KeyRing,
    create_master_key,
    load_key_ring,
    master_key_path,
)
from securecloud_server.settings import Settings
from securecloud_server.storage import migrations
from securecloud_server.storage.database import is_absent, make_engine
from securecloud_server.storage.identity import load_identity, store_identity
from securecloud_server.storage.verification import AuditReport, verify_audit


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` made, in words, and who the server is (None where a check stopped it)."""

    created: tuple[str, ...]
    server_id: str | None
    fingerprint: str | None
    schema_version: int


def prepare(settings: Settings, *, check: bool = False, clock: Clock = time.time) -> Prepared:
    """Create master key, schema and identity where they are missing; with `check`, only say so."""
    if check:
        return _missing(settings)
    created = []
    if create_master_key(settings.keystore.master_key):
        created.append("master key")
    key_ring = _key_ring(settings)
    engine = make_engine(settings.storage.url)
    try:
        created += [f"schema version {number}" for number in migrations.upgrade(engine)]
        keys = load_identity(engine, key_ring)
        if keys is None:
            fresh = generate_keys(str(uuid.uuid4()))
            keys = store_identity(engine, key_ring, fresh, int(clock()))
            created.append("server identity")
        version = migrations.schema_version(engine)
    finally:
        engine.dispose()
    created += _first_records(settings, clock)
    return Prepared(tuple(created), keys.server_id, Responder(keys, ()).fingerprint, version)


def _first_records(settings: Settings, clock: Clock) -> list[str]:
    application = build(settings, clock=clock)
    try:
        made = application.admin.policies.ensure_default(Actor("cli", "securecloud-server"))
    finally:
        application.close()
    return ["default policy"] if made else []


def upgrade_database(settings: Settings, *, check: bool = False) -> tuple[int, int]:
    """Run missing migrations; return the schema's version before and after (or, with `check`, to
    be)."""
    if is_absent(settings.storage.url):
        raise Unavailable("there is no database; run securecloud-server init")
    engine = make_engine(settings.storage.url)
    try:
        before = migrations.schema_version(engine)
        if not check:
            migrations.upgrade(engine)
        return before, max(before, migrations.LATEST)
    finally:
        engine.dispose()


def verify_audit_log(settings: Settings) -> AuditReport:
    """Verify the whole audit log against its own hashes and this server's signature."""
    application = build(settings)

    def check(size: int, root: bytes, at: int, signature: bytes) -> None:
        # Ed25519 is deterministic (RFC 8032, section 5.1.6): the same head, the same signature.
        if application.responder.sign_audit_head(size, root, at) != signature:
            raise ValueError("it was made by another key or for another head")

    try:
        return verify_audit(application.database, check)
    finally:
        application.close()


def export_audit_log(
    settings: Settings,
    path: Path,
    since: int | None,
    until: int | None,
    progress: Callable[[int, int], None],
    *,
    clock: Clock = time.time,
) -> Manifest:
    """Write the events of a time (milliseconds, or None) to `path`, an empty file.

    Returns what the bundle says of itself.
    """
    from securecloud_server.storage.bundle import (  # noqa: PLC0415 - sqlite-utils is slow to load
        Author,
        Selection,
        write_bundle,
    )

    application = build(settings)
    responder = application.responder
    author = Author(responder.identity, responder.sign_audit_bundle, int(clock()))
    try:
        selection = Selection(since, until)
        return write_bundle(application.database, path, selection, author, progress)
    finally:
        application.close()


@dataclass(frozen=True, slots=True)
class AuditKey:
    """The key with which this server signs tree heads and bundles, and whose it is."""

    server_id: str
    fingerprint: str
    pem: str


def audit_key(settings: Settings) -> AuditKey:
    """Return the public key by which others verify what this server signs."""
    application = build(settings)
    application.close()
    responder = application.responder
    key = Ed25519PublicKey.from_public_bytes(responder.identity.signing_key)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return AuditKey(responder.identity.server_id, responder.fingerprint, pem)


def _missing(settings: Settings) -> Prepared:
    records = ("server identity", "default policy")
    if not master_key_path(settings.keystore.master_key).exists():
        return Prepared(("master key", *_schemas_behind(0), *records), None, None, 0)
    if is_absent(settings.storage.url):
        return Prepared((*_schemas_behind(0), *records), None, None, 0)
    engine = make_engine(settings.storage.url)
    try:
        version = migrations.schema_version(engine)
        keys = None
        if version:
            keys = load_identity(engine, _key_ring(settings))
    finally:
        engine.dispose()
    if keys is None:
        return Prepared((*_schemas_behind(version), *records), None, None, version)
    fingerprint = Responder(keys, ()).fingerprint
    return Prepared(_schemas_behind(version), keys.server_id, fingerprint, version)


def _key_ring(settings: Settings) -> KeyRing:
    return load_key_ring(settings.keystore.master_key, settings.keystore.previous_master_key)


def _schemas_behind(version: int) -> tuple[str, ...]:
    return tuple(f"schema version {n}" for n in range(version + 1, migrations.LATEST + 1))
