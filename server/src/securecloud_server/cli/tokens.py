"""`token`: API tokens, for whoever has this account on the server itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from securecloud_server.cli.actor import this_user
from securecloud_server.cli.output import json_option, print_json, say
from securecloud_server.domain.privileges import ROLES
from securecloud_server.settings import load_settings

if TYPE_CHECKING:
    from securecloud_server.domain.records import ApiToken
    from securecloud_server.services.api_tokens import ApiTokenService

_PAGE = 500


@click.group()
def token() -> None:
    """Mint, list and revoke API tokens."""


@token.command()
@click.option("--name", required=True, help="Whose it is; unique among active tokens.")
@click.option("--role", required=True, type=click.Choice(list(ROLES)))
@click.option(
    "--expires-in", type=click.IntRange(60, 31_536_000), metavar="SECONDS", help="Never, if absent."
)
@json_option
@click.pass_obj
def create(config: Path, name: str, role: str, expires_in: int | None, as_json: bool) -> None:
    """Mint a token and print it, once."""
    with _tokens(config) as tokens:
        record, text = tokens.create(this_user(), name, role, expires_in)
        if as_json:
            print_json({**_shown(record, tokens.now()), "token": text})
        else:
            click.echo(text)


@token.command("list")
@json_option
@click.pass_obj
def list_tokens(config: Path, as_json: bool) -> None:
    """List all tokens, without their text."""
    with _tokens(config) as tokens:
        shown = [_shown(record, tokens.now()) for record in _all(tokens)]
    if as_json:
        print_json({"items": shown})
        return
    for item in shown:
        expiry = item["expires_at"] or "never"
        click.echo(f"{item['id']}  {item['state']:8} {item['role']:22} {expiry:20} {item['name']}")


@token.command()
@click.argument("token_id", metavar="ID")
@json_option
@click.pass_obj
def revoke(config: Path, token_id: str, as_json: bool) -> None:
    """Make a token useless at once."""
    with _tokens(config) as tokens:
        record = tokens.revoke(this_user(), token_id)
        if as_json:
            print_json(_shown(record, tokens.now()))
        else:
            say(f"token {token_id} ({record.name}) is revoked")


@contextmanager
def _tokens(config: Path) -> "Iterator[ApiTokenService]":
    from securecloud_server import app

    application = app.build(load_settings(config))
    try:
        yield application.admin.api_tokens
    finally:
        application.close()


def _all(tokens: "ApiTokenService") -> "Iterator[ApiToken]":
    from securecloud_server.services.admin import Slice

    after = None
    while True:
        page = tokens.page(this_user(), Slice(after, _PAGE))
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].token_id


def _shown(record: "ApiToken", now: int) -> dict[str, Any]:
    from securecloud_server.services.api_tokens import state

    return {
        "id": record.token_id,
        "name": record.name,
        "role": record.role,
        "state": state(record, now),
        "created_at": _time(record.created_at),
        "expires_at": None if record.expires_at is None else _time(record.expires_at),
        "origin": record.origin,
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
