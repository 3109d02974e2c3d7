"""What this machine claims of each device: what it wants, its lineage, and its LUKS header."""

import threading
from collections.abc import Collection, Sequence
from contextlib import suppress

from securecloud_protocol.messages import DeviceClaim, LuksHeader

from securecloud_agent.decide.model import Observed
from securecloud_agent.decide.plan import claim
from securecloud_agent.errors import AgentError
from securecloud_agent.main.offline import OfflineKeys
from securecloud_agent.main.wiring import Agent
from securecloud_agent.volumes.volumes import Volumes

_DISK_SECONDS = 5.0


class Claims:
    """Makes the claims of one pass."""

    def __init__(self, agent: Agent, volumes: Volumes, offline: OfflineKeys) -> None:
        self._memory = agent.memory
        self._monotonic = agent.clocks.monotonic
        self._volumes = volumes
        self._offline = offline
        self.silent: set[str] = set()
        """Devices that have no key, and whose disk did not answer. What is open is never among
        them: a denial has to be followed whatever its disk does.
        """

    def of(self, devices: Sequence[str], renewing: Collection[str]) -> tuple[DeviceClaim, ...]:
        """Return a claim for each device; the keys of `renewing` are asked for once more."""
        wants = {}
        for device in devices:
            observed = self._volumes.observe(device)
            wants[device] = claim(observed, renew=self._is_due(device, observed, renewing))
        headers = self._headers([device for device in devices if wants[device] != "check"])
        self.silent = {device for device in self.silent if wants[device] == "key"}
        return tuple(
            DeviceClaim(device, want, self._memory.lineage(device).presented, headers.get(device))
            for device, want in wants.items()
        )

    def _is_due(self, device: str, observed: Observed, renewing: Collection[str]) -> bool:
        return device in renewing or self._offline.is_due(device, observed)

    def _headers(self, devices: Sequence[str]) -> dict[str, LuksHeader]:
        """Look at all disks at once, and not for long: one that does not answer must not keep the
        others from their keys. What cannot be seen now is compared when it is opened.
        """
        found: dict[str, LuksHeader] = {}

        def look(device: str) -> None:
            with suppress(AgentError):
                known = self._memory.device(device)
                if known is not None:
                    header = self._volumes.header(device, known.source, known.iscsi)
                    if header is not None:
                        found[device] = header

        looks = {}
        for device in devices:
            thread = threading.Thread(target=look, args=(device,), daemon=True)
            # There may be too many of them already.
            with suppress(RuntimeError):
                thread.start()
                looks[device] = thread
        end = self._monotonic() + _DISK_SECONDS
        for thread in looks.values():
            thread.join(max(0.0, end - self._monotonic()))
        self.silent = {device for device, thread in looks.items() if thread.is_alive()}
        return dict(found)
