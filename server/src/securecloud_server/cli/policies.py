"""`policy`: what a draft of a policy would change."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from securecloud_server.cli.actor import this_user
from securecloud_server.cli.output import json_option, print_json
from securecloud_server.domain.errors import FieldError, Invalid
from securecloud_server.domain.evaluation import printable
from securecloud_server.settings import load_settings

if TYPE_CHECKING:
    from securecloud_server.services.policy_impact import Responsible
    from securecloud_server.services.policy_replay import Impact

_DRAFT_LIMIT = 256 * 1024


@click.group()
def policy() -> None:
    """Look at policies."""


@policy.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--draft",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="JSON of the policy as it might be; - for standard input. The one in effect, if absent.",
)
@click.option("--group", "groups", multiple=True, help="Only devices of this group; repeatable.")
@click.option("--device", "devices", multiple=True, help="Only this device; repeatable.")
@json_option
@click.pass_obj
def evaluate(
    config: Path,
    name: str,
    draft: Path | None,
    groups: tuple[str, ...],
    devices: tuple[str, ...],
    as_json: bool,
) -> None:
    """Replay a draft of the policy NAME on the last evidence of the devices that it governs.

    Says which machines would lose or gain their keys, and by which rule. Changes nothing.
    """
    from securecloud_server import app
    from securecloud_server.services.policy_replay import Selection
    from securecloud_server.web.admin import policy_impact

    text = None if draft is None else _read(draft)
    application = app.build(load_settings(config))
    try:
        replay = application.admin.policy_replay
        impact = replay.evaluate(
            this_user(), name, text, Selection(groups or None, devices or None)
        )
    finally:
        application.close()
    if as_json:
        print_json(policy_impact.show(impact).model_dump(mode="json"))
    else:
        _print(impact)


def _read(path: Path) -> dict[str, Any]:
    try:
        with click.open_file(str(path), encoding="utf-8") as file:
            text = file.read(_DRAFT_LIMIT + 1)
    except OSError as error:
        raise _refused("a readable file", f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _refused("JSON in UTF-8", f"{path} is not UTF-8") from None
    if len(text) > _DRAFT_LIMIT:
        raise _refused(f"at most {_DRAFT_LIMIT} characters", f"{path} is too large")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise _refused("a JSON object", f"{path} is not JSON{where}") from None
    if not isinstance(document, dict):
        raise _refused("a JSON object", f"{path} holds no JSON object")
    return document


def _refused(expected: str, message: str) -> Invalid:
    return Invalid([FieldError("draft", expected, message)])


def _print(impact: "Impact") -> None:
    for each in impact.devices:
        if each.before is None or each.after is None or each.sighting is None:
            click.echo(f"{each.effect.value:11}  {each.device}")
            continue
        age = max(0, impact.at - each.sighting.last_at)
        step = f"{each.before.outcome} -> {each.after.outcome}"
        click.echo(f"{each.effect.value:11}  {each.device}  {step}  (seen {age} s ago)")
        for rule in each.rules:
            click.echo(f"{'':11}  {_sentence(rule)}")
    counted = impact.totals()
    click.echo(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counted.items()))


def _sentence(rule: "Responsible") -> str:
    result = rule.result
    why = result.explanation or f"holds: {json.dumps(result.value, ensure_ascii=False)}"
    provenance = f" ({result.provenance.value})" if result.provenance else ""
    return printable(f"{rule.policy} {result.path}: {result.rule}: {why}{provenance}")
