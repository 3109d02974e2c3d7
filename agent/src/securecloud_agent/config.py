"""The agent's settings: one table of what may stand in agent.toml, its checks and its defaults."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from securecloud_agent.errors import ConfigError, printable

DEFAULT_PATH = Path("/etc/securecloud/agent.toml")

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_PLUGIN = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MAX_SERVERS = 16
_MAX_TEXT = 128
_REQUIRED: Any = object()

Tree = dict[str, dict[str, Any]]
Check = Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked settings. `deadline` and `probe_timeout` are in seconds."""

    name: str
    servers: tuple[str, ...]
    ca_file: Path
    state_dir: Path
    run_dir: Path
    deadline: int
    mounts: str
    provider: str
    location: Mapping[str, str | None]
    probe_timeout: int


def _wrong(field: str, expected: str, value: object) -> ConfigError:
    return ConfigError(f"{field}: expected {expected}, got {printable(repr(value), 80)}")


def _name(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _wrong(field, "1 to 63 of a-z 0-9 . _ - that begin and end with a-z or 0-9", value)
    return value


def _plugin(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _PLUGIN.fullmatch(value):
        raise _wrong(field, "the name of a provider plugin such as plain", value)
    return value


def _path(value: Any, field: str) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise _wrong(field, "an absolute path", value)
    return value


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise _wrong(field, f"printable text of at most {_MAX_TEXT} characters", value)
    return value


def _seconds(minimum: int, maximum: int) -> Check:
    def check(value: Any, field: str) -> int:
        if type(value) is not int or not minimum <= value <= maximum:
            raise _wrong(field, f"whole seconds from {minimum} to {maximum}", value)
        return value

    return check


def _one_of(*words: str) -> Check:
    def check(value: Any, field: str) -> str:
        if value not in words:
            raise _wrong(field, " or ".join(words), value)
        return str(value)

    return check


def _server(value: Any, field: str) -> str:
    expected = "https://HOST or https://HOST:PORT"
    try:
        parts = urlsplit(value)
        sound = parts.scheme == "https" and parts.hostname and parts.port != 0
    except (ValueError, TypeError, AttributeError):
        raise _wrong(field, expected, value) from None
    extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if not sound or extra or not str(value).isprintable() or " " in value:
        raise _wrong(field, expected, value)
    return f"https://{parts.netloc}"


def _servers(value: Any, field: str) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_SERVERS:
        raise _wrong(field, f"a list of 1 to {_MAX_SERVERS} URLs", value)
    urls = [_server(item, f"{field}[{index}]") for index, item in enumerate(value)]
    if len(set(urls)) != len(urls):
        raise ConfigError(f"{field}: the same URL stands there twice")
    return urls


_TABLE: dict[str, dict[str, tuple[Any, Check]]] = {
    "agent": {
        "name": (_REQUIRED, _name),
        "servers": (_REQUIRED, _servers),
        "ca_file": ("/etc/securecloud/ca.pem", _path),
        "state_dir": ("/var/lib/securecloud/agent", _path),
        "run_dir": ("/run/securecloud", _path),
    },
    "unlock": {
        "deadline": (60, _seconds(5, 600)),
        "mounts": ("direct", _one_of("direct", "systemd")),
    },
    "location": {
        "provider": ("plain", _plugin),
        "region": ("", _text),
        "zone": ("", _text),
        "datacenter": ("", _text),
    },
    "probes": {"timeout": (10, _seconds(1, 60))},
}


def defaults() -> Tree:
    """Return every setting that has a default."""
    return {
        section: {key: value for key, (value, _) in keys.items() if value is not _REQUIRED}
        for section, keys in _TABLE.items()
    }


def check_setting(section: str, key: str, value: Any) -> Any:
    """Return `value` as it will be stored; raise ConfigError when it is not fit."""
    return _TABLE[section][key][1](value, f"{section}.{key}")


def complete(given: Any) -> Tree:
    """Check a tree of settings and fill in the defaults; unknown names are refused."""
    if not isinstance(given, dict):
        raise ConfigError("settings: expected an object with the sections " + ", ".join(_TABLE))
    _refuse_unknown(given.keys() - _TABLE.keys(), _TABLE, "section")
    return {section: _section(section, given.get(section, {})) for section in _TABLE}


def _section(section: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ConfigError(f"{section}: expected an object with settings")
    table = _TABLE[section]
    _refuse_unknown({f"{section}.{key}" for key in given.keys() - table.keys()}, table, "setting")
    checked = {}
    for key, (default, check) in table.items():
        value = given.get(key, default)
        if value is _REQUIRED:
            raise ConfigError(f"{section}.{key}: is required")
        checked[key] = check(value, f"{section}.{key}")
    return checked


def _refuse_unknown(names: set[str], known: Mapping[str, Any], kind: str) -> None:
    if names:
        first = printable(sorted(names)[0], 80)
        raise ConfigError(f"{first}: unknown {kind}; expected one of {', '.join(known)}")


def render(tree: Tree) -> str:
    """Return the TOML text of a complete tree."""
    lines = ["# Written by `securecloud-agent configure`."]
    for section, values in tree.items():
        lines += ["", f"[{section}]"]
        # A TOML string or list of strings is written like JSON's once control characters are out.
        lines += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()
        ]
    return "\n".join(lines) + "\n"


def read_tree(path: Path) -> Tree:
    """Return the checked tree in the file at `path`."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; write it with `securecloud-agent configure`"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    try:
        return complete(given)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def load(path: Path) -> Settings:
    """Read and check the settings in the file at `path`."""
    tree = read_tree(path)
    agent, location = tree["agent"], tree["location"]
    return Settings(
        name=agent["name"],
        servers=tuple(agent["servers"]),
        ca_file=Path(agent["ca_file"]),
        state_dir=Path(agent["state_dir"]),
        run_dir=Path(agent["run_dir"]),
        deadline=tree["unlock"]["deadline"],
        mounts=tree["unlock"]["mounts"],
        provider=location["provider"],
        location={key: location[key] or None for key in ("region", "zone", "datacenter")},
        probe_timeout=tree["probes"]["timeout"],
    )
