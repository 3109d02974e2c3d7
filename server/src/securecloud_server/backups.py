"""Backups: everything that a server is, in one file, encrypted to whoever is to restore it (age).

Inside is a tar archive of `manifest.json`, `master.key` (unless people have it in shares) and
`securecloud.db`, a snapshot of the database. It goes through a pipe, so that the master key is
never in plain on a disk.
"""

import json
import tarfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from securecloud_server import __version__, age
from securecloud_server.app import build
from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.domain.ports import Clock
from securecloud_server.domain.records import Actor, AuditEvent, TreeHead
from securecloud_server.keystores.master_key import (
    load_master_key,
    master_key_path,
    write_durably,
)
from securecloud_server.settings import Settings
from securecloud_server.storage import migrations
from securecloud_server.storage.database import is_absent, make_engine
from securecloud_server.storage.snapshots import (
    read_snapshot,
    require_empty,
    server_of,
    upgrade_snapshot,
    write_snapshot,
)

_FORMAT = 1
_MANIFEST, _MASTER_KEY, _DATABASE = "manifest.json", "master.key", "securecloud.db"
_LONGEST_SMALL = 64 * 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself."""

    format: int
    version: str
    schema_version: int
    server_id: str
    fingerprint: str
    created_at: int
    audit_size: int


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored: who the server is, whatever the manifest says, and the audit log's head
    (root in hex) that agents are to accept.
    """

    manifest: Manifest
    server_id: str
    fingerprint: str
    audit_size: int
    audit_root: str


def back_up(
    settings: Settings,
    actor: Actor,
    recipients: Sequence[Any],
    to: BinaryIO,
    clock: Clock = time.time,
) -> Manifest:
    """Write a backup to `to` while the servers serve; it is in the audit log before it is made."""
    application = build(settings, clock=clock)
    try:
        if settings.keystore.previous_master_key and application.rewrapping.left():
            raise Conflict(
                "the master key is being replaced; run securecloud-server keystore rewrap"
            )
        with application.database.read() as tx:
            size = tx.audit.size()
        manifest = Manifest(
            _FORMAT,
            __version__,
            migrations.LATEST,
            application.server_id,
            application.responder.fingerprint,
            int(clock()),
            size,
        )
        event = AuditEvent(actor, "server.backup_begun", "server", "success", "", asdict(manifest))
        application.database.write(lambda tx: tx.audit.append(event))
        with TemporaryDirectory(dir=_workspace(settings)) as directory:
            snapshot = Path(directory) / _DATABASE
            write_snapshot(application.database.engine, snapshot)
            members = [(_MANIFEST, json.dumps(asdict(manifest)).encode())]
            source = settings.keystore.master_key
            if not source.startswith("shares:"):
                members.append((_MASTER_KEY, master_key_path(source).read_bytes()))
            age.encrypt(lambda end: _archive(end, members, snapshot), to, recipients)
    finally:
        application.close()
    return manifest


def restore(
    settings: Settings,
    actor: Actor,
    identities: Sequence[Any],
    backup: BinaryIO,
    *,
    keep_lineages: bool = False,
) -> Restored:
    """Make a server of a backup where there is none; what is there is never overwritten.

    Unavailable when it does not decrypt or is no backup. The audit log is not verified here.
    """
    engine = make_engine(settings.storage.url)
    try:
        if not is_absent(settings.storage.url):
            require_empty(engine)
        with TemporaryDirectory(dir=_workspace(settings)) as directory:
            snapshot = Path(directory) / _DATABASE
            manifest, key = _unpack(backup, identities, snapshot)
            upgrade_snapshot(snapshot)
            _restore_master_key(settings, key)
            details = {**asdict(manifest), "lineages": "kept" if keep_lineages else "forgotten"}
            event = AuditEvent(actor, "server.restored", "server", "success", "", details)
            # In the snapshot already: so it is there at once with all the rest, or nothing is.
            server_id, fingerprint, head = _logged(settings, snapshot, event)
            read_snapshot(snapshot, engine, keep_lineages=keep_lineages)
    finally:
        engine.dispose()
    return Restored(manifest, server_id, fingerprint, head.size, head.root.hex())


def _logged(settings: Settings, snapshot: Path, event: AuditEvent) -> tuple[str, str, TreeHead]:
    """Append the event to the snapshot's log; return who the server is, and the log's head."""
    storage = replace(settings.storage, url=f"sqlite:///{snapshot}")
    application = build(replace(settings, storage=storage))
    try:
        application.database.write(lambda tx: tx.audit.append(event))
        with application.database.read() as tx:
            head = tx.audit.head()
        return application.server_id, application.responder.fingerprint, head
    finally:
        application.close()


def inspect(
    settings: Settings, identities: Sequence[Any], backup: BinaryIO
) -> tuple[Manifest, bool]:
    """Decrypt and read a backup without restoring it, and say whether it would be restored.

    It would not if its server is here already; Conflict when another one is.
    """
    with TemporaryDirectory(dir=_workspace(settings)) as directory:
        snapshot = Path(directory) / _DATABASE
        manifest = _unpack(backup, identities, snapshot)[0]
        here, there = _server_in(settings.storage.url), _server_in(f"sqlite:///{snapshot}")
    if here is not None and here != there:
        raise Conflict(f"server {here} is in this database, the backup is of another one")
    return manifest, here is None


def _server_in(url: str) -> str | None:
    """Return the id of the server in a database, if it has one."""
    if is_absent(url):
        return None
    engine = make_engine(url)
    try:
        return server_of(engine)
    finally:
        engine.dispose()


def _workspace(settings: Settings) -> Path | None:
    """Beside the database, where there is room for another of its size."""
    url = settings.storage.url
    return Path(url.removeprefix("sqlite:///")).parent if url.startswith("sqlite:") else None


def _archive(end: BinaryIO, members: Sequence[tuple[str, bytes]], snapshot: Path) -> None:
    with tarfile.open(mode="w|", fileobj=end) as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, BytesIO(content))
        archive.add(snapshot, _DATABASE)


def _unpack(
    backup: BinaryIO, identities: Sequence[Any], database: Path
) -> tuple[Manifest, bytes | None]:
    """Put the snapshot into `database`; return the manifest and the master key."""
    small: dict[str, bytes] = {}

    def read(archive: tarfile.TarFile) -> None:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isreg() else None
            if content is None:
                continue
            if entry.name == _DATABASE:
                with database.open("xb") as file:
                    while piece := content.read(_LONGEST_SMALL):
                        _write(file, piece)
            elif entry.name in (_MANIFEST, _MASTER_KEY) and entry.size <= _LONGEST_SMALL:
                small[entry.name] = content.read()

    try:
        with (
            age.decrypted(backup, identities) as plain,
            tarfile.open(mode="r|", fileobj=plain) as archive,
        ):
            read(archive)
    except (OSError, tarfile.TarError) as error:
        reason = "it is damaged, or not for this identity"
        raise Unavailable(f"the backup cannot be read: {reason} ({type(error).__name__})") from None
    if not database.exists():
        raise Unavailable("the backup cannot be read: there is no database in it")
    return _manifest(small.get(_MANIFEST, b"")), small.get(_MASTER_KEY)


def _write(file: BinaryIO, piece: bytes) -> None:
    """A disk without room is not a damaged backup."""
    try:
        file.write(piece)
        file.flush()
    except OSError as error:
        raise Unavailable(f"the backup cannot be unpacked: {error.strerror}") from None


def _manifest(text: bytes) -> Manifest:
    try:
        manifest = Manifest(**json.loads(text))
    except (ValueError, TypeError):
        raise Unavailable("the backup cannot be read: it has no manifest") from None
    for field in fields(Manifest):
        if type(getattr(manifest, field.name)) is not field.type:
            raise Unavailable(f"the backup cannot be read: its manifest has a wrong {field.name}")
    if manifest.format != _FORMAT:
        raise Unavailable(f"the backup has format {manifest.format}, this server knows {_FORMAT}")
    return manifest


def _restore_master_key(settings: Settings, key: bytes | None) -> None:
    """Put the key there; it may be there already, if it is the same."""
    source = settings.keystore.master_key
    path = master_key_path(source)
    if path.exists():
        if key is not None and path.read_bytes().strip() != key.strip():
            raise Conflict(f"{path} holds another master key than the backup")
        load_master_key(source)
        return
    if key is None:
        raise Unavailable(f"the master key is in no backup, but in shares; unseal {path} first")
    if not source.startswith("file:"):
        raise Unavailable(
            f"{source}: only a master key in a file is restored; set file:/absolute/path"
        )
    write_durably(path, key)
