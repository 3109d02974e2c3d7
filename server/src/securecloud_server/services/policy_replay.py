"""What would change if a draft became a policy, for all devices that it governs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securecloud_server.domain.errors import FieldError, Invalid
from securecloud_server.domain.names import name_errors, require
from securecloud_server.domain.policy import Policy, compile_policy
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, Governed, PolicyText
from securecloud_server.services.admin import Ports, found
from securecloud_server.services.exchange_situation import DEFAULT_POLICY, compiled
from securecloud_server.services.policy_impact import DeviceImpact, Effect, Side, impact


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the governed devices are wanted: those named and those in a named group.

    All of them where neither is given.
    """

    groups: Sequence[str] | None = None
    devices: Sequence[str] | None = None


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class Impact:
    """What a draft does to all devices that its policy governs, by name.

    `version` is the policy in effect, None when there is none yet; `at` in seconds.
    """

    policy: str
    version: int | None
    is_other: bool
    at: int
    devices: tuple[DeviceImpact, ...]

    def totals(self) -> dict[str, int]:
        """Return how many devices there are, of each effect, and how many may lose their key."""
        counted = Counter(each.effect for each in self.devices)
        return {
            "devices": len(self.devices),
            "may_lose": sum(each.may_lose for each in self.devices),
            **{effect.value: counted[effect] for effect in Effect},
        }


class PolicyReplay:
    """Replays drafts; changes nothing."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def evaluate(
        self,
        actor: Actor,
        name: str,
        draft: Mapping[str, Any] | None = None,
        selection: Selection = EVERYTHING,
    ) -> Impact:
        """Return what `draft` would change, or without one how things are under the policy.

        A draft of a policy that does not exist yet concerns nobody. Raises Invalid with every
        problem of the draft (fields below `draft`) or of the selection; NotFound.
        """
        authorize(actor, Privilege.READ_CONFIGURATION)
        new = None if draft is None else _compile(name, draft)
        with self._ports.database.read() as tx:
            stored = tx.policies.get(name)
            if stored is None and new is None:
                found(stored, "policy", name)
            governed = _select(tx, name, tx.evidence.governed(name, DEFAULT_POLICY), selection)
        now = self._ports.now()
        if stored is None:
            return Impact(name, None, True, now, ())
        before = Side("stored", stored, compiled(stored))
        after = before
        if new is not None and new.digest != stored.digest:
            version = stored.version + 1
            text = PolicyText(name, version, new.digest, new.normalised, now, now, str(actor))
            after = Side("draft", text, new)
        devices = tuple(impact(each, before, after, now) for each in governed)
        return Impact(name, stored.version, after is not before, now, devices)


def _compile(name: str, draft: Mapping[str, Any]) -> Policy:
    require(name_errors("name", name))
    try:
        policy = compile_policy(draft)
    except Invalid as error:
        raise Invalid([_below_draft(each) for each in error.errors]) from None
    if policy.name not in {None, name}:
        expected = f"{name}, as in the address"
        raise Invalid([FieldError("draft.name", expected, f"expected {expected}")])
    return policy


def _below_draft(error: FieldError) -> FieldError:
    field = f"draft.{error.field}" if error.field else "draft"
    return FieldError(field, error.expected, error.message)


def _select(
    tx: Transaction, policy: str, governed: Sequence[Governed], selection: Selection
) -> Sequence[Governed]:
    groups, devices = selection.groups, selection.devices
    if groups is None and devices is None:
        return governed
    known = {each.device.name for each in governed}
    errors = [
        FieldError(f"groups[{index}]", "a device group", f"there is no device group {name!r}")
        for index, name in enumerate(groups or ())
        if tx.groups.get(name) is None
    ]
    for index, name in enumerate(devices or ()):
        if name not in known:
            exists = tx.devices.get(name) is not None
            why = f"policy {policy!r} does not govern" if exists else "there is no"
            expected = f"a device that policy {policy!r} governs"
            errors.append(FieldError(f"devices[{index}]", expected, f"{why} device {name!r}"))
    require(errors)
    wanted, inside = frozenset(devices or ()), frozenset(groups or ())
    return [each for each in governed if each.device.name in wanted or each.device.group in inside]
