"""Fact `users`: who could log in."""

from securecloud_agent.probes.context import Context, Glance

_NO_LOGIN = frozenset({"nologin", "false", "sync", "halt", "shutdown"})
_FIELDS = 7


def collect(context: Context, _args: tuple[str, ...]) -> list[str]:
    """Return the login names in /etc/passwd that have a login shell, sorted."""
    found = set()
    for line in context.text("/etc/passwd").splitlines():
        fields = line.split(":")
        # An empty shell means /bin/sh, see passwd(5).
        if len(fields) == _FIELDS and fields[6].strip().rpartition("/")[2] not in _NO_LOGIN:
            found.add(fields[0])
    return sorted(found)


def glance(context: Context, _args: tuple[str, ...]) -> Glance:
    """Return what changes with the fact, see watch.py."""
    return context.stamps("/etc/passwd")
