"""`doctor`: what is wrong with this installation, and what to do about it."""

from dataclasses import asdict
from pathlib import Path

import click

from securecloud_server.cli.checkup import Finding, examine
from securecloud_server.cli.output import json_option, print_json


@click.command()
@json_option
@click.pass_obj
def doctor(config: Path, as_json: bool) -> None:
    """Check configuration, files, certificate, database, keystore and audit log."""
    findings = examine(config)
    healthy = all(finding.ok for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "checks": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            click.echo(_line(finding))
    if not healthy:
        click.get_current_context().exit(1)


def _line(finding: Finding) -> str:
    return f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:14} {finding.message}"
