"""The plugin interface, and how a plugin is found by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from securecloud_agent.errors import ConfigError

GROUP = "securecloud_agent.providers"


class Provider(Protocol):
    """Knows where the machine is and which machine it is; answers are facts of the contract."""

    def __init__(self, location: Mapping[str, str | None], root: Path) -> None:
        """Take the `[location]` settings, and the root below which files are read."""

    def location(self) -> dict[str, str | None]:
        """Return `{provider, region, zone, datacenter}`."""

    def instance(self) -> dict[str, str | None]:
        """Return `{id, user_data_digest, user_data}`."""


def load(name: str) -> type[Provider]:
    """Return the provider class of plugin `name`; raise ConfigError when there is none."""
    if name == "plain":
        from securecloud_agent.providers.plain import Plain

        return Plain
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted({"plain", *found}))
        raise ConfigError(f"location.provider: no plugin {name} is installed; there is: {known}")
    try:
        plugin: Any = found[name].load()
    except Exception as error:
        raise ConfigError(f"location.provider: plugin {name} does not load: {error}") from error
    provider: type[Provider] = plugin
    return provider
