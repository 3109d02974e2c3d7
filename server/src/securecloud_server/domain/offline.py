"""Boots without a server: what a policy says of them, strictly read.

A machine may keep its key, sealed by its own TPM, only where its policy approves by itself: what a
person decides, or a delay, is decided anew at each boot, and nobody decides where no server is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securecloud_server.domain.policy_errors import Place
from securecloud_server.domain.rules import check_keys

SHORTEST_PERIOD = 60
LONGEST_PERIOD = 604_800  # 7 days
MOST_BOOTS = 100
LAST_PCR = 15
"""Software may reset those above (TCG PC Client Platform TPM Profile, 4.6.2)."""

_PERIOD_EXPECTED = f"0, or an integer of {SHORTEST_PERIOD} to {LONGEST_PERIOD} seconds"
_BOOTS_EXPECTED = f"an integer of 1 to {MOST_BOOTS}"
_PCRS_EXPECTED = f"a list of 1 to {LAST_PCR + 1} different integers of 0 to {LAST_PCR}"


@dataclass(frozen=True, slots=True)
class Offline:
    """For how many seconds and boots since its last release a key may be used without a server.

    ``pcrs`` are the platform configuration registers that must be then as they are now, in rising
    order. A ``period`` of 0 is never.
    """

    period: int = 0
    boots: int = 1
    pcrs: tuple[int, ...] = (7,)

    def to_document(self) -> dict[str, Any]:
        """Return the canonical form ``{"period", "boots", "pcrs"}``."""
        return {"period": self.period, "boots": self.boots, "pcrs": list(self.pcrs)}


NEVER = Offline()


def read_offline(text: Mapping[str, Any], place: Place) -> Offline:
    """Return what ``offline`` of a policy's text says; never, after a problem was reported."""
    raw = text.get("offline", {"period": 0})
    if not isinstance(raw, dict):
        place.refuse_value("{period, boots, pcrs}", raw)
        return NEVER
    check_keys(raw, ("period", "boots", "pcrs"), place)
    if "period" not in raw:
        place.key("period").refuse(_PERIOD_EXPECTED, "missing key 'period'")
        return NEVER
    offline = Offline(
        _period(raw["period"], place.key("period")),
        _boots(raw.get("boots", NEVER.boots), place.key("boots")),
        _pcrs(raw.get("pcrs", list(NEVER.pcrs)), place.key("pcrs")),
    )
    if raw["period"] == 0 and offline != NEVER:
        which = "boots" if offline.boots != NEVER.boots else "pcrs"
        place.key(which).refuse("nothing", "there is nothing to bound without a period")
    return offline


def _period(value: Any, place: Place) -> int:
    if type(value) is not int or not (value == 0 or SHORTEST_PERIOD <= value <= LONGEST_PERIOD):
        place.refuse_value(_PERIOD_EXPECTED, value)
        return 0
    return value


def _boots(value: Any, place: Place) -> int:
    if type(value) is not int or not 1 <= value <= MOST_BOOTS:
        place.refuse_value(_BOOTS_EXPECTED, value)
        return NEVER.boots
    return value


def _pcrs(value: Any, place: Place) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= LAST_PCR + 1:
        place.refuse_value(_PCRS_EXPECTED, value)
        return NEVER.pcrs
    sound = all(type(each) is int and 0 <= each <= LAST_PCR for each in value)
    if not sound or len(set(value)) != len(value):
        place.refuse_value(_PCRS_EXPECTED, value)
        return NEVER.pcrs
    return tuple(sorted(value))
