"""`keystore`: where keys are, moving them, and what wraps them."""

from pathlib import Path

import click

from securecloud_server.cli.actor import this_user
from securecloud_server.cli.output import check_option, json_option, print_json, say
from securecloud_server.settings import load_settings

_STEP = 100


def _progress(seen: int, total: int) -> None:
    if seen and (seen % _STEP == 0 or seen == total):
        say(f"{seen} of {total} keys")


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
            if as_json:
                print_json({"changed": left > 0, "left": left})
            else:
                say(f"{left} keys would be moved to {to}")
            return
        done = migration.run(this_user(), to, _progress)
    finally:
        application.close()
    _tell_failed(done.failed)
    if as_json:
        print_json({"changed": done.moved > 0, "moved": done.moved, "failed": done.failed})
    else:
        say(f"{done.moved} keys were moved to {to}, {len(done.failed)} could not be")
    if done.failed:
        context.exit(1)


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
            if as_json:
                print_json({"changed": left > 0, "left": left})
            else:
                say(f"{left} values are wrapped under the previous master key")
            return
        done = application.rewrapping.run(this_user(), _progress)
    finally:
        application.close()
    _tell_failed(done.failed)
    if as_json:
        print_json({"changed": done.renewed > 0, "renewed": done.renewed, "failed": done.failed})
    else:
        say(f"{done.renewed} values were wrapped anew, {len(done.failed)} could not be")
    if done.failed:
        context.exit(1)


@keystore.command()
@json_option
@click.pass_context
def prove(context: click.Context, as_json: bool) -> None:
    """Fetch every key and forget it, to know that all can be. The servers do so every day."""
    from securecloud_server import app

    application = app.build(load_settings(context.obj))
    try:
        proof = application.key_proof.run(this_user(), _progress)
    finally:
        application.close()
    _tell_failed(proof.failed)
    if as_json:
        print_json({"keys": proof.tried, "failed": proof.failed})
    else:
        say(f"{proof.tried} keys were tried, {len(proof.failed)} cannot be fetched")
    if proof.failed:
        context.exit(1)


def _tell_failed(failed: dict[str, str]) -> None:
    for device, problem in failed.items():
        say(f"{device}: {problem}")
