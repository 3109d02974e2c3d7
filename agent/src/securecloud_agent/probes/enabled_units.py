"""Fact `enabled_units`: which systemd units start by themselves."""

from securecloud_agent.probes.context import Context, Glance

_FOLDERS = ("/etc/systemd/system", "/run/systemd/system")
_KINDS = ("wants", "requires", "upholds")


def collect(context: Context, _args: tuple[str, ...]) -> list[str]:
    """Return the names of units linked into a `.wants`, `.requires` or `.upholds` folder, sorted.

    This is what `systemctl enable` makes; it can be read where systemd does not run.
    """
    if not any(context.path(folder).is_dir() for folder in (*_FOLDERS, "/lib/systemd/system")):
        return []
    return sorted(
        {
            link.name
            for folder in _FOLDERS
            for kind in _KINDS
            for link in context.path(folder).glob(f"*.{kind}/*")
            if link.is_symlink()
        }
    )


def glance(context: Context, _args: tuple[str, ...]) -> Glance:
    """Return what changes with the fact, see watch.py."""
    return context.stamps(
        *(
            f"{folder}/{found.name}"
            for folder in _FOLDERS
            for kind in _KINDS
            for found in context.path(folder).glob(f"*.{kind}")
        )
    )
