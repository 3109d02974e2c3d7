"""Fact `packages`: what is installed, from dpkg's status file or rpm."""

from securecloud_agent.probes.context import Context, Glance, ProbeError

_DPKG = "/var/lib/dpkg/status"
RPM_TRACES = ("/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages")
_RPM = ("rpm", "-qa", "--qf", "%{NAME}\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\n")


def collect(context: Context, args: tuple[str, ...]) -> dict[str, str]:
    """Return `{name: version}` of the packages in `args`, of all without any."""
    found = _dpkg(context) if context.path(_DPKG).exists() else _rpm(context)
    return {name: found[name] for name in args if name in found} if args else found


def glance(context: Context, _args: tuple[str, ...]) -> Glance:
    """Return what changes with the fact, see watch.py."""
    return context.stamps(_DPKG, *RPM_TRACES)


def _dpkg(context: Context) -> dict[str, str]:
    packages: dict[str, str] = {}
    for paragraph in context.text(_DPKG).split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if ": " in line[:64] and line[0] != " "
        )
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            packages.setdefault(fields["Package"], fields.get("Version", ""))
    return dict(sorted(packages.items()))


def _rpm(context: Context) -> dict[str, str]:
    listed = context.run(_RPM, timeout=context.timeout)
    if listed.status != 0:
        raise ProbeError(f"rpm: {listed.complaint}")
    pairs = (line.split("\t", 1) for line in listed.output.decode("utf-8", "replace").splitlines())
    return dict(sorted((pair[0], pair[1]) for pair in pairs if len(pair) == 2))  # noqa: PLR2004 - a pair
