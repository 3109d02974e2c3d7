"""`backup` and `restore`: on an empty machine, from what somebody else's key opens."""

import io
import json
import resource
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pyrage
import pytest
from securecloud_server import __version__
from securecloud_server.storage.snapshots import read_snapshot

from demo.ca import ensure_certificates
from server.tests.cli.conftest import Installation


class Vault(NamedTuple):
    """Where backups go, and who can read them."""

    recipient: str
    identity: Path
    file: Path


@pytest.fixture
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    directory = tmp_path_factory.mktemp("vault")
    key = pyrage.x25519.Identity.generate()
    (directory / "identity").write_text(f"# made by a test\n{key}\n")
    return Vault(str(key.to_public()), directory / "identity", directory / "backup.age")


@pytest.fixture
def backed_up(installed: Installation, vault: Vault) -> Vault:
    done = installed.json("backup", "--to", str(vault.file), "--recipient", vault.recipient)
    assert done["version"] == __version__
    assert vault.file.stat().st_mode & 0o777 == 0o600
    return vault


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Another machine, with its settings and certificates, and no server."""
    directory = tmp_path_factory.mktemp("elsewhere")
    ensure_certificates(directory / "tls")
    installation = Installation(directory)
    installation.configure()
    return installation


def restore(target: Installation, vault: Vault, *flags: str) -> dict[str, object]:
    words = ("restore", "--from", str(vault.file), "--identity", str(vault.identity), *flags)
    return target.json(*words)


def refused(target: Installation, vault: Vault, *flags: str, code: int = 1) -> str:
    done = target.run(
        "restore", "--from", str(vault.file), "--identity", str(vault.identity), *flags
    )
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def rows(installation: Installation, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(installation.database)) as database:
        return database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def test_an_empty_machine_becomes_the_server(
    installed: Installation, backed_up: Vault, elsewhere: Installation
) -> None:
    before = elsewhere.files()
    foreseen = restore(elsewhere, backed_up, "--check")
    assert {path for path in elsewhere.files() if path.is_file()} == {
        path for path in before if path.is_file()
    }
    done = restore(elsewhere, backed_up)
    assert done["server_id"] == foreseen["server_id"]
    assert done["fingerprint"] == installed.init()["fingerprint"]
    assert done["verified"] is True
    assert elsewhere.master_key.read_bytes() == installed.master_key.read_bytes()
    assert elsewhere.master_key.stat().st_mode & 0o777 == 0o600
    assert elsewhere.database.stat().st_mode & 0o777 == 0o600
    for table in ("server_identity", "api_tokens", "policies", "policy_versions"):
        assert rows(elsewhere, table) == rows(installed, table)
    assert elsewhere.run("doctor").returncode == 0
    actions = [row[3] for row in rows(elsewhere, "audit_events")]
    assert actions[-2:] == ["server.backup_begun", "server.restored"]
    assert done["audit_size"] == len(actions)
    assert elsewhere.json("audit", "verify")["root"] == done["audit_root"]
    # Whoever had a token has it still.
    assert elsewhere.json("token", "list") == installed.json("token", "list")


def test_what_is_there_is_never_overwritten(
    installed: Installation, backed_up: Vault, elsewhere: Installation
) -> None:
    content = installed.database.read_bytes()
    assert "there is a server in this database already" in refused(installed, backed_up)
    assert installed.database.read_bytes() == content
    elsewhere.master_key.parent.mkdir(mode=0o700)
    elsewhere.master_key.write_text("A" * 43 + "\n")
    elsewhere.master_key.chmod(0o600)
    assert "holds another master key than the backup" in refused(elsewhere, backed_up)
    assert not elsewhere.database.exists()
    assert elsewhere.master_key.read_text() == "A" * 43 + "\n"
    elsewhere.master_key.write_bytes(installed.master_key.read_bytes())
    restore(elsewhere, backed_up)
    words = ("backup", "--to", str(backed_up.file), "--recipient", backed_up.recipient)
    exists = installed.run(*words)
    assert exists.returncode == 1
    assert "--force" in exists.stderr


def test_whether_it_would_be_restored_is_said_before(
    installed: Installation, backed_up: Vault, elsewhere: Installation
) -> None:
    assert restore(elsewhere, backed_up, "--check")["changed"] is True
    assert restore(installed, backed_up, "--check")["changed"] is False
    server_id = elsewhere.init()["server_id"]
    assert f"server {server_id} is in this database" in refused(elsewhere, backed_up, "--check")


def test_the_identity_may_come_on_standard_input(backed_up: Vault, elsewhere: Installation) -> None:
    words = ("restore", "--from", str(backed_up.file), "--identity", "-")
    done = elsewhere.json(*words, stdin=backed_up.identity.read_text())
    assert done["verified"] is True


def test_a_master_key_that_is_to_be_a_credential_goes_to_a_file_of_its_own(
    installed: Installation,
    backed_up: Vault,
    elsewhere: Installation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    flags = ("--master-key-to", str(credentials / "master"))
    said = refused(elsewhere, backed_up, *flags, code=2)
    assert "is for a master_key that is a credential" in said
    elsewhere.configure(keystore={"master_key": "credential:master"})
    done = restore(elsewhere, backed_up, *flags)
    assert (credentials / "master").read_bytes() == installed.master_key.read_bytes()
    assert (credentials / "master").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert elsewhere.init()["server_id"] == done["server_id"]


def test_a_restore_that_was_killed_can_be_run_again(
    backed_up: Vault, elsewhere: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("securecloud_server.storage.snapshots._copy", killed)
        words = ("--from", str(backed_up.file), "--identity", str(backed_up.identity))
        assert elsewhere.run("restore", *words).returncode == 130
    assert elsewhere.database.exists()
    assert restore(elsewhere, backed_up)["verified"] is True


def test_whoever_is_restored_has_it_in_the_log_even_if_the_command_was_killed_then(
    backed_up: Vault, elsewhere: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*given: Any, **named: Any) -> None:
        read_snapshot(*given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("securecloud_server.backups.read_snapshot", killed)
        words = ("--from", str(backed_up.file), "--identity", str(backed_up.identity))
        assert elsewhere.run("restore", *words).returncode == 130
    assert rows(elsewhere, "audit_events")[-1][3] == "server.restored"
    assert elsewhere.run("audit", "verify").returncode == 0
    assert restore(elsewhere, backed_up, "--check")["changed"] is False


def test_no_key_is_in_plain_and_nothing_is_left_beside_the_database(
    installed: Installation, backed_up: Vault, elsewhere: Installation
) -> None:
    key = installed.master_key.read_bytes().strip()
    assert key not in backed_up.file.read_bytes()
    restore(elsewhere, backed_up)
    for installation in (installed, elsewhere):
        names = {path.name for path in installation.database.parent.iterdir()}
        assert names <= {"securecloud.db", "securecloud.db-wal", "securecloud.db-shm", "master.key"}


def test_the_real_age_reads_it(backed_up: Vault, tmp_path: Path) -> None:
    """So that a backup is of use where none of our programs is."""
    command = ["age", "--decrypt", "--identity", backed_up.identity, backed_up.file]
    plain = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert archive.getnames() == ["manifest.json", "master.key", "securecloud.db"]
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)["format"] == 1
        database = archive.extractfile("securecloud.db")
        assert database is not None
        (tmp_path / "securecloud.db").write_bytes(database.read())
    with closing(sqlite3.connect(tmp_path / "securecloud.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _of_another(vault: Vault) -> None:
    vault.identity.write_text(str(pyrage.x25519.Identity.generate()))


def _without_identity(vault: Vault) -> None:
    vault.identity.write_text("# nothing\n")


def _cut(vault: Vault) -> None:
    content = vault.file.read_bytes()
    vault.file.write_bytes(content[: len(content) // 2])


def _changed(vault: Vault) -> None:
    content = bytearray(vault.file.read_bytes())
    content[-20] ^= 1
    vault.file.write_bytes(content)


def _empty(vault: Vault) -> None:
    vault.file.write_bytes(b"")


def _missing(vault: Vault) -> None:
    vault.file.unlink()


def _packed(vault: Vault, **members: bytes) -> None:
    plain = io.BytesIO()
    with tarfile.open(mode="w", fileobj=plain) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name.replace("_", "."))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    recipient = pyrage.x25519.Recipient.from_str(vault.recipient)
    vault.file.write_bytes(pyrage.encrypt(plain.getvalue(), [recipient]))


def _of_a_later_format(vault: Vault) -> None:
    manifest = {
        **dict.fromkeys(("version", "server_id", "fingerprint"), ""),
        **dict.fromkeys(("schema_version", "created_at", "audit_size"), 1),
        "format": 2,
    }
    _packed(vault, manifest_json=json.dumps(manifest).encode(), securecloud_db=b"")


def _with_a_wrong_manifest(vault: Vault) -> None:
    manifest = {
        **dict.fromkeys(("version", "server_id", "fingerprint"), ""),
        **dict.fromkeys(("schema_version", "created_at", "format"), 1),
        "audit_size": "many",
    }
    _packed(vault, manifest_json=json.dumps(manifest).encode(), securecloud_db=b"")


def _without_database(vault: Vault) -> None:
    _packed(vault, manifest_json=b"{}")


def _without_manifest(vault: Vault) -> None:
    _packed(vault, securecloud_db=b"")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_of_another, "damaged, or not for this identity"),
        (_without_identity, "no secret key of age"),
        (_cut, "damaged, or not for this identity"),
        (_changed, "damaged, or not for this identity"),
        (_empty, "damaged, or not for this identity"),
        (_missing, "No such file"),
        (_of_a_later_format, "format 2"),
        (_with_a_wrong_manifest, "manifest has a wrong audit_size"),
        (_without_database, "no database in it"),
        (_without_manifest, "no manifest"),
    ],
)
def test_a_backup_that_is_none_leaves_nothing(
    backed_up: Vault, elsewhere: Installation, spoil: Callable[[Vault], None], reason: str
) -> None:
    spoil(backed_up)
    assert reason in refused(elsewhere, backed_up)
    assert not elsewhere.master_key.exists()
    assert not elsewhere.database.exists()
    assert [path for path in elsewhere.files() if "data" in path.parts and path.is_file()] == []
    assert reason in refused(elsewhere, backed_up, "--check")


def test_a_disk_without_room_is_not_taken_for_a_damaged_backup(
    backed_up: Vault, elsewhere: Installation
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, before[1]))
    try:
        said = refused(elsewhere, backed_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the backup cannot be unpacked: File too large" in said
    assert not elsewhere.database.exists()


@pytest.mark.parametrize("recipient", ["", "age1nonsense", "ssh-ed25519 AAAA"])
def test_what_is_no_recipient(installed: Installation, vault: Vault, recipient: str) -> None:
    done = installed.run("backup", "--to", str(vault.file), "--recipient", recipient)
    assert done.returncode == 1
    assert "recipient: one of them is not a public key of age" in done.stderr
    assert not vault.file.exists()


def test_not_while_the_master_key_is_replaced(installed: Installation, vault: Vault) -> None:
    keystore = {
        "master_key": f"file:{installed.root}/data/next.key",
        "previous_master_key": f"file:{installed.master_key}",
    }
    installed.configure(keystore=keystore)
    installed.init()
    words = ("backup", "--to", str(vault.file), "--recipient", vault.recipient)
    assert "run securecloud-server keystore rewrap" in installed.run(*words).stderr
    assert not vault.file.exists()
    installed.run("keystore", "rewrap")
    assert installed.run(*words).returncode == 0


def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    installed: Installation, vault: Vault, elsewhere: Installation
) -> None:
    words = ("backup", "--to", str(vault.file), "--recipient", vault.recipient)
    assert installed.run(*words).returncode == 0
    identity = pyrage.x25519.Identity.from_str(vault.identity.read_text().split()[-1])
    plain = pyrage.decrypt(vault.file.read_bytes(), [identity])
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        members = {each.name: archive.extractfile(each) for each in archive.getmembers()}
        for name, member in members.items():
            assert member is not None
            (vault.file.parent / name).write_bytes(member.read())
    with closing(sqlite3.connect(vault.file.parent / "securecloud.db")) as database:
        database.executescript(
            "DROP TABLE key_exports; ALTER TABLE api_tokens DROP COLUMN origin;"
            "DROP TABLE header_copies; DROP TABLE checks;"
            "ALTER TABLE device_states DROP COLUMN volume_state;"
            "ALTER TABLE device_states DROP COLUMN volume_state_at;"
            "ALTER TABLE device_states DROP COLUMN header;"
            "ALTER TABLE device_states DROP COLUMN volume_key;"
            "ALTER TABLE device_states DROP COLUMN header_changing;"
            "ALTER TABLE device_states DROP COLUMN header_refused;"
            "ALTER TABLE device_states DROP COLUMN volume_key_refused;"
            "ALTER TABLE device_states DROP COLUMN header_kept;"
            "DELETE FROM schema_version WHERE version > 2; VACUUM"
        )
    _packed(
        vault,
        manifest_json=(vault.file.parent / "manifest.json").read_bytes(),
        master_key=(vault.file.parent / "master.key").read_bytes(),
        securecloud_db=(vault.file.parent / "securecloud.db").read_bytes(),
    )
    assert restore(elsewhere, vault)["verified"] is True
    assert elsewhere.run("doctor").returncode == 0
    shutil.rmtree(vault.file.parent)
