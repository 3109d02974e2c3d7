"""Fact `host_name`: the kernel's host name."""

from securecloud_agent.probes.context import Context


def collect(context: Context, _args: tuple[str, ...]) -> str:
    """Return a string."""
    return context.text("/proc/sys/kernel/hostname").strip()
