"""Fact `patch_level`: security updates that wait, and when software was last changed."""

import re
from pathlib import Path

from securecloud_agent.probes.context import Context, Glance, ProbeError
from securecloud_agent.probes.packages import RPM_TRACES

_DAY = 86400
_APT = (
    "apt-get",
    "-s",
    "-q",
    "-o",
    "Debug::NoLocking=true",
    "-o",
    "APT::Get::Show-Versions=false",
    "upgrade",
)
_DNF = ("dnf", "-q", "-C", "updateinfo", "list", "--security")
_INSTALL = re.compile(r"Inst \S+ (?:\[[^\]]*\] )?\((?P<origin>[^)]*)\)")
_SECURITY = re.compile(r"-security\b|[Ss]ecurity")
_APT_TRACES = (
    "/var/lib/apt/periodic/upgrade-stamp",
    "/var/log/apt/history.log",
    "/var/log/dpkg.log",
    "/var/lib/dpkg/status",
)
_APT_LISTS = ("/var/lib/apt/lists",)
_REBOOT_MARKS = ("/run/reboot-required", "/var/run/reboot-required")


def collect(context: Context, _args: tuple[str, ...]) -> dict[str, int | bool]:
    """Return `{pending_security_updates, days_since_update, reboot_required}`."""
    debian = context.path("/var/lib/dpkg/status").exists()
    pending = _pending_apt(context) if debian else _pending_dnf(context)
    return {
        "pending_security_updates": pending,
        "days_since_update": _days(context, _APT_TRACES if debian else RPM_TRACES),
        "reboot_required": any(context.path(mark).exists() for mark in _REBOOT_MARKS),
    }


def glance(context: Context, _args: tuple[str, ...]) -> Glance:
    """Return what changes with the fact, see watch.py."""
    return context.stamps(*_APT_TRACES, *_APT_LISTS, *RPM_TRACES, *_REBOOT_MARKS)


def _pending_apt(context: Context) -> int:
    if not _has_entries(context.path("/var/lib/apt/lists"), "*Packages*"):
        raise ProbeError("apt has no package lists; run apt-get update")
    simulated = context.run(_APT, timeout=context.timeout)
    if simulated.status != 0:
        raise ProbeError(f"apt-get: {simulated.complaint}")
    return count_security_installs(simulated.output.decode("utf-8", "replace"))


def count_security_installs(text: str) -> int:
    """Return the number of packages that a simulated upgrade would take from a security archive."""
    origins = (match["origin"] for match in map(_INSTALL.match, text.splitlines()) if match)
    return sum(1 for origin in origins if _SECURITY.search(origin))


def _has_entries(folder: Path, pattern: str) -> bool:
    return any(True for _ in folder.glob(pattern))


def _pending_dnf(context: Context) -> int:
    listed = context.run(_DNF, timeout=context.timeout)
    if listed.status != 0:
        raise ProbeError(f"dnf: {listed.complaint}")
    lines = listed.output.decode("utf-8", "replace").splitlines()
    return len({line.split()[-1] for line in lines if len(line.split()) == 3})  # noqa: PLR2004 - id, severity, package


def _days(context: Context, traces: tuple[str, ...]) -> int:
    times = [
        context.path(trace).stat().st_mtime for trace in traces if context.path(trace).exists()
    ]
    if not times:
        raise ProbeError("there is no trace of when software was last updated")
    return max(0, int(context.clock() - max(times))) // _DAY
