"""`init`: whatever a server needs and does not have yet."""

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecloud_server.cli.files import make_parents, replaced
from securecloud_server.cli.output import check_option, json_option, print_json, say
from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.settings import Settings, load_settings

if TYPE_CHECKING:
    from securecloud_server.domain.records import Actor, ApiToken
    from securecloud_server.services.api_tokens import ApiTokenService

_TOKEN_MODE = 0o600
_MADE = "admin token"
_ROLE = "account_administrator"


@click.command()
@click.option(
    "--admin-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the first API token (mode 0600), unless the file exists.",
)
@check_option
@json_option
@click.pass_obj
def init(config: Path, admin_token_file: Path | None, check: bool, as_json: bool) -> None:
    """Create master key, database, identity, default policy and first API token.

    What is there stays as it is, so this can be run again at any time.
    """
    from securecloud_server import installation

    settings = load_settings(config)
    if not check:
        _make_places(settings)
    prepared = installation.prepare(settings, check=check)
    created = list(prepared.created)
    if admin_token_file is not None and not admin_token_file.exists():
        created.append(_MADE)
        if not check:
            _write_first_token(settings, admin_token_file)
    if as_json:
        print_json(
            {
                "changed": bool(created),
                "created": created,
                "server_id": prepared.server_id,
                "fingerprint": prepared.fingerprint,
                "schema_version": prepared.schema_version,
            }
        )
    else:
        verb = "would create" if check else "created"
        say(f"{verb}: {', '.join(created)}" if created else "nothing was missing")
        say(f"server {prepared.server_id}, fingerprint {prepared.fingerprint}")


def _make_places(settings: Settings) -> None:
    scheme, _, key = settings.keystore.master_key.partition(":")
    if scheme == "file":
        make_parents(Path(key))
    if settings.storage.url.startswith("sqlite:///"):
        make_parents(Path(settings.storage.url.removeprefix("sqlite:///")))


def _write_first_token(settings: Settings, path: Path) -> None:
    """Mint the token once its file can be written; a token that nobody can read is revoked."""
    from securecloud_server import app
    from securecloud_server.cli.actor import this_user

    make_parents(path)
    application = app.build(settings)
    tokens, actor = application.admin.api_tokens, this_user()
    try:
        with replaced(path, _TOKEN_MODE) as file:
            record, text = _mint(tokens, actor)
            try:
                file.write(f"{text}\n".encode())
                file.flush()
            except OSError as error:
                tokens.revoke(actor, record.token_id)
                raise Unavailable(f"{path} cannot be written: {error.strerror}") from None
    finally:
        application.close()


def _mint(tokens: "ApiTokenService", actor: "Actor") -> "tuple[ApiToken, str]":
    """Mint an administrator's token under the first free name: admin, admin-2, admin-3…"""
    for number in count(1):
        try:
            name = "admin" if number == 1 else f"admin-{number}"
            return tokens.create(actor, name, _ROLE, None)
        except Conflict:
            continue
    raise AssertionError("there is no last number")
