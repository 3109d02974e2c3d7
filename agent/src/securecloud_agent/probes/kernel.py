"""Fact `kernel`: what runs, and a digest of how it was started."""

import hashlib
import platform

from securecloud_agent.probes.context import Context


def collect(context: Context, _args: tuple[str, ...]) -> dict[str, str]:
    """Return `{release, version, machine, command_line_digest}`."""
    command_line = context.octets("/proc/cmdline")
    return {
        "release": context.text("/proc/sys/kernel/osrelease").strip(),
        "version": context.text("/proc/sys/kernel/version").strip(),
        "machine": platform.machine(),
        "command_line_digest": f"sha256:{hashlib.sha256(command_line).hexdigest()}",
    }
