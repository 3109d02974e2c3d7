"""Fact `mandatory_access_control`: SELinux and AppArmor."""

from securecloud_agent.probes.context import Context, Glance


def collect(context: Context, _args: tuple[str, ...]) -> dict[str, str]:
    """Return `{selinux, apparmor}`."""
    return {"selinux": _selinux(context), "apparmor": _apparmor(context)}


def glance(context: Context, _args: tuple[str, ...]) -> Glance:
    """Return what changes with the fact, see watch.py."""
    return tuple(collect(context, ()).items())


def _selinux(context: Context) -> str:
    enforce = context.optional_text("/sys/fs/selinux/enforce")
    if enforce is not None:
        return "enforcing" if enforce.strip() == "1" else "permissive"
    return "disabled" if context.path("/etc/selinux/config").exists() else "absent"


def _apparmor(context: Context) -> str:
    enabled = context.optional_text("/sys/module/apparmor/parameters/enabled")
    if enabled is None:
        return "absent"
    profiles = context.optional_text("/sys/kernel/security/apparmor/profiles") or ""
    enforced = any(line.endswith("(enforce)") for line in profiles.splitlines())
    return "enforcing" if enabled.strip() == "Y" and enforced else "disabled"
