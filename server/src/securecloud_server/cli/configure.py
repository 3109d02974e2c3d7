"""`configure`: settings as JSON on standard input become server.toml, whole and valid or not."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from securecloud_server.cli.files import make_parents, replaced
from securecloud_server.cli.output import check_option, json_option, print_json, say
from securecloud_server.domain.errors import FieldError, Invalid
from securecloud_server.settings import parse_settings, render_toml

_FILE_MODE = 0o640
_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]*(?=@)")


@click.command()
@check_option
@json_option
@click.pass_obj
def configure(config: Path, check: bool, as_json: bool) -> None:
    """Write the settings (JSON on standard input) to the configuration file.

    What is left out gets its default. Nothing is written unless every setting is right.
    """
    after = render_toml(parse_settings(_settings(sys.stdin.read())))
    before = _present(config)
    changed = before != after
    if changed and not check:
        make_parents(config)
        with replaced(config, _FILE_MODE) as file:
            file.write(after.encode())
    if as_json:
        diff = {"before": without_passwords(before), "after": without_passwords(after)}
        print_json({"changed": changed, "diff": diff})
    else:
        verb = "would be written" if check else "written"
        say(f"{config} {verb}" if changed else f"{config} is unchanged")


def without_passwords(text: str) -> str:
    """Return the text with the password of each URL masked."""
    return _PASSWORD.sub(r"\1********", text)


def _settings(text: str) -> Any:
    expected = "a JSON object of sections"
    if not text.strip():
        message = "nothing came on standard input"
        raise Invalid([FieldError("settings", expected, message)])
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"standard input is not JSON: {error}"
        raise Invalid([FieldError("settings", expected, message)]) from None


def _present(config: Path) -> str:
    try:
        return config.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        message = f"{config} cannot be read: {error}"
        raise Invalid([FieldError("", "a readable file", message)]) from None
