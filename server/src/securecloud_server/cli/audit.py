"""`audit`: the append-only log, and what auditors get of it."""

import time
from contextlib import closing
from pathlib import Path

import click

from securecloud_server.cli.actor import this_user
from securecloud_server.cli.files import beside, ended_by_sigterm
from securecloud_server.cli.output import check_option, json_option, print_json, say
from securecloud_server.cli.times import milliseconds
from securecloud_server.domain.errors import Conflict, FieldError, Invalid
from securecloud_server.settings import load_settings

_BUNDLE_MODE = 0o600


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
                "archived": report.archived,
                "problem": report.problem,
            }
        )
    elif report.verified:
        archived = f" ({report.archived} of them archived)" if report.archived else ""
        say(f"verified: {report.events} events{archived}, root {report.root.hex()}")
    if not report.verified:
        say(f"the audit log is damaged: {report.problem}")
        click.get_current_context().exit(1)


@audit.command()
@click.option(
    "--to",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write the bundle.",
)
@click.option("--since", metavar="TIME", help="Events from then on; all, if absent.")
@click.option("--until", metavar="TIME", help="Events before then; up to the last, if absent.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@json_option
@click.pass_obj
def export(
    config: Path, path: Path, since: str | None, until: str | None, force: bool, as_json: bool
) -> None:
    """Write an evidence bundle: events as one signed SQLite file, for an auditor.

    TIME is ISO 8601 with a time zone, a day (from midnight UTC), or a duration such as 30d: so long
    ago. The servers may serve meanwhile. securecloud-audit verifies the bundle, without a network.
    """
    from securecloud_server import installation

    asked = _range(since, until)
    settings = load_settings(config)
    with ended_by_sigterm(), beside(path, _BUNDLE_MODE, replace=force) as temporary:
        done = installation.export_audit_log(settings, temporary, *asked, _progress)
    count = done.range.end - done.range.start
    if as_json:
        print_json(
            {
                "changed": True,
                "file": str(path),
                "events": count,
                "range": {"start": done.range.start, "end": done.range.end},
                "size": done.head.size,
                "root": done.head.root.hex(),
                "fingerprint": done.fingerprint,
            }
        )
    else:
        say(f"{path}: {count} of {done.head.size} events")
        say(f"verify it with: securecloud-audit verify {path} --fingerprint {done.fingerprint}")


@audit.command()
@click.option(
    "--to",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write the archive, an evidence bundle.",
)
@click.option("--before", required=True, metavar="TIME", help="Events of before then.")
@check_option
@json_option
@click.pass_obj
def archive(config: Path, path: Path, before: str, check: bool, as_json: bool) -> None:
    """Move old events into an evidence bundle, and out of the database.

    Hashes and tree stay, so nothing that was signed or proved changes. The bundle is verified
    before anything is removed, and what was removed is an event. TIME is as for export: 400d, say.
    Run it again after it was interrupted.
    """
    from securecloud_server.archiving import Archiving

    moment = milliseconds("--before", before, time.time())
    settings = load_settings(config)
    with ended_by_sigterm(), closing(Archiving(settings)) as work:
        # What a run that was interrupted left.
        removed = 0 if check else work.remove(_progress)
        span = work.older_than(moment)
        is_due = span.end > span.start
        if is_due and not check:
            if path.exists():
                raise Conflict(f"{path} is there already; every archive needs a file of its own")
            with beside(path, _BUNDLE_MODE, replace=False) as temporary:
                done = work.write(temporary, span, _progress)
            work.record(this_user(), done, str(path.absolute()))
            removed += work.remove(_progress)
    if as_json:
        print_json(
            {
                "changed": is_due or removed > 0,
                "file": str(path) if is_due else None,
                "range": {"start": span.start, "end": span.end},
                "removed": removed,
            }
        )
    elif check:
        say(f"would archive {span.end - span.start} events from number {span.start} on")
    else:
        archived = f"{path}: {span.end - span.start} events; " if is_due else ""
        say(f"{archived}{removed} events were removed from the database")


@audit.command("public-key")
@json_option
@click.pass_obj
def public_key(config: Path, as_json: bool) -> None:
    """Print the key that signs heads and bundles, PEM, for auditors to keep."""
    from securecloud_server import installation

    key = installation.audit_key(load_settings(config))
    if as_json:
        print_json(
            {"server_id": key.server_id, "fingerprint": key.fingerprint, "public_key": key.pem}
        )
    else:
        click.echo(key.pem, nl=False)
        say(f"fingerprint of the server: {key.fingerprint}")


def _range(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    now = time.time()
    start = None if since is None else milliseconds("--since", since, now)
    end = None if until is None else milliseconds("--until", until, now)
    if start is not None and end is not None and end < start:
        expected = "a time that is not before --since"
        raise Invalid([FieldError("--until", expected, f"expected {expected}")])
    return start, end


def _progress(seen: int, total: int) -> None:
    say(f"{seen} of {total} events")
