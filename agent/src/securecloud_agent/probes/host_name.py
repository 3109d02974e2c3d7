"""Fact `host_name`: the kernel's host name."""

from securecloud_agent.probes.context import Context, Glance


def collect(context: Context, _args: tuple[str, ...]) -> str:
    """Return a string."""
    return context.text("/proc/sys/kernel/hostname").strip()


def glance(context: Context, _args: tuple[str, ...]) -> Glance:
    """Return what changes with the fact, see watch.py."""
    return collect(context, ())
