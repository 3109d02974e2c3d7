"""Where an iSCSI disk is (RFC 7143), as an administrator may say it, and the path it gets."""

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

from securecloud_server.domain.errors import FieldError

PORT = 3260
_HIGHEST_PORT = 65535
_HIGHEST_LUN = 255
"""Larger numbers have more than one form (SAM-5, 4.7), and with it more than one path."""

_PORTAL = re.compile(r"(?P<v4>[0-9.]{7,15})|\[(?P<v6>[0-9a-f:]{2,39})\]")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_TARGET = re.compile(
    r"iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[0-9A-Za-z][0-9A-Za-z.:-]*"
    r"|eui\.[0-9A-Fa-f]{16}"
    r"|naa\.([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32})"
)
_MAX_TARGET = 223

_EXPECTED = {
    "portal": "an IPv4 address, or an IPv6 address in brackets and in its shortest spelling, with"
    " or without :PORT",
    "target": "an iSCSI name: iqn.YYYY-MM.DOMAIN:NAME, eui. with 16 hexadecimal digits, or naa."
    f" with 16 or 32; at most {_MAX_TARGET} characters",
    "lun": f"a number from 0 to {_HIGHEST_LUN}",
}


def with_port(iscsi: Mapping[str, Any]) -> dict[str, Any]:
    """Return the place with its port written out."""
    portal = iscsi.get("portal")
    if isinstance(portal, str) and _PORTAL.fullmatch(portal):
        return {**iscsi, "portal": f"{portal}:{PORT}"}
    return dict(iscsi)


def iscsi_errors(iscsi: Any) -> list[FieldError]:
    """Return what is wrong with a place whose port is written out."""
    if not isinstance(iscsi, Mapping):
        expected = "an object of portal, target and lun; or null"
        return [FieldError("volume.iscsi", expected, f"expected {expected}")]
    unknown = [
        FieldError(f"volume.iscsi.{name}", f"one of {', '.join(_EXPECTED)}", "unknown field")
        for name in iscsi
        if name not in _EXPECTED
    ]
    tests = {"portal": _is_portal, "target": _is_target, "lun": _is_lun}
    return unknown + [
        FieldError(f"volume.iscsi.{name}", _EXPECTED[name], f"expected {_EXPECTED[name]}")
        for name, holds in tests.items()
        if not holds(iscsi.get(name))
    ]


def path_of(iscsi: Mapping[str, Any]) -> str:
    """Return the link that udev makes for the disk (its builtin path_id): without brackets."""
    address, _, port = iscsi["portal"].rpartition(":")
    where = f"{address.strip('[]')}:{port}"
    return f"/dev/disk/by-path/ip-{where}-iscsi-{iscsi['target']}-lun-{iscsi['lun']}"


def _is_portal(value: Any) -> bool:
    """One spelling for one place, and no name: who resolves it would choose the disk."""
    if not isinstance(value, str):
        return False
    host, _, port = value.rpartition(":")
    found = _PORTAL.fullmatch(host)
    if found is None or not _PORT.fullmatch(port) or int(port) > _HIGHEST_PORT:
        return False
    text = found["v4"] or found["v6"]
    try:
        address = ip_address(text)
    except ValueError:
        return False
    mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    nowhere = address.is_unspecified or address.is_multicast
    return str(address) == text and not mapped and not nowhere


def _is_target(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TARGET and bool(_TARGET.fullmatch(value))


def _is_lun(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _HIGHEST_LUN
