"""`serve`: answer agents and administrators until told to stop."""

from pathlib import Path

import click

from securecloud_server.settings import load_settings


@click.command()
@click.pass_obj
def serve(config: Path) -> None:
    """Run the server in the foreground.

    SIGTERM and SIGINT finish what is under way and stop; SIGHUP reads the TLS certificate anew.
    """
    from securecloud_server import serve as server

    server.serve(load_settings(config))
