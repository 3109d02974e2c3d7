"""The keys that this machine keeps for boots without a server: sealed, renewed, given up."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from securecloud_agent.decide import offline
from securecloud_agent.decide.model import Observed, State
from securecloud_agent.decide.offline import Kept, Sealed
from securecloud_agent.errors import AgentError, printable, say, warn, warned
from securecloud_agent.main.hardening import wipe
from securecloud_agent.sealing.store import Store
from securecloud_agent.sealing.tpm import Bounds, RefusedByTpmError, Tpm, TpmError
from securecloud_agent.state.files import StateError
from securecloud_agent.state.memory import BootMarks

if TYPE_CHECKING:
    from securecloud_protocol.messages import DeviceDecision

_REFUSED = "unseal_refused"
_LEFT_ALONE = 600.0
_IN_USE = frozenset({State.VERIFIED, State.OPENED, State.MOUNTED})


class OfflineKeys:
    """By device. What cannot be read counts as nothing, what cannot be sealed is not kept."""

    def __init__(
        self, store: Store, tpm: Tpm, marks: BootMarks, boot_id: str, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._tpm = tpm
        self._marks = marks
        self._boot_id = boot_id
        self._now = now

    def devices(self) -> tuple[str, ...]:
        """Return the devices of which anything is kept."""
        return self._store.devices()

    def _kept(self, device: str) -> Kept | None:
        try:
            return self._store.kept(device)
        except StateError as error:
            warn(f"{device}: what was kept for boots without a server is given up: {error}")
            with warned("it stays there, unused"):
                self._store.remove(device)
            return None

    def _readable(self, device: str) -> Kept | None:
        with suppress(StateError):
            return self._store.kept(device)
        return None

    # Granted, denied

    def is_due(self, device: str, observed: Observed) -> bool:
        """Say whether to ask for the key of a volume that is open, to seal it anew."""
        if observed.held or observed.state not in _IN_USE:
            return False
        kept = self._kept(device)
        due = kept is not None and offline.is_due(kept, self._boot_id, self._now())
        # A key that cannot be sealed is better not sent.
        return due and self._tpm.problem() is None

    def withdraw(self, decision: "DeviceDecision") -> None:
        """Give up what the server's decision does not allow any more, before anything else is done.

        Bounds that are others now are not for the old copy either: they may be narrower.
        """
        if decision.code == "unavailable":
            return
        if decision.offline is None:
            with warned(f"{decision.device}: its sealed key is still on this machine"):
                self.remove(decision.device)
            return
        kept = self._kept(decision.device)
        if kept is not None and not offline.is_under(kept, decision.offline):
            with warned(f"{decision.device}: its key is still sealed for other bounds"):
                self.remove(decision.device)

    def keep(self, decision: "DeviceDecision", observed: Observed) -> None:
        """Seal the key that came with a grant, or remember that it may be, to ask for it.

        Only the key of a volume that is open is sealed. The grant does not depend on it.
        """
        offer, device = decision.offline, decision.device
        if offer is None or observed.held or observed.state not in _IN_USE:
            return
        with warned(f"{device}: its key is not kept for boots without a server"):
            if decision.key is not None:
                key = bytearray(decision.key)
                try:
                    self._seal(
                        device,
                        offline.begin(offer, self._boot_id, self._now()),
                        key,
                        decision.key_version or 0,
                    )
                finally:
                    wipe(key)
            elif self._kept(device) is None:
                self._store.keep(device, offline.begin(offer, self._boot_id, self._now()))

    def _seal(self, device: str, kept: Kept, key: bytearray, version: int) -> None:
        self._marks.clear(_REFUSED, [device])
        problem = self._tpm.problem()
        if problem is None:
            try:
                kept = replace(kept, sealed=self._sealed(kept, key, version))
            except AgentError as error:
                problem = str(error)
        if problem is not None:
            kept = replace(kept, problem=printable(problem))
            if self._is_news(device, kept):
                say(f"{device}: offline: refused: {kept.problem}")
        self._store.keep(device, kept)

    def _is_news(self, device: str, kept: Kept) -> bool:
        known = self._kept(device)
        return known is None or known.problem != kept.problem

    def _sealed(self, kept: Kept, key: bytearray, version: int) -> Sealed:
        reading = self._tpm.read()
        bounds = Bounds(
            kept.pcrs, reading.clock + kept.period * 1000, reading.resets + kept.boots + 1
        )
        public, private = self._tpm.seal(key, bounds)
        return Sealed(version, public, private, bounds.clock_limit, bounds.reset_limit)

    def outdated(self, device: str, versions: Collection[int | None]) -> None:
        """Give up the copy of a key that is none of those which open the volume."""
        kept = self._kept(device)
        if kept is not None and kept.sealed and kept.sealed.key_version not in versions:
            with warned(f"{device}: a sealed key that opens nothing is still on this machine"):
                self.remove(device)

    def remove(self, device: str) -> None:
        """Give up the copy; raises StateError where it stays."""
        self._store.remove(device)
        self._marks.clear(_REFUSED, [device])

    # Without a server

    def unseal(self, device: str) -> "Unsealed | None":
        """Return the key of `device`, None without a copy; to be counted before it opens anything.

        Raises AgentError with the reason when its bounds do not hold. What will never hold again is
        removed, and what the TPM refused is left alone for some minutes: it will again.
        """
        kept = self._kept(device)
        if kept is None or kept.sealed is None:
            return None
        now = self._now()
        refused = self._marks.content(_REFUSED, device) or {}
        if 0 <= now - refused.get("at", -_LEFT_ALONE) < _LEFT_ALONE:
            raise RefusedByTpmError(str(refused.get("why")))
        problem = offline.why_not(kept, now) or self._tpm.problem()
        if problem is not None:
            raise TpmError(problem)
        reading = self._tpm.read()
        over = offline.is_over(kept, reading.clock, reading.resets)
        if over is not None:
            self.remove(device)
            raise RefusedByTpmError(over)
        boots_left = kept.sealed.reset_limit - 1 - reading.resets
        self._store.keep(device, replace(kept, seen=int(now), boots_left=boots_left))
        try:
            key = self._tpm.unseal(
                kept.sealed.public,
                kept.sealed.private,
                Bounds(kept.pcrs, kept.sealed.clock_limit, kept.sealed.reset_limit),
            )
        except RefusedByTpmError as error:
            self._marks.put(_REFUSED, device, {"why": str(error), "at": now})
            raise
        seconds = offline.seconds_left(kept, now, reading.clock)
        return Unsealed(key, kept.sealed.key_version, seconds, boots_left)

    def count(self, device: str) -> None:
        """Remember to tell the server of a use; raises StateError where that is not possible."""
        self._store.used(device, int(self._now()))

    # Told

    def used(self, device: str) -> str:
        """Return what the server is to be told of uses of which it does not know, or nothing."""
        uses = self._store.uses(device)
        if uses is None:
            return ""
        often = "once" if uses.times == 1 else f"{uses.times} times"
        since = "" if uses.first == uses.last else f" since {_moment(uses.first)}, the last time"
        return f"its key was used without a server {often}{since} at {_moment(uses.last)}"

    def told(self, device: str) -> None:
        """Forget the uses: the server knows."""
        self._store.told(device)

    def shown(self, device: str) -> dict[str, Any] | None:
        """Return what `status` prints of it, times as RFC 3339."""
        kept = self._readable(device)
        if kept is None:
            return None
        until = _moment(kept.at + kept.period)
        if kept.sealed is not None:
            over = offline.why_not(kept, self._now())
            boots = f"{kept.boots_left} more boot{'' if kept.boots_left == 1 else 's'}"
            state = "unusable" if over else "sealed"
            text = over or f"good for {boots} without a server, until {until}"
        elif kept.problem:
            state, text = "refused", kept.problem
        else:
            state, text = "due", "the key is sealed at the next check"
        return {
            "state": state,
            "until": until if kept.sealed is not None else None,
            "boots_left": kept.boots_left if kept.sealed is not None else None,
            "text": f"{state}: {text}",
        }


class Unsealed:
    """A key for `seconds` and as many more boots; `wipe` it."""

    def __init__(self, key: bytearray, key_version: int, seconds: int, boots_left: int) -> None:
        self.key = key
        self.key_version = key_version
        self.seconds = seconds
        self.boots_left = boots_left


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
