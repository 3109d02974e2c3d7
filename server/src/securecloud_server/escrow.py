"""The escrow: every key in one file, encrypted to whoever is to open volumes without a server.

Inside is a tar archive that needs no program of ours: `README.txt`; for each key a file
`keys/DEVICE/VERSION.key` with the octets that cryptsetup takes as its key file; `keys.csv`, which
says what they are of. It goes through a pipe, so that no key is ever in plain on a disk.
"""

import csv
import io
import tarfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import BinaryIO

from securecloud_server import age
from securecloud_server.app import Application, build
from securecloud_server.domain.ports import Clock
from securecloud_server.domain.records import Actor
from securecloud_server.domain.volumes import source_of
from securecloud_server.services.every_key import Progress
from securecloud_server.services.key_escrow import Escrow, Escrowed, KeyEscrow
from securecloud_server.settings import Settings

COLUMNS = ("device", "device_id", "version", "state", "luks_uuid", "agent", "disk", "file")
_MODE = 0o400
_README = """\
Every key of SecureCloud server {server_id}, as of {moment}.

keys.csv      one row for each key: {columns}
keys/D/V.key  version V of the key of device D: 64 octets, the passphrase of its LUKS2 volume

The version whose state is active opens the volume. pre_active: it was never released, or is to
replace the active one, and may be in a key slot already. deactivated: replaced, or revoked.

To open a volume, where age and cryptsetup are (IDENTITY is the file with the secret key):

  age --decrypt --identity IDENTITY FILE | tar -xO keys.csv
  cryptsetup luksUUID DISK
  age --decrypt --identity IDENTITY FILE | tar -xO keys/D/V.key |
    cryptsetup open --type luks2 --key-file=- --keyfile-size=64 DISK NAME
"""


def write_escrow(
    settings: Settings,
    actor: Actor,
    recipients: Sequence[str],
    to: BinaryIO,
    progress: Progress,
    clock: Clock = time.time,
) -> Escrow:
    """Write every key to `to` while the servers serve, encrypted to these public keys of age."""
    keys = age.recipients_of(recipients)
    application = build(settings, clock=clock)
    done: list[Escrow] = []

    def write(end: BinaryIO) -> None:
        done.append(_archive(application, actor, recipients, end, progress))

    try:
        age.encrypt(write, to, keys)
    finally:
        application.close()
    return done[0]


def _archive(
    application: Application,
    actor: Actor,
    recipients: Sequence[str],
    end: BinaryIO,
    progress: Progress,
) -> Escrow:
    now = int(application.clock())
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    with tarfile.open(mode="w|", fileobj=end) as archive:

        def put(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), _MODE, now
            archive.addfile(entry, io.BytesIO(content))

        def take(one: Escrowed) -> None:
            name = f"keys/{one.device.name}/{one.key.version}.key"
            rows.writerow(_row(one, name))
            put(name, one.secret)

        put("README.txt", _readme(application.server_id, now).encode())
        escrow = KeyEscrow(application.database, application.keystores).run(
            actor, recipients, take, progress
        )
        put("keys.csv", table.getvalue().encode())
    return escrow


def _readme(server_id: str, now: int) -> str:
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _README.format(server_id=server_id, moment=moment, columns=", ".join(COLUMNS))


def _row(one: Escrowed, name: str) -> tuple[str | int | None, ...]:
    device, key = one.device, one.key
    return (
        device.name,
        device.device_id,
        key.version,
        key.state,
        one.luks_uuid,
        device.agent,
        source_of(device.volume),
        name,
    )
