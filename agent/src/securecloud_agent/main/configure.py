"""`configure`: the Configuration Tool, from JSON on standard input or by asking."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from securecloud_agent.config import Tree, check_setting, complete, defaults, read_tree, render
from securecloud_agent.errors import AgentError, ConfigError, say
from securecloud_agent.main.output import print_json
from securecloud_agent.state.files import write_file

_FILE_MODE = 0o640
_QUESTIONS = (
    ("agent", "name", "Name of this agent"),
    ("agent", "servers", "URLs of the management servers, separated by commas"),
    ("agent", "ca_file", "CA certificates that vouch for the servers"),
    ("agent", "state_dir", "Where the agent keeps its identity and state"),
    ("agent", "run_dir", "Where the agent keeps what ends with a boot"),
    ("unlock", "deadline", "Seconds for one exchange over all servers"),
    ("unlock", "mounts", "Who is told of mounts: systemd, or direct for nobody"),
    ("location", "provider", "Provider plugin"),
    ("location", "region", "Region"),
    ("location", "zone", "Zone"),
    ("location", "datacenter", "Data centre"),
    ("probes", "timeout", "Seconds for each fact"),
)


def command(arguments: argparse.Namespace) -> int:
    """Write the settings if they differ from what is there."""
    path: Path = arguments.config
    tree = _ask(path) if sys.stdin.isatty() else complete(_read_settings())
    before = _current_text(path)
    after = render(tree)
    changed = before != after
    if changed and not arguments.check:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, after.encode(), _FILE_MODE)
    _report(arguments, path, changed, before, after)
    return 0


def _report(
    arguments: argparse.Namespace, path: Path, changed: bool, before: str, after: str
) -> None:
    if arguments.json:
        print_json({"changed": changed, "diff": {"before": before, "after": after}})
        return
    would = "would be " if arguments.check else ""
    say(f"{path} {would}written" if changed else f"{path} is unchanged")


def _current_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise AgentError(f"{path} cannot be read: {error}") from None


def _read_settings() -> Any:
    text = sys.stdin.read()
    if not text.strip():
        raise ConfigError("settings: nothing came on standard input; expected a JSON object")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"settings: standard input is not JSON: {error}") from None


def _ask(path: Path) -> Tree:
    tree = _starting_point(path)
    for section, key, question in _QUESTIONS:
        tree[section][key] = _ask_one(section, key, question, tree[section].get(key))
    return complete(tree)


def _starting_point(path: Path) -> Tree:
    if path.exists():
        return read_tree(path)
    tree = defaults()
    host = Path("/proc/sys/kernel/hostname").read_text(encoding="utf-8").strip()
    tree["agent"]["name"] = re.sub(r"[^a-z0-9.-]", "-", host.lower()).strip(".-")[:63]
    tree["agent"]["servers"] = ["https://127.0.0.1:8443"]
    return tree


def _ask_one(section: str, key: str, question: str, current: Any) -> Any:
    shown = ", ".join(current) if isinstance(current, list) else current
    while True:
        print(f"{question} [{shown}]: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise ConfigError("settings: the answers ended too early; nothing was written")
        try:
            return check_setting(section, key, _answer(line.strip(), current))
        except ConfigError as error:
            say(error)


def _answer(text: str, current: Any) -> Any:
    """Return what was typed in the type of the current value; nothing keeps it, `-` empties it."""
    if not text:
        return current
    if isinstance(current, list):
        return [part.strip() for part in text.split(",")]
    if isinstance(current, int):
        return int(text) if text.isdecimal() else text
    return "" if text == "-" else text
