"""Policies: strict reading of their text, and what they say about a machine's evidence."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from securecloud_server.domain.errors import FieldError
from securecloud_server.domain.evaluation import (
    Action,
    ActionKind,
    Decision,
    Evaluation,
    Evidence,
    Leaf,
    RuleResult,
)
from securecloud_server.domain.evidence import Fact, Provenance
from securecloud_server.domain.offline import Offline, read_offline
from securecloud_server.domain.operators import Outcome
from securecloud_server.domain.policy_errors import Place, PolicyError
from securecloud_server.domain.recorded import Recording
from securecloud_server.domain.rules import FactRequest, RuleCompiler, check_keys

__all__ = [
    "Action",
    "ActionKind",
    "Evaluation",
    "Fact",
    "FactRequest",
    "FieldError",
    "Grace",
    "Offline",
    "Policy",
    "PolicyError",
    "Provenance",
    "Replayed",
    "RuleResult",
    "compile_policy",
]

TEXT_LIMIT = 64 * 1024
DESCRIPTION_LIMIT = 1000
DELAY_LIMIT = 2_592_000  # 30 days
GRACE_LIMIT = 604_800  # 7 days

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_KEYS = ("name", "description", "rules", "on_match", "on_fail", "force", "grace", "offline")
_MANUAL = Action(ActionKind.MANUAL)
_RELEASING = (ActionKind.APPROVE, ActionKind.APPROVE_AFTER)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a policy says about recorded evidence.

    ``at_worst`` counts each rule that cannot be told as failed, ``at_best`` as passed; passing more
    rules never undoes a match, so where both agree the rules that cannot be told do not matter.
    ``untold`` are the paths of these rules.
    """

    at_worst: Evaluation
    at_best: Evaluation
    untold: frozenset[str]


@dataclass(frozen=True, slots=True)
class Grace:
    """How long an open volume may stay so after the policy denied it; in seconds.

    People on the machine may move the end of ``period`` by up to ``postpone`` in all.
    """

    period: int = 0
    postpone: int = 0

    def to_document(self) -> dict[str, int]:
        """Return the canonical form ``{"period", "postpone"}``."""
        return {"period": self.period, "postpone": self.postpone}


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled policy.

    ``normalised`` is the canonical text to store and compare (without the name); ``digest`` its
    SHA-256 in hex; ``fact_requests`` what an agent must collect. Safe to share between threads.
    """

    name: str | None
    description: str
    on_match: Action
    on_fail: Action
    force: bool
    grace: Grace
    offline: Offline
    normalised: dict[str, Any]
    digest: str
    fact_requests: tuple[FactRequest, ...]
    _leaves: tuple[Leaf, ...] = field(repr=False, compare=False)
    _decide: Decision = field(repr=False, compare=False)

    def evaluate(self, evidence: Evidence) -> Evaluation:
        """Return what the policy says about evidence; never raises, whatever values there are.

        A policy without rules matches nothing and is manual.
        """
        return self._conclude(evidence, [leaf.check(evidence) for leaf in self._leaves])

    def replay(self, recording: Recording) -> Replayed:
        """Return what the policy says about recorded evidence; never raises.

        Rules that need what was not recorded are told apart from those that fail.
        """
        evidence = recording.evidence
        gaps = [recording.gap(leaf.needs) for leaf in self._leaves]
        lowest = [
            leaf.check(evidence) if gap is None else gap
            for leaf, gap in zip(self._leaves, gaps, strict=True)
        ]
        at_worst = self._conclude(evidence, lowest)
        untold = frozenset(
            leaf.path for leaf, gap in zip(self._leaves, gaps, strict=True) if gap is not None
        )
        if not untold:
            return Replayed(at_worst, at_worst, untold)
        highest = [
            leaf.wanted if leaf.path in untold else outcome
            for leaf, outcome in zip(self._leaves, lowest, strict=True)
        ]
        return Replayed(at_worst, self._conclude(evidence, highest), untold)

    def _conclude(self, evidence: Evidence, outcomes: Sequence[Outcome]) -> Evaluation:
        passed = [
            outcome is leaf.wanted for outcome, leaf in zip(outcomes, self._leaves, strict=True)
        ]
        matched = self._decide(passed)
        action = self.on_match if matched else self.on_fail if self._leaves else _MANUAL
        return Evaluation(matched, action, self._leaves, outcomes, evidence)


def compile_policy(text: Mapping[str, Any]) -> Policy:
    """Return the compiled form of a policy text (parsed JSON or YAML).

    Raises PolicyError with every problem of the text. ``rules`` defaults to none, ``on_match`` and
    ``on_fail`` to manual, ``grace`` to none and ``offline`` to never.
    """
    root = Place()
    if not isinstance(text, Mapping):
        root.refuse_value("a mapping", text)
        raise PolicyError(root.errors)
    _check_size(text, root)
    if root.errors:
        raise PolicyError(root.errors)
    return _compile(dict(text), root)


def _compile(text: dict[str, Any], root: Place) -> Policy:
    check_keys(text, _KEYS, root)
    name = _name(text, root)
    description = _description(text, root)
    compiler = RuleCompiler()
    rules = compiler.rules(text.get("rules", []), root.key("rules"))
    force = _force(text, root)
    grace = _grace(text, root.key("grace"))
    offline = read_offline(text, root.key("offline"))
    on_match = _action(text, "on_match", root)
    on_fail = _action(text, "on_fail", root)
    if on_fail.kind in _RELEASING and not force:
        root.key("on_fail").key("action").refuse(
            "manual or deny, or force: true",
            f"{on_fail.kind.value} would release keys to machines that fail the rules; "
            "it needs force: true",
        )
    _check_offline(
        offline, on_match, root.key("offline"), has_rules=rules is None or bool(compiler.leaves)
    )
    if root.errors or rules is None:
        raise PolicyError(root.errors)
    normalised = {
        "description": description,
        "rules": rules.canonical,
        "on_match": on_match.to_document(),
        "on_fail": on_fail.to_document(),
        "force": force,
    }
    # Left out where there is none, so that the digests of texts from before stay what they are.
    if grace.period:
        normalised["grace"] = grace.to_document()
    if offline.period:
        normalised["offline"] = offline.to_document()
    return Policy(
        name=name,
        description=description,
        on_match=on_match,
        on_fail=on_fail,
        force=force,
        grace=grace,
        offline=offline,
        normalised=normalised,
        digest=_digest(normalised),
        fact_requests=compiler.fact_requests(),
        _leaves=tuple(compiler.leaves),
        _decide=rules.decide,
    )


def _digest(normalised: dict[str, Any]) -> str:
    canonical = json.dumps(normalised, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _name(text: dict[str, Any], root: Place) -> str | None:
    name = text.get("name")
    if "name" in text and not (isinstance(name, str) and _NAME.fullmatch(name)):
        root.key("name").refuse_value(
            "1 to 63 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends", name
        )
        return None
    return name


def _description(text: dict[str, Any], root: Place) -> str:
    description = text.get("description", "")
    if not isinstance(description, str) or len(description) > DESCRIPTION_LIMIT:
        root.key("description").refuse_value(
            f"a string of at most {DESCRIPTION_LIMIT} characters", description
        )
        return ""
    return description


def _force(text: dict[str, Any], root: Place) -> bool:
    force = text.get("force", False)
    if not isinstance(force, bool):
        root.key("force").refuse_value("true or false", force)
        return False
    return force


def _grace(text: dict[str, Any], place: Place) -> Grace:
    """Return the grace; none after a problem was reported."""
    raw = text.get("grace", {"period": 0})
    if not isinstance(raw, dict):
        place.refuse_value("{period, postpone}", raw)
        return Grace()
    check_keys(raw, ("period", "postpone"), place)
    if "period" not in raw:
        place.key("period").refuse(_GRACE_EXPECTED, "missing key 'period'")
        return Grace()
    period = _grace_seconds(raw["period"], place.key("period"))
    postpone = _grace_seconds(raw.get("postpone", 0), place.key("postpone"))
    if postpone and raw["period"] == 0:
        place.key("postpone").refuse("0", "there is nothing to postpone without a period")
    return Grace(period, postpone)


_GRACE_EXPECTED = f"an integer of 0 to {GRACE_LIMIT} seconds"


def _grace_seconds(value: Any, place: Place) -> int:
    if type(value) is not int or not 0 <= value <= GRACE_LIMIT:
        place.refuse_value(_GRACE_EXPECTED, value)
        return 0
    return value


def _check_offline(offline: Offline, on_match: Action, place: Place, *, has_rules: bool) -> None:
    """Refuse boots without a server where a person, or a delay, decides at each boot."""
    if not offline.period:
        return
    if on_match.kind is not ActionKind.APPROVE:
        place.refuse(
            "no offline, or on_match: {action: approve}",
            f"on_match is {on_match.kind.value}, which nobody can decide without a server",
        )
    elif not has_rules:
        place.refuse(
            "no offline, or rules",
            "a policy without rules is manual, which nobody can decide without a server",
        )


def _action(text: dict[str, Any], key: str, root: Place) -> Action:
    """Return the action; manual, which changes nothing, after a problem was reported."""
    if key not in text:
        return _MANUAL
    raw, place = text[key], root.key(key)
    if not isinstance(raw, dict):
        place.refuse_value("{action, delay}", raw)
        return _MANUAL
    check_keys(raw, ("action", "delay"), place)
    kinds = f"one of {', '.join(ActionKind)}"
    if "action" not in raw:
        place.key("action").refuse(kinds, "missing key 'action'")
        return _MANUAL
    if raw["action"] not in list(ActionKind):
        place.key("action").refuse_value(kinds, raw["action"])
        return _MANUAL
    kind = ActionKind(raw["action"])
    return Action(kind, _delay(raw, kind, place.key("delay")))


def _delay(raw: dict[str, Any], kind: ActionKind, place: Place) -> int | None:
    delay, expected = raw.get("delay"), f"an integer of 1 to {DELAY_LIMIT} seconds"
    if kind is not ActionKind.APPROVE_AFTER:
        if "delay" in raw:
            place.refuse("no delay", "delay goes only with approve_after")
        return None
    if "delay" not in raw:
        place.refuse(expected, "missing key 'delay'")
        return None
    if type(delay) is not int or not 1 <= delay <= DELAY_LIMIT:
        place.refuse_value(expected, delay)
        return None
    return delay


def _check_size(text: Mapping[str, Any], root: Place) -> None:
    """Report a text that is too large (also through aliases or cycles of YAML) or not Unicode."""
    size, waiting = 0, [text]
    while waiting and size <= TEXT_LIMIT:
        item: Any = waiting.pop()
        size += 1
        if isinstance(item, str):
            try:
                size += len(item.encode())
            except UnicodeEncodeError:
                root.refuse("Unicode text", "the policy holds text that is not valid Unicode")
                return
        elif isinstance(item, Mapping):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, Sequence):
            waiting.extend(item)
    if size > TEXT_LIMIT:
        root.refuse(f"at most {TEXT_LIMIT} bytes", "the policy is too large")
