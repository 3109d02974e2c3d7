"""What a draft of a policy would do to one device, by the device's last evidence.

The same functions decide as in the exchange (`exchange_decision`), so that a replay of the policy
in effect gives the decision that is in effect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from securecloud_protocol import messages as wire

from securecloud_server.domain.evaluation import Action, Evaluation, RuleResult
from securecloud_server.domain.policy import Policy, Replayed
from securecloud_server.domain.recorded import recording
from securecloud_server.domain.records import Governed, PolicyText, Sighting
from securecloud_server.services.exchange_decision import Case, Verdict, decide
from securecloud_server.services.exchange_evidence import Judgement, device_fact
from securecloud_server.services.exchange_situation import DeviceView

T = TypeVar("T")

UNKNOWN = "unknown"


class Effect(StrEnum):
    """What a draft does to a device, worst first."""

    LOSE = "lose"
    """Its machine gets the key, or keeps its volume open, and would not any more."""
    UNKNOWN = "unknown"
    """A rule decides that cannot be told from what is recorded."""
    NO_EVIDENCE = "no_evidence"
    """Its machine has not asked yet."""
    CHANGED = "changed"
    """It gets no key either way, but for another reason."""
    GAIN = "gain"
    """It would get the key, or keep its volume open, and does not now."""
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Fate:
    """What a policy means for a device, by its last evidence.

    `outcome` (granted, pending, denied), `code` and `reason` are what its machine would be told if
    it asked for its key after a boot; `stays_open` is whether it keeps its volume open at its next
    check in the boot of the evidence, with what people decided in that boot. Where it cannot be
    told, `outcome` is unknown and the others None; so are `matched` and `action`.
    """

    outcome: str
    code: str | None
    reason: str
    stays_open: bool | None
    gets_key: bool | None
    matched: bool | None
    action: Action | None


@dataclass(frozen=True, slots=True)
class Responsible:
    """A rule that makes the difference, beside the machine's value.

    `policy` is whose rule it is, stored or draft; a rule that cannot be told neither passed nor
    failed.
    """

    policy: str
    result: RuleResult
    told: bool


@dataclass(frozen=True, slots=True)
class DeviceImpact:
    """What the draft does to one device; without evidence there is no fate.

    `may_lose` also counts devices that get their key now and of which nobody can tell.
    """

    device: str
    agent: str
    group: str | None
    effect: Effect
    may_lose: bool = False
    before: Fate | None = None
    after: Fate | None = None
    rules: tuple[Responsible, ...] = ()
    sighting: Sighting | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """A policy as it is (label stored) or as it would be (draft)."""

    label: str
    text: PolicyText
    policy: Policy


class _Judged(Judgement):
    """A judgement of which nothing is stored: the table of rules is not made for each device."""

    @property
    def rules(self) -> tuple[Mapping[str, Any], ...]:
        """Return nothing."""
        return ()


def impact(each: Governed, before: Side, after: Side, now: int) -> DeviceImpact:
    """Return what `after` does to a device that `before` governs; `now` in seconds."""
    device = each.device
    if each.sighting is None or each.document is None:
        return DeviceImpact(device.name, device.agent, device.group, Effect.NO_EVIDENCE)
    record = recording(each.document, each.sighting.circumstances, device_fact(device))
    was = before.policy.replay(record)
    fate_before = _fate(each, each.sighting, before, was, now)
    is_ = was if after is before else after.policy.replay(record)
    fate_after = fate_before if after is before else _fate(each, each.sighting, after, is_, now)
    effect = _effect(fate_before, fate_after)
    return DeviceImpact(
        device=device.name,
        agent=device.agent,
        group=device.group,
        effect=effect,
        may_lose=effect is Effect.LOSE or (effect is Effect.UNKNOWN and _may_hold(fate_before)),
        before=fate_before,
        after=fate_after,
        rules=_responsible(effect, (before, was), (after, is_)),
        sighting=each.sighting,
    )


def _fate(each: Governed, sighting: Sighting, side: Side, replayed: Replayed, now: int) -> Fate:
    worst, best = replayed.at_worst, replayed.at_best
    boots = [_verdict(each, sighting, side, worst, now, "key")]
    checks = [_verdict(each, sighting, side, worst, now, "check")]
    if best is not worst:
        boots.append(_verdict(each, sighting, side, best, now, "key"))
        checks.append(_verdict(each, sighting, side, best, now, "check"))
    outcome = _agreed([verdict.outcome for verdict in boots])
    code = _agreed([verdict.code for verdict in boots])
    return Fate(
        outcome=outcome or UNKNOWN,
        code=code,
        reason=boots[0].reason if code else "rules decide that cannot be told",
        stays_open=_agreed([verdict.outcome == "granted" for verdict in checks]),
        gets_key=_agreed([verdict.outcome == "granted" for verdict in boots]),
        matched=_agreed([worst.matched, best.matched]),
        action=_agreed([worst.action, best.action]),
    )


def _agreed(values: Sequence[T]) -> T | None:
    """Return the value that all of them are, or None."""
    return values[0] if all(value == values[0] for value in values) else None


def _verdict(
    each: Governed, sighting: Sighting, side: Side, evaluation: Evaluation, now: int, want: str
) -> Verdict:
    """Return what the exchange would decide: for a key after another boot, or in this one."""
    view = DeviceView(each.device, side.text, each.state, each.key, each.request)
    claim = wire.DeviceClaim(each.device.name, want, each.state.lineage)
    boot_id = sighting.boot_id if want == "check" else ""  # which no boot has
    judgement = _Judged(evaluation)
    return decide(Case(view, claim, boot_id, judgement, now, 1, 1, lambda _: "replayed"))


def _effect(before: Fate, after: Fate) -> Effect:
    steps = [(before.gets_key, after.gets_key), (before.stays_open, after.stays_open)]
    if (True, False) in steps:
        return Effect.LOSE
    if UNKNOWN in {before.outcome, after.outcome} or any(None in step for step in steps):
        return Effect.UNKNOWN
    if (False, True) in steps:
        return Effect.GAIN
    same = (before.outcome, before.code) == (after.outcome, after.code)
    return Effect.UNCHANGED if same else Effect.CHANGED


def _may_hold(fate: Fate) -> bool:
    return fate.gets_key is not False or fate.stays_open is not False


# Which rules make the difference

_Told = tuple[Side, Replayed]


def _responsible(effect: Effect, before: _Told, after: _Told) -> tuple[Responsible, ...]:
    if effect is Effect.UNCHANGED:
        return ()
    if effect is Effect.UNKNOWN:
        side, replayed = after if after[1].untold else before
        untold = replayed.untold
        return tuple(
            Responsible(side.label, each, False)
            for each in replayed.at_worst.results
            if each.path in untold
        )
    if not after[1].at_worst.matched:
        return _broken(before, after)
    return _broken(after, before) if not before[1].at_worst.matched else ()


def _broken(good: _Told, bad: _Told) -> tuple[Responsible, ...]:
    """Return why the rules of `bad` do not hold: what fails there and did not under `good`.

    Where all that fails failed before, an alternative is gone that held: those, or all that fails.
    """
    failing = [each for each in bad[1].at_worst.results if not each.passed]
    passing = [each for each in good[1].at_worst.results if each.passed]
    failed_before = {each.rule for each in good[1].at_worst.results if not each.passed}
    there = {each.rule for each in bad[1].at_worst.results}
    new = [each for each in failing if each.rule not in failed_before]
    gone = [each for each in passing if each.rule not in there]
    side, results = (bad, new) if new else (good, gone) if gone else (bad, failing)
    untold = side[1].untold
    return tuple(Responsible(side[0].label, each, each.path not in untold) for each in results)
