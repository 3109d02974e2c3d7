"""The systemd unit of a volume's mount, as text (systemd.unit(5), systemd.mount(5)).

The agent mounts by itself; the unit is there so that other units can say `RequiresMountsFor=`, wait
for the volume at boot, fail with a reason when its key is refused, and are stopped before it goes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securecloud_protocol.messages import Volume

_ISCSI_UNITS = "network.target iscsid.service open-iscsi.service"
"""What must still be there when a volume on iSCSI is closed: open-iscsi ends every session."""

MARK = "# Written by securecloud-agent"

_KEPT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")


def escape_path(path: str) -> str:
    """Return what stands for `path` in the name of a unit, as `systemd-escape --path` does."""
    parts = [part for part in path.split("/") if part]
    if not parts:
        return "-"
    text = "/".join(parts).encode()
    return "".join(_escaped(octet, first=index == 0) for index, octet in enumerate(text))


def _escaped(octet: int, *, first: bool) -> str:
    character = chr(octet)
    if character == "/":
        return "-"
    if character not in _KEPT or (first and character == "."):
        return f"\\x{octet:02x}"
    return character


def mount_unit(where: str) -> str:
    """Return the name of the unit that mounts at `where`."""
    return f"{escape_path(where)}.mount"


def device_unit(path: str) -> str:
    """Return the name of the unit that stands for the device node `path`."""
    return f"{escape_path(path)}.device"


def opened_unit(device: str) -> str:
    """Return the name of the unit that says whether the agent opened `device`, and why not."""
    return f"securecloud-volume@{device}.service"


def suspended_unit(device: str) -> str:
    """Return the name of the unit that is active while `device` is suspended."""
    return f"securecloud-suspended@{device}.service"


def mark(device: str) -> str:
    """Return how the text of every mount unit for `device` begins."""
    return f"{MARK} for the device {device};"


def mount_text(device: str, mapped: str, volume: "Volume") -> str:
    """Return the text of the mount unit for `volume`, opened as the device node `mapped`.

    Without systemd's default dependencies, which would order it before what the agent waits for.
    Nothing that is needed for logging in waits for it (as with `nofail` in crypttab).
    """
    opened = opened_unit(device)
    options = ",".join((*volume.options, "ro") if volume.read_only else volume.options)
    after = f"{opened} {_ISCSI_UNITS}" if volume.iscsi is not None else opened
    lines = [
        f"{mark(device)} it is written again when the server says otherwise.",
        "[Unit]",
        f"Description=Encrypted volume {device}",
        "DefaultDependencies=no",
        f"Requires={opened}",
        f"After={after}",
        "Conflicts=umount.target",
        # At shutdown what waits for a suspended volume is let go first.
        f"Before=umount.target {suspended_unit(device)}",
        "",
        "[Mount]",
        f"What={mapped}",
        f"Where={volume.mount_point}",
        f"Type={volume.filesystem}",
        f"Options={options or 'defaults'}",
    ]
    return "\n".join(line.replace("%", "%%") for line in lines) + "\n"


def remote_text(device: str) -> str:
    """Return the text of a drop-in for `opened_unit`: its disk is on iSCSI."""
    return f"{mark(device)}\n[Unit]\nAfter={_ISCSI_UNITS}\n"


def device_text(device: str) -> str:
    """Return the text of a drop-in for the unit of the device node on which `device` is opened."""
    return f"{mark(device)}\n[Unit]\nJobRunningTimeoutSec=infinity\n"
