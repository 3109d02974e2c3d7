"""Fact `boot`: which boot this is, and how long ago it was."""

from securecloud_agent.probes.context import Context, whole_number


def collect(context: Context, _args: tuple[str, ...]) -> dict[str, str | int]:
    """Return `{boot_id, uptime_seconds}`."""
    uptime = context.text("/proc/uptime").partition(".")[0]
    return {
        "boot_id": context.text("/proc/sys/kernel/random/boot_id").strip(),
        "uptime_seconds": whole_number(uptime, "the uptime"),
    }
