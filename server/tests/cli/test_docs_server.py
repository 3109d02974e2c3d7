"""docs/server.md tells of every setting and every command, and of no other."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from securecloud_server.cli.commands import cli
from securecloud_server.settings import Settings

TEXT = (Path(__file__).parents[3] / "docs/server.md").read_text()


def test_the_table_of_settings_is_complete() -> None:
    table = TEXT.partition("<!-- settings -->")[2].partition("<!-- end of settings -->")[0]
    rows = re.findall(r"^\| (\w+) \| (\w+) \| `(.*?)` \|", table, re.MULTILINE)
    documented = [(section, key, json.loads(default)) for section, key, default in rows]
    settings: dict[str, dict[str, Any]] = dataclasses.asdict(Settings())
    assert documented == [
        (section, key, default)
        for section, values in settings.items()
        for key, default in values.items()
    ]


def test_every_command_is_in_the_table() -> None:
    for name in cli.commands:
        assert re.search(rf"^\| `{name}\b", TEXT, re.MULTILINE), name
