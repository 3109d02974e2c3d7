"""The server's settings: one frozen dataclass for each section of server.toml."""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from securecloud_server.domain.errors import FieldError, Invalid

S = TypeVar("S")

_LEVELS = ("debug", "info", "warning", "error")
_MASTER_KEY_SCHEMES = ("file:", "credential:", "shares:")
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class Check:
    """What a value must be: `expected` in words for the message, and a test that agrees."""

    expected: str
    holds: Callable[[Any], bool]


def _setting(check: Check, default: Any) -> Any:
    return field(default=default, metadata={"check": check})


def _integer(minimum: int, maximum: int) -> Check:
    return Check(
        f"an integer from {minimum} to {maximum}",
        lambda value: type(value) is int and minimum <= value <= maximum,
    )


def _one_of(*choices: str) -> Check:
    return Check("one of " + ", ".join(choices), lambda value: value in choices)


def _is_listen(value: Any) -> bool:
    if not isinstance(value, str) or "/" in value:
        return False
    try:
        parts = urlsplit(f"//{value}")
        return bool(parts.hostname) and parts.port is not None
    except ValueError:
        return False


def _is_https_url(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
        port = parts.port or 0
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and port <= _PORT_MAX


def _is_database_url(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if value.startswith("sqlite:///"):
        return value.startswith("sqlite:////") and ":memory:" not in value
    return value.startswith(("postgresql://", "postgresql+psycopg://"))


def _is_master_key(value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith(_MASTER_KEY_SCHEMES):
        return False
    scheme, _, rest = value.partition(":")
    if scheme == "credential":
        return bool(rest) and "/" not in rest
    return rest.startswith("/")


_LISTEN = Check("host:port, for example 127.0.0.1:8443 or [::1]:8443", _is_listen)
_LISTEN_OR_NONE = Check(
    "host:port, for example kmip.example.org:5696",
    lambda value: value == "" or _is_listen(value),
)
_HTTPS = Check("an https:// URL", _is_https_url)
_PATH = Check("an absolute path", lambda value: isinstance(value, str) and value.startswith("/"))
_PATH_OR_NONE = Check("an absolute path", lambda value: value == "" or _PATH.holds(value))
_BOOLEAN = Check("true or false", lambda value: type(value) is bool)
_DATABASE = Check("sqlite:////absolute/path or postgresql://…", _is_database_url)
_MASTER_KEYS = "file:/absolute/path, credential:NAME or shares:/absolute/path"
_MASTER_KEY = Check(_MASTER_KEYS, _is_master_key)
_MASTER_KEY_OR_NONE = Check(_MASTER_KEYS, lambda value: value == "" or _is_master_key(value))


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the server is reached and how many processes and threads serve."""

    listen: str = _setting(_LISTEN, "127.0.0.1:8443")
    public_url: str = _setting(_HTTPS, "https://127.0.0.1:8443")
    tls_certificate: str = _setting(_PATH, "/etc/securecloud/tls/server.pem")
    tls_key: str = _setting(_PATH, "/etc/securecloud/tls/server.key")
    workers: int = _setting(_integer(1, 64), 1)
    threads: int = _setting(_integer(1, 256), 16)
    metrics_public: bool = _setting(_BOOLEAN, False)

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Return `listen` in two parts; an IPv6 address without its brackets."""
        parts = urlsplit(f"//{self.listen}")
        return parts.hostname or "", parts.port or 0


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where the database is."""

    url: str = _setting(_DATABASE, "sqlite:////var/lib/securecloud/server/securecloud.db")


@dataclass(frozen=True, slots=True)
class KeystoreSettings:
    """Which keystore holds the device keys, and where its master key comes from.

    The previous one is empty, except while the master key is being replaced.
    """

    type: str = _setting(_one_of("local", "kmip"), "local")
    master_key: str = _setting(_MASTER_KEY, "file:/var/lib/securecloud/server/master.key")
    previous_master_key: str = _setting(_MASTER_KEY_OR_NONE, "")


@dataclass(frozen=True, slots=True)
class KmipSettings:
    """The KMIP server that keeps the device keys where `keystore.type` is kmip.

    Empty for none. `timeout`: seconds for a connection, and for each answer. `cache`: seconds for
    which a key that was fetched stays in memory, 0 for not at all.
    """

    server: str = _setting(_LISTEN_OR_NONE, "")
    ca_file: str = _setting(_PATH_OR_NONE, "")
    certificate: str = _setting(_PATH_OR_NONE, "")
    key: str = _setting(_PATH_OR_NONE, "")
    timeout: int = _setting(_integer(1, 60), 5)
    cache: int = _setting(_integer(0, 300), 0)

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Return `server` in two parts; an IPv6 address without its brackets."""
        parts = urlsplit(f"//{self.server}")
        return parts.hostname or "", parts.port or 0


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Times in seconds.

    A challenge can be answered for `session_lifetime`; agents are told to ask again after
    `pending_retry`; an approval waits `approval_lifetime` for its agent; a running agent has its
    integrity checked each `check_interval`.
    """

    session_lifetime: int = _setting(_integer(5, 300), 30)
    pending_retry: int = _setting(_integer(1, 3600), 15)
    approval_lifetime: int = _setting(_integer(60, 30 * 86400), 3600)
    check_interval: int = _setting(_integer(10, 86400), 300)


@dataclass(frozen=True, slots=True)
class EvidenceSettings:
    """How much of each device's evidence is kept, for the replay of policies.

    At most `history` documents, the last included, and none that was last seen `days` ago.
    """

    history: int = _setting(_integer(1, 1000), 10)
    days: int = _setting(_integer(1, 3650), 30)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The lowest level that is logged."""

    level: str = _setting(_one_of(*_LEVELS), "info")


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of server.toml."""

    server: ServerSettings = field(default_factory=ServerSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    keystore: KeystoreSettings = field(default_factory=KeystoreSettings)
    kmip: KmipSettings = field(default_factory=KmipSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    log: LogSettings = field(default_factory=LogSettings)


_SECTIONS: dict[str, type[Any]] = {
    "server": ServerSettings,
    "storage": StorageSettings,
    "keystore": KeystoreSettings,
    "kmip": KmipSettings,
    "policy": PolicySettings,
    "evidence": EvidenceSettings,
    "log": LogSettings,
}


def parse_settings(tree: object) -> Settings:
    """Return the settings in `tree` (parsed TOML or JSON); Invalid lists every wrong field."""
    errors: list[FieldError] = []
    if not isinstance(tree, Mapping):
        raise Invalid([FieldError("", "a table of sections", "the settings are not a table")])
    errors += _unknown("", tree, _SECTIONS)
    sections: dict[str, Any] = {
        name: _section(name, cls, tree.get(name, {}), errors) for name, cls in _SECTIONS.items()
    }
    errors += _missing_for_kmip(sections["keystore"], sections["kmip"])
    if errors:
        raise Invalid(errors)
    return Settings(**sections)


def _missing_for_kmip(
    keystore: KeystoreSettings | None, kmip: KmipSettings | None
) -> list[FieldError]:
    if keystore is None or kmip is None or keystore.type != "kmip":
        return []
    return [
        FieldError(f"kmip.{name}", "a value", "is required where keystore.type is kmip")
        for name in ("server", "ca_file", "certificate", "key")
        if not getattr(kmip, name)
    ]


def parse_toml(text: str) -> Settings:
    """Return the settings in the text of a server.toml."""
    try:
        return parse_settings(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise Invalid([FieldError("", "TOML", f"not valid TOML: {error}")]) from None


def load_settings(path: Path) -> Settings:
    """Read and parse `path`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise Invalid([FieldError("", "a readable file", message)]) from None
    except UnicodeDecodeError:
        raise Invalid([FieldError("", "UTF-8 text", f"{path} is not UTF-8")]) from None
    return parse_toml(text)


def render_toml(settings: Settings) -> str:
    """Return the text of a server.toml with every setting written out."""
    blocks = []
    for name in _SECTIONS:
        section = getattr(settings, name)
        lines = [f"{f.name} = {json.dumps(getattr(section, f.name))}" for f in fields(section)]
        blocks.append("\n".join([f"[{name}]", *lines]))
    return "\n\n".join(blocks) + "\n"


def _section(name: str, cls: type[S], tree: object, errors: list[FieldError]) -> S | None:
    if not isinstance(tree, Mapping):
        errors.append(FieldError(name, "a table", f"[{name}] is not a table"))
        return None
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]  # S is a dataclass
    errors += _unknown(f"{name}.", tree, known)
    values = {key: value for key, value in tree.items() if key in known}
    for key, value in values.items():
        check: Check = known[key].metadata["check"]
        if not check.holds(value):
            message = f"expected {check.expected}"
            errors.append(FieldError(f"{name}.{key}", check.expected, message))
    return cls(**values)


def _unknown(prefix: str, tree: Mapping[Any, Any], known: Mapping[str, object]) -> list[FieldError]:
    expected = "one of " + ", ".join(known)
    return [
        FieldError(f"{prefix}{key}", expected, "unknown setting")
        for key in tree
        if key not in known
    ]
