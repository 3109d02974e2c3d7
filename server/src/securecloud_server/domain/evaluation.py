"""The outcome of a policy on evidence, with its reasons."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from securecloud_server.domain.evidence import Fact, Provenance
from securecloud_server.domain.operators import Outcome

VALUE_LIMIT = 1024
EXPLANATION_LIMIT = 500

Evidence = Mapping[str, Fact]
Decision = Callable[[Sequence[bool]], bool]
"""Combines, leaf by leaf in order, whether each passed; if more pass, a match stays one."""
Need = tuple[str, str | None]
"""A fact and a key inside it (None: all of the fact)."""


class ActionKind(StrEnum):
    """What happens to a key request."""

    APPROVE = "approve"
    APPROVE_AFTER = "approve_after"
    MANUAL = "manual"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Action:
    """An action and, for approve_after only, its delay in seconds."""

    kind: ActionKind
    delay: int | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the canonical form ``{"action", "delay"}``."""
        document: dict[str, Any] = {"action": self.kind.value}
        if self.delay is not None:
            document["delay"] = self.delay
        return document


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule beside the machine's value.

    ``passed`` counts the negations around the rule, and ``rule`` shows them. ``value`` is JSON of
    bounded length, None when not provided; ``explanation`` is empty when the rule passed.
    """

    path: str
    rule: str
    passed: bool
    value: Any
    provenance: Provenance | None
    explanation: str

    def to_document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "path": self.path,
            "rule": self.rule,
            "passed": self.passed,
            "value": self.value,
            "provenance": self.provenance.value if self.provenance else None,
            "explanation": self.explanation,
        }


@dataclass(frozen=True, slots=True)
class Leaf:
    """A compiled rule.

    ``check`` gives True, False, or a text when it cannot be told; the rule passes when the outcome
    is ``wanted`` (False under an odd number of negations), so that "cannot be told" never passes.
    ``needs`` are the parts of the evidence that ``check`` looks at: a fact and a key inside it, or
    None for all of the fact.
    """

    path: str
    text: str
    wanted: bool
    check: Callable[[Evidence], Outcome]
    read: Callable[[Evidence], tuple[Any, Provenance | None]]
    why: Callable[[Any], str]
    needs: tuple[Need, ...] = ()

    def result(self, evidence: Evidence, outcome: Outcome) -> RuleResult:
        """Return the rule beside the machine's value."""
        passed = outcome is self.wanted
        value, provenance = self.read(evidence)
        explanation = ""
        if not passed:
            explanation = outcome if isinstance(outcome, str) else self.why(value)
        text = self.text if self.wanted else f"not ({self.text})"
        return RuleResult(
            self.path, text, passed, bounded(value), provenance, printable(explanation)
        )


@dataclass(slots=True)
class Evaluation:
    """What a policy says about evidence. Do not change the evidence before reading ``results``."""

    matched: bool
    action: Action
    _leaves: Sequence[Leaf] = field(repr=False)
    _outcomes: Sequence[Outcome] = field(repr=False)
    _evidence: Evidence = field(repr=False)
    _results: tuple[RuleResult, ...] | None = field(default=None, init=False, repr=False)

    @property
    def failing(self) -> tuple[str, ...]:
        """Return the paths of the rules that did not pass, in the order of the policy."""
        pairs = zip(self._leaves, self._outcomes, strict=True)
        return tuple(leaf.path for leaf, found in pairs if found is not leaf.wanted)

    @property
    def results(self) -> tuple[RuleResult, ...]:
        """Return every rule with its outcome, in the order of the policy; built on first use."""
        if self._results is None:
            pairs = zip(self._leaves, self._outcomes, strict=True)
            self._results = tuple(leaf.result(self._evidence, found) for leaf, found in pairs)
        return self._results


def bounded(value: Any) -> Any:
    """Return a value itself when it is short valid JSON, else a cut text of it."""
    if isinstance(value, str):
        return printable(value, VALUE_LIMIT)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        return printable(json.dumps(value), VALUE_LIMIT)
    except (TypeError, ValueError, RecursionError):
        return "(not representable)"
    return value if len(text) <= VALUE_LIMIT else printable(text, VALUE_LIMIT)


def printable(text: str, limit: int = EXPLANATION_LIMIT) -> str:
    """Return at most ``limit`` characters, each one printable: fit for a log line and a page."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(character if character.isprintable() else "\ufffd" for character in cut)
