"""What an administrator may say of a volume, checked field by field."""

import re
from collections.abc import Callable, Mapping
from posixpath import normpath
from typing import Any

from securecloud_server.domain.errors import FieldError
from securecloud_server.domain.iscsi import iscsi_errors, path_of, with_port

_PATH = re.compile(r"/(?!/)[^\x00-\x1f\x7f]{0,1022}")
_OPTION = re.compile(r"[0-9A-Za-z_.=:/@%+-]{1,128}")
_CLEAN = "a clean absolute path (no '..', no '//', no '/' at its end)"
_MAX_OPTIONS = 32
FILESYSTEMS = ("ext4", "xfs")

DEFAULTS: Mapping[str, Any] = {
    "source": None,
    "iscsi": None,
    "filesystem": "ext4",
    "mount_point": None,
    "options": ["defaults"],
    "read_only": False,
    "initialise": "never",
}

Test = Callable[[Any], bool]


def _is_path(value: Any) -> bool:
    """One spelling for one place: two devices must not share a volume under two names."""
    return isinstance(value, str) and bool(_PATH.fullmatch(value)) and normpath(value) == value


def _is_options(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MAX_OPTIONS
        and all(isinstance(item, str) and _OPTION.fullmatch(item) for item in value)
    )


_FIELDS: Mapping[str, tuple[str, Test]] = {
    "source": (_CLEAN, lambda v: v is None or (_is_path(v) and v != "/")),
    "filesystem": ("ext4 or xfs", lambda v: v in FILESYSTEMS),
    "mount_point": (
        f"{_CLEAN}; not /; or null",
        lambda v: v is None or (_is_path(v) and v.strip("/") != ""),
    ),
    "options": (f"a list of at most {_MAX_OPTIONS} mount options", _is_options),
    "read_only": ("true or false", lambda v: type(v) is bool),
    "initialise": ("never or if_blank", lambda v: v in {"never", "if_blank"}),
}


def normalised(volume: Mapping[str, Any]) -> dict[str, Any]:
    """Return the volume with every default written out, that of the iSCSI port included."""
    iscsi = volume.get("iscsi")
    if isinstance(iscsi, Mapping):
        volume = {**volume, "iscsi": with_port(iscsi)}
    return {**DEFAULTS, **volume}


def source_of(volume: Mapping[str, Any]) -> str:
    """Return the path of a valid volume's disk or file on the machine."""
    iscsi = volume.get("iscsi")
    source: str = path_of(iscsi) if iscsi else volume["source"]
    return source


def volume_errors(volume: Mapping[str, Any]) -> list[FieldError]:
    """Return what is wrong with a normalised volume."""
    errors = [
        FieldError(f"volume.{name}", f"one of {', '.join(DEFAULTS)}", "unknown field")
        for name in volume
        if name not in DEFAULTS
    ]
    errors += _place_errors(volume)
    for name, (expected, holds) in _FIELDS.items():
        if not holds(volume[name]):
            errors.append(FieldError(f"volume.{name}", expected, f"expected {expected}"))
    if not errors and volume["read_only"] and volume["initialise"] != "never":
        expected = "never, because the volume is read-only"
        errors.append(FieldError("volume.initialise", expected, f"expected {expected}"))
    return errors


def _place_errors(volume: Mapping[str, Any]) -> list[FieldError]:
    """The disk is named in one way: two could contradict each other."""
    source, iscsi = volume["source"], volume["iscsi"]
    if iscsi is None:
        expected = f"{_CLEAN}, or iscsi in its place"
        missing = FieldError("volume.source", expected, f"expected {expected}")
        return [missing] if source is None else []
    errors = iscsi_errors(iscsi)
    if source is not None:
        expected = "no source beside iscsi, for the path follows from the target"
        errors.append(FieldError("volume.source", expected, f"expected {expected}"))
    return errors
