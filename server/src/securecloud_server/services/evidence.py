"""What machines said about themselves: the last evidence of a device, and some of its history."""

from collections.abc import Mapping, Sequence
from typing import Any

from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, Sighting
from securecloud_server.services.admin import Ports, found


class EvidenceService:
    """Reads what is kept."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def history(self, actor: Actor, device: str) -> Sequence[tuple[Sighting, Mapping[str, Any]]]:
        """Return the device's sightings, each with its document (`domain.recorded`), newest first.

        NotFound when there is no such device.
        """
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            known = found(tx.devices.get(device), "device", device)
            return tx.evidence.history(known.device_id)
