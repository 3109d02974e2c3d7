"""Notices that a fact may have changed which a policy asks for, so that a check need not wait.

By looking, not by being told: inotify(7) sees no files of other hosts and no sockets. A glance
costs a fraction of a millisecond, and up to ten for sockets, where the kernel has room for many.
"""

import importlib
from collections.abc import Sequence

from securecloud_protocol.messages import FactRequest

from securecloud_agent.probes.context import Context, Glance, ProbeError

WATCHED = frozenset(
    {
        "anti_malware",
        "enabled_units",
        "file_digests",
        "host_name",
        "mandatory_access_control",
        "network_services",
        "os",
        "packages",
        "patch_level",
        "users",
    }
)
"""Each has a `glance(context, args)` in its module. The others do not change within a boot, or,
as the uptime, always do."""

LONGEST_UNREST = 30.0


class FactWatch:
    """What the last pass was asked for, as it was then. Times are in seconds of any one clock."""

    def __init__(self, requests: Sequence[FactRequest], context: Context) -> None:
        self._context = context
        self._requests = [request for request in requests if request.name in WATCHED]
        self._before = self._look()
        self._last = self._before
        self._unrest_since: float | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self._requests)

    def changed(self, now: float) -> list[str]:
        """Return the names of the facts that changed, once they have come to rest.

        An installation changes many things one after the other and is worth one check. What does
        not rest is told after LONGEST_UNREST.
        """
        seen = self._look()
        rests, self._last = seen == self._last, seen
        names = [
            request.name
            for request, old, new in zip(self._requests, self._before, seen, strict=True)
            if old != new
        ]
        if not names:
            self._unrest_since = None
            return []
        if self._unrest_since is None:
            self._unrest_since = now
        overdue = now - self._unrest_since >= LONGEST_UNREST
        return names if rests or overdue else []

    def _look(self) -> list[Glance]:
        return [self._glance(request) for request in self._requests]

    def _glance(self, request: FactRequest) -> Glance:
        module = importlib.import_module(f"securecloud_agent.probes.{request.name}")
        try:
            glance: Glance = module.glance(self._context, request.args)
        except ProbeError as error:
            return str(error)
        return glance
