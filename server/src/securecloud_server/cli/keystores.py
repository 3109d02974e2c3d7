"""`keystore`: where keys are, moving them, and what wraps them."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecloud_server.cli.actor import this_user
from securecloud_server.cli.output import (
    check_option,
    json_option,
    key_progress,
    print_json,
    report,
    say,
)
from securecloud_server.domain.errors import Conflict
from securecloud_server.settings import Settings, load_settings

if TYPE_CHECKING:
    from securecloud_server.keystores.unsealing import Unsealing


@click.group()
def keystore() -> None:
    """Look after where keys are."""


@keystore.command()
@click.option("--to", required=True, type=click.Choice(["local", "kmip"]))
@check_option
@json_option
@click.pass_context
def migrate(context: click.Context, to: str, check: bool, as_json: bool) -> None:
    """Move all keys to another keystore, while the servers serve.

    Both must be configured: for local, a master key, for kmip the section [kmip]. Set keystore.type
    first and restart the servers, so that new keys go there. Run it again after an interruption.
    """
    from securecloud_server import app
    from securecloud_server.services.key_migration import KeyMigration

    config: Path = context.obj
    application = app.build(load_settings(config))
    try:
        migration = KeyMigration(application.database, application.keystores)
        left = migration.count(to)
        if check:
            _foresee(left, f"{left} keys would be moved to {to}", as_json)
            return
        done = migration.run(this_user(), to, key_progress)
    finally:
        application.close()
    result = {"changed": done.moved > 0, "moved": done.moved}
    text = f"{done.moved} keys were moved to {to}, {len(done.failed)} could not be"
    report(context, result, done.failed, text, as_json)


@keystore.command()
@check_option
@json_option
@click.pass_context
def rewrap(context: click.Context, check: bool, as_json: bool) -> None:
    """Wrap everything under the present master key, while the servers serve.

    They do so by themselves within a minute after a start with keystore.previous_master_key; that
    setting can be emptied, and the previous key destroyed, when nothing is left.
    """
    from securecloud_server import app

    application = app.build(load_settings(context.obj))
    try:
        if check:
            left = application.rewrapping.left()
            _foresee(left, f"{left} values are wrapped under the previous master key", as_json)
            return
        done = application.rewrapping.run(this_user(), key_progress)
    finally:
        application.close()
    result = {"changed": done.renewed > 0, "renewed": done.renewed}
    text = f"{done.renewed} values were wrapped anew, {len(done.failed)} could not be"
    report(context, result, done.failed, text, as_json)


@keystore.command()
@json_option
@click.pass_context
def prove(context: click.Context, as_json: bool) -> None:
    """Fetch every key and forget it, to know that all can be. The servers do so every day."""
    from securecloud_server import app

    application = app.build(load_settings(context.obj))
    try:
        proof = application.key_proof.run(this_user(), key_progress)
    finally:
        application.close()
    text = f"{proof.tried} keys were tried, {len(proof.failed)} cannot be fetched"
    report(context, {"keys": proof.tried}, proof.failed, text, as_json)


@keystore.command()
@click.option("--shares", type=int, required=True, help="How many people get one.")
@click.option("--needed", type=int, required=True, help="How many of them it takes.")
def split(shares: int, needed: int) -> None:
    """Make a fresh master key in shares and print them, a line for each person.

    No file holds them, or the key. Each person writes one down; enough of them run `unseal`.
    """
    from securecloud_server.keystores import shares as sharing

    for share in sharing.split(shares, needed):
        click.echo(share.text())


@keystore.command()
@click.option("--previous", is_flag=True, help="Of keystore.previous_master_key.")
@click.option("--status", is_flag=True, help="Only say how many shares are here.")
@click.option("--forget", is_flag=True, help="Forget the shares that are here.")
@json_option
@click.pass_context
def unseal(
    context: click.Context, previous: bool, status: bool, forget: bool, as_json: bool
) -> None:
    """Give a share of the master key; with the last that is needed the server starts to serve.

    It is asked for on the terminal, where it does not show, or read from standard input, a line for
    each. People may come one after the other; until a reboot the shares wait in memory.
    """
    unsealing = _unsealing(load_settings(context.obj), previous)
    if forget:
        unsealing.forget()
    if not (status or forget):
        for text in _given_shares():
            unsealing.add(text)
    state = unsealing.state()
    if as_json:
        print_json(asdict(state))
    elif state.unsealed:
        say("unsealed")
    else:
        say(f"{state.here} of {state.needed or 'some'} shares are here")


def _unsealing(settings: Settings, previous: bool) -> "Unsealing":
    from securecloud_server.keystores.unsealing import Unsealing

    name = "previous_master_key" if previous else "master_key"
    scheme, _, path = getattr(settings.keystore, name).partition(":")
    if scheme != "shares":
        raise Conflict(f"keystore.{name} is not one of shares, but {scheme or 'empty'}")
    return Unsealing(Path(path))


def _given_shares() -> Iterator[str]:
    if sys.stdin.isatty():
        yield click.prompt("Share", hide_input=True, err=True)
    else:
        yield from filter(None, map(str.strip, sys.stdin))


def _foresee(left: int, text: str, as_json: bool) -> None:
    if as_json:
        print_json({"changed": left > 0, "left": left})
    else:
        say(text)
