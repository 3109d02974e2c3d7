"""`escrow`: every key in one file that needs no server, opened as the documentation says."""

import csv
import io
import json
import sqlite3
import subprocess
import tarfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyrage
import pytest
from securecloud_server import app
from securecloud_server.domain.records import Actor, Agent
from securecloud_server.escrow import COLUMNS
from securecloud_server.services.devices import DeviceText
from securecloud_server.settings import load_settings

from server.tests.admin.api import ISCSI
from server.tests.cli.conftest import Installation
from tests.support.luks import documented, run, volume

ROOT = Actor("cli", "root")
DEVICES = {
    "web1-data": {"source": "/dev/disk/by-id/virtio-data"},
    "web1-logs": {"source": "/dev/disk/by-path/a,b"},
    "web1-san": {"iscsi": ISCSI},
}


class Escrow(NamedTuple):
    """Where the file is, and whose secret key opens it."""

    file: Path
    identity: Path
    recipient: str

    def words(self, *flags: str) -> tuple[str, ...]:
        return ("escrow", "--to", str(self.file), "--recipient", self.recipient, *flags)

    def members(self, identity: Path | None = None) -> dict[str, bytes]:
        """Return what is inside, by the real age and the standard library's tar."""
        command = ["age", "--decrypt", "--identity", identity or self.identity, self.file]
        plain = subprocess.run(command, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            assert {each.mode for each in archive.getmembers()} == {0o400}
            files = {each.name: archive.extractfile(each) for each in archive.getmembers()}
            return {name: file.read() for name, file in files.items() if file is not None}


@pytest.fixture
def escrow(tmp_path_factory: pytest.TempPathFactory) -> Escrow:
    directory = tmp_path_factory.mktemp("escrow")
    identity, recipient = _person(directory / "securecloud-escrow.identity")
    return Escrow(directory / "securecloud-keys.age", identity, recipient)


def _person(path: Path) -> tuple[Path, str]:
    key = pyrage.x25519.Identity.generate()
    path.write_text(f"# made by a test\n{key}\n")
    return path, str(key.to_public())


@pytest.fixture
def keys(installed: Installation) -> dict[str, bytes]:
    """Devices, of which one has its second key, and the keys by their names in the archive."""
    application = app.build(load_settings(installed.config))
    keystore, found = application.keystores.active, {}
    agent = Agent("web1", "id-1", bytes(32), "active", 1)
    application.database.write(lambda tx: tx.agents.add(agent))
    for name, where in DEVICES.items():
        application.admin.devices.put(ROOT, name, DeviceText("web1", where))
    application.admin.keys.revoke(ROOT, "web1-logs", "not needed")

    def rotated(tx: Any) -> None:
        device = tx.devices.get("web1-data")
        (first,) = tx.keys.versions([device.device_id])
        state = tx.devices.states([device.device_id])[device.device_id]
        tx.devices.put_state(replace(state, luks_uuid="11111111-2222-3333-4444-555555555555"))
        tx.keys.put(replace(first, state="deactivated", activated_at=1))
        reference = keystore.create(device.device_id, 2)
        second = replace(first, version=2, state="active", activated_at=2, reference=reference)
        tx.keys.put(second)

    application.database.write(rotated)
    with application.database.read() as tx:
        for device in tx.devices.page(None, 100, {}):
            for key in tx.keys.versions([device.device_id]):
                secret = keystore.fetch(key.reference, key.device_id, key.version)
                found[f"keys/{device.name}/{key.version}.key"] = secret
    application.close()
    return found


def events(installed: Installation) -> list[tuple[str, str, dict[str, object]]]:
    with closing(sqlite3.connect(installed.database)) as database:
        rows = database.execute("SELECT action, outcome, body FROM audit_events ORDER BY seq")
        found = [(action, outcome, json.loads(body)) for action, outcome, body in rows]
    return [
        (action, outcome, body["details"])
        for action, outcome, body in found
        if action.startswith("server.escrow")
    ]


def test_every_key_is_in_it(
    installed: Installation, escrow: Escrow, keys: dict[str, bytes]
) -> None:
    done = installed.json(*escrow.words())
    assert done == {
        "changed": True, "file": str(escrow.file), "keys": 4, "devices": 3, "failed": {},
    }  # fmt: skip
    assert escrow.file.stat().st_mode & 0o777 == 0o600
    members = escrow.members()
    assert {name: members[name] for name in members if name.startswith("keys/")} == keys
    rows = list(csv.DictReader(io.StringIO(members["keys.csv"].decode())))
    assert [(row["device"], row["version"], row["state"]) for row in rows] == [
        ("web1-data", "1", "deactivated"),
        ("web1-data", "2", "active"),
        ("web1-logs", "1", "deactivated"),
        ("web1-san", "1", "pre_active"),
    ]
    assert [row["file"] for row in rows] == sorted(keys)
    assert [row["disk"] for row in rows][1:] == [
        "/dev/disk/by-id/virtio-data",
        "/dev/disk/by-path/a,b",
        "/dev/disk/by-path/ip-10.0.0.5:3260-iscsi-iqn.2026-01.org.example:db-lun-1",
    ]
    assert rows[0]["luks_uuid"] == "11111111-2222-3333-4444-555555555555"
    assert (rows[2]["luks_uuid"], rows[2]["agent"]) == ("", "web1")
    assert tuple(rows[0]) == COLUMNS
    readme = members["README.txt"].decode()
    assert all(column in readme for column in COLUMNS)
    assert str(installed.init()["server_id"]) in readme


def test_the_commands_of_the_documentation_open_a_volume(
    installed: Installation, escrow: Escrow, keys: dict[str, bytes]
) -> None:
    """The server is gone: nothing of it is here but the file."""
    installed.json(*escrow.words())
    installed.database.unlink()
    installed.master_key.unlink()
    directory = escrow.file.parent
    disk = volume(directory / "disk", keys["keys/web1-data/1.key"])
    other = volume(directory / "other", keys["keys/web1-logs/1.key"])
    uuid, table, opening = documented("escrow")
    assert len(run(uuid, directory, disk).stdout.strip()) == 36
    assert "web1-data," in run(table, directory, disk).stdout
    opened = run(opening, directory, disk)
    assert opened.returncode == 0, opened.stderr
    assert run(opening, directory, other).returncode != 0
    absent = opening.replace("keys/web1-data/1.key", "keys/absent/1.key")
    assert run(absent, directory, disk).returncode != 0


def test_what_the_readme_says_works(
    installed: Installation, escrow: Escrow, keys: dict[str, bytes]
) -> None:
    installed.json(*escrow.words())
    directory = escrow.file.parent
    disk = volume(directory / "disk", keys["keys/web1-data/2.key"])
    command = escrow.members()["README.txt"].decode().partition("cryptsetup luksUUID DISK")[2]
    for word, meant in (
        ("IDENTITY", str(escrow.identity)), ("FILE", str(escrow.file)), ("D/V", "web1-data/2"),
        ("DISK NAME", '"$DISK" name'),
    ):  # fmt: skip
        assert word in command
        command = command.replace(word, meant)
    opened = run(command.strip(), directory, disk)
    assert opened.returncode == 0, command + opened.stderr


def test_each_recipient_can_open_it_alone(
    installed: Installation, escrow: Escrow, keys: dict[str, bytes]
) -> None:
    other, recipient = _person(escrow.file.with_name("other.identity"))
    installed.json(*escrow.words("--recipient", recipient))
    assert escrow.members(other) == escrow.members()
    (stranger, _) = _person(escrow.file.with_name("stranger.identity"))
    with pytest.raises(subprocess.CalledProcessError):
        escrow.members(stranger)


def test_for_whom_it_was_made_is_in_the_audit_log(
    installed: Installation, escrow: Escrow, keys: dict[str, bytes]
) -> None:
    said = installed.run(*escrow.words())
    assert said.stderr.splitlines() == ["4 of 4 keys", f"{escrow.file}: 4 keys of 3 devices"]
    begun, ended = events(installed)
    assert begun == (
        "server.escrow_begun", "success", {"keys": 4, "recipients": [escrow.recipient]},
    )  # fmt: skip
    assert ended == ("server.escrow_ended", "success", {"keys": 4, "failed": 0})
    assert installed.json("audit", "verify")["verified"]


def test_a_destroyed_key_is_in_none_that_is_made_afterwards(
    installed: Installation, escrow: Escrow, keys: dict[str, bytes]
) -> None:
    application = app.build(load_settings(installed.config))
    application.admin.keys.destroy(ROOT, "web1-logs", "not needed")
    application.close()
    assert installed.json(*escrow.words())["keys"] == 3
    assert not [name for name in escrow.members() if "web1-logs" in name]


def test_a_file_that_is_there_is_kept(
    installed: Installation, escrow: Escrow, keys: dict[str, bytes]
) -> None:
    escrow.file.write_text("precious")
    refused = installed.run(*escrow.words())
    assert refused.returncode == 1
    assert refused.stderr == f"securecloud-server: {escrow.file} is there already; give --force\n"
    assert escrow.file.read_text() == "precious"
    assert events(installed) == []
    escrow.file.chmod(0o644)
    assert installed.run(*escrow.words("--force")).returncode == 0
    assert len(escrow.members()) == 6
    assert escrow.file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("recipient", ["", "age1nonsense", "ssh-ed25519 AAAA"])
def test_what_is_no_recipient(installed: Installation, escrow: Escrow, recipient: str) -> None:
    done = installed.run(*escrow.words("--recipient", recipient))
    assert done.returncode == 1
    assert "recipient: one of them is not a public key of age" in done.stderr
    assert list(escrow.file.parent.iterdir()) == [escrow.identity]
    assert events(installed) == []


def test_one_that_cannot_be_fetched_keeps_no_other_from_it(
    installed: Installation, escrow: Escrow, keys: dict[str, bytes]
) -> None:
    damage(installed, "WHERE state = 'pre_active'")
    done = installed.json(*escrow.words(), code=1)
    assert done["keys"] == 3
    assert list(done["failed"]) == ["web1-san version 1"]
    assert "keys/web1-data/2.key" in escrow.members()
    assert b"web1-san" not in escrow.members()["keys.csv"]
    assert events(installed)[-1] == ("server.escrow_ended", "failed", {"keys": 3, "failed": 1})


def test_without_any_key_there_is_no_file(
    installed: Installation, escrow: Escrow, keys: dict[str, bytes]
) -> None:
    damage(installed, "")
    done = installed.run(*escrow.words())
    assert done.returncode == 1
    assert "no key can be fetched: device key:" in done.stderr
    assert list(escrow.file.parent.iterdir()) == [escrow.identity]


def test_no_key_is_anywhere_else(
    installed: Installation, escrow: Escrow, keys: dict[str, bytes]
) -> None:
    done = installed.run(*escrow.words())
    places = [path for path in [*installed.files(), escrow.file] if path.is_file()]
    for secret in keys.values():
        assert secret.hex() not in done.stdout + done.stderr
        assert not [path for path in places if secret in path.read_bytes()]
    assert sorted(escrow.file.parent.iterdir()) == sorted([escrow.file, escrow.identity])


def damage(installed: Installation, which: str) -> None:
    with closing(sqlite3.connect(installed.database)) as database, database:
        database.execute(f"UPDATE keys SET reference = x'01' || zeroblob(90) {which}")


def test_what_was_interrupted_leaves_nothing(
    installed: Installation,
    escrow: Escrow,
    keys: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("securecloud_server.keystores.local.LocalKeystore.fetch", interrupted)
        assert installed.run(*escrow.words()).returncode == 130
    assert list(escrow.file.parent.iterdir()) == [escrow.identity]
    assert [action for action, _, _ in events(installed)] == ["server.escrow_begun"]
