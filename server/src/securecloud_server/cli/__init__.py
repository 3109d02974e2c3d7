"""The command line: `securecloud-server`. Reads, calls the application, prints; decides nothing."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0 done, 1 failed, 2 usage, 130 interrupted."""
    import click

    from securecloud_server.cli.commands import cli
    from securecloud_server.cli.output import complain
    from securecloud_server.domain.errors import DomainError

    try:
        return int(cli.main(arguments, "securecloud-server", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except DomainError as error:
        complain(error)
        return 1
