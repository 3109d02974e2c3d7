"""Fact `os`: the distribution, from os-release(5)."""

import shlex

from securecloud_agent.probes.context import Context, Glance, ProbeError


def collect(context: Context, _args: tuple[str, ...]) -> dict[str, str]:
    """Return `{id, version_id, name}`."""
    text = context.optional_text("/etc/os-release")
    values = parse(context.text("/usr/lib/os-release") if text is None else text)
    return {
        "id": values.get("ID", "linux"),
        "version_id": values.get("VERSION_ID", ""),
        "name": values.get("PRETTY_NAME", values.get("NAME", "Linux")),
    }


def glance(context: Context, _args: tuple[str, ...]) -> Glance:
    """Return what changes with the fact, see watch.py."""
    return context.stamps("/etc/os-release", "/usr/lib/os-release")


def parse(text: str) -> dict[str, str]:
    """Return the assignments; the values are quoted as in a shell."""
    values = {}
    for line in text.splitlines():
        name, separator, quoted = line.strip().partition("=")
        if not separator or name.startswith("#"):
            continue
        try:
            words = shlex.split(quoted)
        except ValueError:
            raise ProbeError(f"os-release: {name} is not quoted properly") from None
        values[name] = words[0] if words else ""
    return values
