"""The provider of plain machines: location from the configuration, identity from firmware."""

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from pathlib import Path

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
_PLACEHOLDERS = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
    }
)
_LONGEST_USER_DATA = 16384


class Plain:
    """Bare metal and virtual machines without a cloud's interface."""

    def __init__(self, location: Mapping[str, str | None], root: Path = Path("/")) -> None:
        self._location = location
        self._root = root

    def location(self) -> dict[str, str | None]:
        """Return what the configuration says."""
        return {"provider": "plain", **self._location}

    def instance(self) -> dict[str, str | None]:
        """Return the firmware's UUID, else one derived from the machine id; and cloud-init's data.

        The machine id itself stays on the machine, as machine-id(5) asks.
        """
        content = self._read_user_data()
        digest = None if content is None else f"sha256:{hashlib.sha256(content).hexdigest()}"
        return {
            "id": self._firmware_id() or self._derived_id(),
            "user_data_digest": digest,
            "user_data": _as_text(content),
        }

    def _read(self, path: str) -> str:
        try:
            return (self._root / path).read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return ""

    def _firmware_id(self) -> str | None:
        found = self._read("sys/class/dmi/id/product_uuid").lower()
        return found if _UUID.fullmatch(found) and found not in _PLACEHOLDERS else None

    def _derived_id(self) -> str | None:
        machine = self._read("etc/machine-id")
        if not _MACHINE_ID.fullmatch(machine):
            return None
        derived = hmac.digest(bytes.fromhex(machine), b"securecloud instance", hashlib.sha256)
        return str(uuid.UUID(bytes=derived[:16], version=4))

    def _read_user_data(self) -> bytes | None:
        try:
            return (self._root / "var/lib/cloud/instance/user-data.txt").read_bytes()
        except OSError:
            return None


def _as_text(content: bytes | None) -> str | None:
    if content is None or len(content) > _LONGEST_USER_DATA:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None
