"""What commands say: results on standard output, messages on standard error."""

import json
from collections.abc import Mapping
from typing import Any

import click

from securecloud_server.domain.errors import DomainError, Invalid

_STEP = 100

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
check_option = click.option("--check", is_flag=True, help="Change nothing; say what would change.")


def say(message: str) -> None:
    """Print a message."""
    click.echo(message, err=True)


def print_json(document: Mapping[str, Any]) -> None:
    """Print a result for programs."""
    click.echo(json.dumps(document))


def complain(error: DomainError) -> None:
    """Print what went wrong: one line for each wrong field."""
    if not isinstance(error, Invalid):
        say(f"securecloud-server: {error}")
        return
    for wrong in error.errors:
        say(f"securecloud-server: {wrong.field}: {wrong.message}".replace(": : ", ": "))


def key_progress(seen: int, total: int) -> None:
    """Say from time to time how many keys were seen to (`services.every_key.Progress`)."""
    if seen and (seen % _STEP == 0 or seen == total):
        say(f"{seen} of {total} keys")


def report(
    context: click.Context, result: dict[str, Any], failed: dict[str, str], text: str, as_json: bool
) -> None:
    """Say what came of it, and of which devices nothing; end with status 1 if there are such."""
    for device, problem in failed.items():
        say(f"{device}: {problem}")
    if as_json:
        print_json({**result, "failed": failed})
    else:
        say(text)
    if failed:
        context.exit(1)
