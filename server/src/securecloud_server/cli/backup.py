"""`backup` and `restore`: everything that a server is, in one encrypted file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

import click

from securecloud_server.cli.actor import this_user
from securecloud_server.cli.files import make_parents, replaced
from securecloud_server.cli.output import check_option, json_option, print_json, say
from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.settings import Settings, load_settings

_MODE = 0o600
_LONGEST_IDENTITY = 64 * 1024
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--to", required=True, type=_FILE, help="The file to write (mode 0600).")
@click.option("--recipient", required=True, multiple=True, help="Public key of age: age1…")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@json_option
@click.pass_obj
def backup(config: Path, to: Path, recipient: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Write database and master key, encrypted to each recipient, while the servers serve.

    Whoever has a recipient's secret key and the file has every key: keep them apart.
    """
    from securecloud_server import age, backups

    settings = load_settings(config)
    recipients = age.recipients_of(recipient)
    if to.exists() and not force:
        raise Conflict(f"{to} exists; --force overwrites it")
    with replaced(to, _MODE) as file:
        manifest = backups.back_up(settings, this_user(), recipients, file)
    if as_json:
        print_json({"changed": True, **asdict(manifest)})
    else:
        say(f"server {manifest.server_id} with {manifest.audit_size} audit events is in {to}")


@click.command()
@click.option("--from", "source", required=True, type=_FILE, help="What `backup` wrote.")
@click.option(
    "--identity",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File with a secret key of age; - for standard input.",
)
@click.option("--master-key-to", type=_FILE, help="New file for a key that will be a credential.")
@click.option("--keep-lineages", is_flag=True, help="For a backup that no machine is ahead of.")
@check_option
@json_option
@click.pass_obj
def restore(
    config: Path,
    source: Path,
    identity: Path,
    master_key_to: Path | None,
    keep_lineages: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Make a server of a backup, where there is none. With --check, only read the backup and say
    whether it would be restored.

    Agents that saw more of the audit log than there is now refuse the server until somebody tells
    them otherwise: see docs/server.md.
    """
    from securecloud_server import age, backups, installation

    settings = _keeping(load_settings(config), master_key_to)
    identities = age.identities_of(_text_of(identity))
    _make_places(settings)
    with _opened(source) as file:
        if check:
            manifest, absent = backups.inspect(settings, identities, file)
            if as_json:
                print_json({"changed": absent, **asdict(manifest)})
            elif absent:
                say(f"would restore server {manifest.server_id} of {manifest.created_at}")
            else:
                say(f"server {manifest.server_id} is here already, and stays as it is")
            return
        done = backups.restore(settings, this_user(), identities, file, keep_lineages=keep_lineages)
    report = installation.verify_audit_log(settings)
    head = {"audit_size": done.audit_size, "audit_root": done.audit_root}
    if as_json:
        print_json(
            {
                "changed": True,
                **asdict(done.manifest),
                "server_id": done.server_id,
                "fingerprint": done.fingerprint,
                **head,
                "verified": report.verified,
            }
        )
    else:
        say(f"restored server {done.server_id}, fingerprint {done.fingerprint}")
        say(f"its audit log: size {done.audit_size}, root {done.audit_root}")
    if not report.verified:
        say(f"the audit log is damaged: {report.problem}")
        click.get_current_context().exit(1)


def _keeping(settings: Settings, master_key: Path | None) -> Settings:
    """Return settings by which the master key is in that file, which nobody reads yet."""
    if master_key is None:
        return settings
    if not settings.keystore.master_key.startswith("credential:"):
        raise click.BadOptionUsage(
            "master_key_to", "--master-key-to is for a master_key that is a credential"
        )
    keystore = replace(settings.keystore, master_key=f"file:{master_key.absolute()}")
    return replace(settings, keystore=keystore)


def _text_of(identity: Path) -> str:
    if identity == Path("-"):
        return sys.stdin.read(_LONGEST_IDENTITY)
    with _opened(identity) as file:
        return file.read(_LONGEST_IDENTITY).decode("ascii", "replace")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
    with file:
        yield file


def _make_places(settings: Settings) -> None:
    source = settings.keystore.master_key
    if source.startswith("file:"):
        make_parents(Path(source.removeprefix("file:")))
    if settings.storage.url.startswith("sqlite:///"):
        make_parents(Path(settings.storage.url.removeprefix("sqlite:///")))
