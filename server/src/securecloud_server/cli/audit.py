"""`audit`: the append-only log."""

from pathlib import Path

import click

from securecloud_server.cli.output import json_option, print_json, say
from securecloud_server.settings import load_settings


@click.group()
def audit() -> None:
    """Look after the audit log."""


@audit.command()
@json_option
@click.pass_obj
def verify(config: Path, as_json: bool) -> None:
    """Recompute the whole log and compare it with its tree and its signed head."""
    from securecloud_server import installation

    report = installation.verify_audit_log(load_settings(config))
    if as_json:
        print_json(
            {
                "verified": report.verified,
                "size": report.size,
                "root": report.root.hex(),
                "events": report.events,
                "problem": report.problem,
            }
        )
    elif report.verified:
        say(f"verified: {report.events} events, root {report.root.hex()}")
    if not report.verified:
        say(f"the audit log is damaged: {report.problem}")
        click.get_current_context().exit(1)
