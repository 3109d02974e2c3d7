"""All commands under one name."""

from pathlib import Path

import click

from securecloud_server import __version__
from securecloud_server.cli.audit import audit
from securecloud_server.cli.backup import backup, restore
from securecloud_server.cli.configure import configure
from securecloud_server.cli.db import db
from securecloud_server.cli.doctor import doctor
from securecloud_server.cli.escrow import escrow
from securecloud_server.cli.init import init
from securecloud_server.cli.keystores import keystore
from securecloud_server.cli.policies import policy
from securecloud_server.cli.serve import serve
from securecloud_server.cli.tokens import token

_DEFAULT = "/etc/securecloud/server.toml"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=_DEFAULT,
    show_default=True,
    help="The server's settings.",
)
@click.version_option(__version__, prog_name="securecloud-server")
@click.pass_context
def cli(context: click.Context, config: Path) -> None:
    """Run and look after a SecureCloud management server."""
    context.obj = config


for command in (
    configure,
    init,
    serve,
    db,
    doctor,
    token,
    policy,
    keystore,
    backup,
    restore,
    escrow,
    audit,
):
    cli.add_command(command)
