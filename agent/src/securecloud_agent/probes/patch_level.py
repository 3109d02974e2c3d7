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
_DNF = (
    "dnf",
    "-q",
    "-C",
    # Else a repository of which dnf has no metadata would pass for one without updates.
    "--setopt=*.skip_if_unavailable=0",
    "updateinfo",
    "list",
    "--security",
)
_DNF_4 = re.compile(r"\S+ +\S+/Sec\. +(?P<package>\S+)")
_DNF_5 = re.compile(r"\S+ +security +(\S+ +)?(?P<package>\S+) +[\d-]{10} [\d:]{8}")
_DNF_5_HEADLINE = ["Name", "Type", "Severity", "Package", "Issued"]
_INSTALL = re.compile(r"Inst \S+ (?:\[[^\]]*\] )?\((?P<origin>[^)]*)\)")
_SECURITY = re.compile(r"-security\b|[Ss]ecurity")
_APT_TRACES = (
    "/var/lib/apt/periodic/upgrade-stamp",
    "/var/log/apt/history.log",
    "/var/log/dpkg.log",
    "/var/lib/dpkg/status",
)
_APT_LISTS = ("/var/lib/apt/lists",)
_DNF_CACHES = ("/var/cache/dnf", "/var/cache/libdnf5")
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
    own = (*_APT_TRACES, *_APT_LISTS, *RPM_TRACES, *_dnf_metadata(context))
    return context.stamps(*own, *_REBOOT_MARKS)


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
    if not _dnf_metadata(context):
        raise ProbeError("dnf has no metadata of repositories; run dnf makecache")
    listed = context.run(_DNF, timeout=context.timeout)
    if listed.status != 0:
        raise ProbeError(f"dnf: {listed.complaint}")
    return count_advised_packages(listed.output.decode("utf-8", "replace"))


def _dnf_metadata(context: Context) -> list[str]:
    """Return the index of each repository's metadata; dnf's reading leaves them as they are."""
    return [
        f"{cache}/{found.relative_to(context.path(cache))}"
        for cache in _DNF_CACHES
        for found in sorted(context.path(cache).glob("*/repodata/repomd.xml"))
    ]


def count_advised_packages(text: str) -> int:
    """Return the number of packages in dnf's list of security advisories, of dnf 4 or dnf 5.

    Raises ProbeError for a line that is neither: what it says might be an update.
    """
    lines = [line.strip() for line in text.splitlines()]
    rows = [line for line in lines if line and line.split() != _DNF_5_HEADLINE]
    return len({_advised_package(row) for row in rows})


def _advised_package(row: str) -> str:
    found = _DNF_4.fullmatch(row) or _DNF_5.fullmatch(row)
    if found is None:
        raise ProbeError(f"dnf: not a line of a list of advisories: {row}")
    return found["package"]


def _days(context: Context, traces: tuple[str, ...]) -> int:
    times = [
        context.path(trace).stat().st_mtime for trace in traces if context.path(trace).exists()
    ]
    if not times:
        raise ProbeError("there is no trace of when software was last updated")
    return max(0, int(context.clock() - max(times))) // _DAY
