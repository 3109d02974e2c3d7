"""`db`: the database's schema."""

from pathlib import Path

import click

from securecloud_server.cli.output import check_option, json_option, print_json, say
from securecloud_server.settings import load_settings


@click.group()
def db() -> None:
    """Look after the database."""


@db.command()
@check_option
@json_option
@click.pass_obj
def upgrade(config: Path, check: bool, as_json: bool) -> None:
    """Bring the schema to what this version needs. Make a backup first, stop the servers."""
    from securecloud_server import installation

    before, after = installation.upgrade_database(load_settings(config), check=check)
    if as_json:
        print_json({"changed": before != after, "before": before, "after": after})
    elif before == after:
        say(f"the schema has version {before}: nothing to do")
    else:
        verb = "would go" if check else "went"
        say(f"the schema {verb} from version {before} to {after}")
