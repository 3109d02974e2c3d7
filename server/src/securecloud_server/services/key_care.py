"""What keys need from time to time, without anybody asking for it."""

from collections.abc import Callable

from securecloud_server.domain.ports import Clock
from securecloud_server.domain.records import Actor
from securecloud_server.services.key_proof import KeyProof, Proof
from securecloud_server.services.rewrapping import Rewrapping

_ACTOR = Actor("system", "housekeeping")
_DAY = 86400


class KeyCare:
    """To be run every minute or so, on any number of nodes.

    After a start, keys are wrapped anew until none is left under a previous master key. Then, and
    every day, all are fetched, and `proven` is told what came of it.
    """

    def __init__(
        self,
        rewrapping: Rewrapping,
        proof: KeyProof,
        clock: Clock,
        proven: Callable[[Proof], None],
    ) -> None:
        self._rewrapping = rewrapping
        self._proof = proof
        self._clock = clock
        self._proven = proven
        self._is_rewrapped = False
        self._next_proof = 0.0

    def run(self) -> None:
        """Do what is due."""
        if not self._is_rewrapped:
            self._rewrapping.run(_ACTOR, _nobody)
            self._is_rewrapped = True
        now = self._clock()
        if now >= self._next_proof:
            self._next_proof = now + _DAY
            self._proven(self._proof.run(_ACTOR, _nobody))


def _nobody(_done: int, _total: int) -> None:
    """Tell nobody."""
