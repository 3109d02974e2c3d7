"""`keystore`: where keys are, and moving them."""

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
    for device, problem in done.failed.items():
        say(f"{device}: {problem}")
    if as_json:
        print_json({"changed": done.moved > 0, "moved": done.moved, "failed": done.failed})
    else:
        say(f"{done.moved} keys were moved to {to}, {len(done.failed)} could not be")
    if done.failed:
        context.exit(1)
