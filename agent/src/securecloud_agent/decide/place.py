"""What a server may say of an iSCSI disk (RFC 7143), before any program is told of it."""

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securecloud_protocol.messages import IscsiTarget

_PORT = 3260
_HIGHEST_PORT = 65535
_PORTAL = re.compile(
    r"(?P<v4>[0-9.]+)(:(?P<p4>[0-9]{1,5}))?|\[(?P<v6>[0-9a-fA-F:.]+)\](:(?P<p6>[0-9]{1,5}))?"
)
_NAME = re.compile(r"(iqn|eui|naa)\.[0-9A-Za-z][0-9A-Za-z.:-]*")


def read_portal(portal: str) -> tuple[str, int] | None:
    """Return address (IPv6 in its shortest spelling) and port, or None where it is no portal.

    A host name is none: who answers for the name would choose the disk.
    """
    found = _PORTAL.fullmatch(portal)
    if found is None:
        return None
    port = int(found["p4"] or found["p6"] or _PORT)
    try:
        address = str(ip_address(found["v4"] or found["v6"]))
    except ValueError:
        return None
    return (address, port) if 0 < port <= _HIGHEST_PORT else None


def why_no_place(iscsi: "IscsiTarget") -> str | None:
    """Return why no connection is to be tried, or None.

    iscsiadm keeps a file for each target, named after it, and believes any name: `..` would lead
    it elsewhere.
    """
    if read_portal(iscsi.portal) is None:
        return f"{iscsi.portal} is no iSCSI portal: expected an IP address and a port"
    if not _NAME.fullmatch(iscsi.target):
        return f"{iscsi.target} is no iSCSI name: it must begin with iqn., eui. or naa."
    return None
