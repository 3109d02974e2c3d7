"""`escrow`: every key in one encrypted file, for the day when no server is there."""

from pathlib import Path

import click

from securecloud_server.cli.actor import this_user
from securecloud_server.cli.files import beside, ended_by_sigterm
from securecloud_server.cli.output import json_option, key_progress, report
from securecloud_server.domain.errors import Unavailable
from securecloud_server.settings import load_settings

_MODE = 0o600
_SHOWN = 3


@click.command()
@click.option(
    "--to",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file to write (mode 0600).",
)
@click.option("--recipient", required=True, multiple=True, help="Public key of age: age1…")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@json_option
@click.pass_context
def escrow(
    context: click.Context, to: Path, recipient: tuple[str, ...], force: bool, as_json: bool
) -> None:
    """Write every key, encrypted to each recipient, so that no server is needed to use them.

    Whoever has a recipient's secret key and the file opens every volume: keep them apart. The
    servers may serve meanwhile. docs/server.md says how a volume is opened with it.
    """
    from securecloud_server.escrow import write_escrow

    settings = load_settings(context.obj)
    with (
        ended_by_sigterm(),
        beside(to, _MODE, replace=force) as temporary,
        temporary.open("wb") as file,
    ):
        done = write_escrow(settings, this_user(), recipient, file, key_progress)
        if done.failed and to.exists():
            some = "; ".join(f"{key}: {why}" for key, why in list(done.failed.items())[:_SHOWN])
            raise Unavailable(
                f"{len(done.failed)} keys cannot be fetched now, so {to} stays as it was ({some})"
            )
    result = {"changed": True, "file": str(to), "keys": done.keys, "devices": done.devices}
    text = f"{to}: {done.keys} keys of {done.devices} devices"
    report(context, result, done.failed, text, as_json)
