"""Rules as closures: everything that can be done before evidence arrives is done here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from securecloud_server.domain.evaluation import Evidence, Leaf
from securecloud_server.domain.evidence import Fact, Provenance
from securecloud_server.domain.expression_analysis import Reference
from securecloud_server.domain.expressions import Expression
from securecloud_server.domain.fact_paths import FieldPath, dotted
from securecloud_server.domain.fact_shapes import has_shape
from securecloud_server.domain.facts import CATALOGUE, FactSpec
from securecloud_server.domain.operators import Condition, Outcome

NOT_PROVIDED = "not provided"
HIDDEN = "(hidden)"
_IS_NULL = "not provided: the value is null or missing"


def fact_leaf(
    path: FieldPath,
    condition: Condition,
    minimum: Provenance | None,
    *,
    at: str,
    wanted: bool,
) -> Leaf:
    """Return the leaf of a rule on one field; ``at`` is its place in the policy."""
    test = _choice_test(path, condition.test)
    name, key = path.spec.name, path.key
    demand = _demand(path.spec, minimum)
    accepted = demand.and_stronger()

    def check(evidence: Evidence) -> Outcome:
        fact = evidence.get(name)
        if fact is None:
            return NOT_PROVIDED
        value = fact.value
        if fact.error is not None:
            return _in_error(fact)
        if fact.provenance not in accepted:
            return _too_weak(fact, demand)
        if key is not None:
            if type(value) is not dict:
                return "not provided: expected an object"
            value = value.get(key)
        return _IS_NULL if value is None else test(value)

    def read(evidence: Evidence) -> tuple[Any, Provenance | None]:
        return _read(evidence, name, key)

    text = f"{path} {condition.text}{_demand_text(minimum)}"
    needs = tuple((name, inner) for inner in condition.keys) if key is None else ((name, key),)
    return Leaf(at, text, wanted, check, read, condition.why, needs or ((name, None),))


def expression_leaf(
    expression: Expression, minimum: Provenance | None, *, at: str, wanted: bool
) -> Leaf:
    """Return the leaf of a JMESPath rule; ``minimum`` applies to all facts that it touches."""
    facts = [
        (spec, _demand(spec, minimum), _demand(spec, minimum).and_stronger())
        for name, spec in CATALOGUE.items()
        if name in expression.touches.facts
    ]
    nullables = [ref for ref in sorted(expression.touches.required, key=str) if ref[1] is not None]
    shown = sorted(expression.touches.required | expression.touches.optional, key=str)
    run = expression.run

    def check(evidence: Evidence) -> Outcome:
        document: dict[str, Any] = {}
        for spec, demand, accepted in facts:
            fact = evidence.get(spec.name)
            if fact is None:
                return f"not provided: {spec.name}"
            if fact.error is not None:
                return f"{_in_error(fact)} ({spec.name})"
            if not has_shape(spec, fact.value):
                return f"not provided: {spec.name} is of the wrong type"
            if fact.provenance not in accepted:
                return f"{spec.name} {_too_weak(fact, demand)}"
            document[spec.name] = fact.value
        for name, key in nullables:
            if document[name].get(key) is None:
                return f"not provided: {dotted(name, key)}"
        return run(document)

    text = f"{expression.text}{_demand_text(minimum)}"
    named = {name for name, _ in shown}
    needs = (*shown, *((spec.name, None) for spec, _, _ in facts if spec.name not in named))
    return Leaf(at, text, wanted, check, _reader(shown), lambda _: _GIVES[not wanted], needs)


_GIVES = {False: "the expression gives false", True: "the expression gives true"}


def _reader(references: list[Reference]) -> Callable[[Evidence], tuple[Any, Provenance | None]]:
    def read(evidence: Evidence) -> tuple[Any, Provenance | None]:
        found = {dotted(*reference): _read(evidence, *reference) for reference in references}
        provenances = [provenance for _, provenance in found.values() if provenance]
        weakest = min(provenances, key=lambda provenance: provenance.rank, default=None)
        return {text: value for text, (value, _) in found.items()}, weakest

    return read


def _read(evidence: Evidence, name: str, key: str | None) -> tuple[Any, Provenance | None]:
    """Return what may be shown of a field."""
    fact = evidence.get(name)
    if fact is None or fact.error is not None:
        return None, None
    if key is None:
        return fact.value, fact.provenance
    inner = fact.value.get(key) if type(fact.value) is dict else None
    field = CATALOGUE[name].fields.get(key)
    hidden = inner is not None and field is not None and field.private
    return HIDDEN if hidden else inner, fact.provenance


def _choice_test(path: FieldPath, test: Callable[[Any], Outcome]) -> Callable[[Any], Outcome]:
    if not path.field.choices:
        return test
    choices = frozenset(path.field.choices)
    wrong = f"not provided: expected one of {', '.join(path.field.choices)}"
    return lambda value: test(value) if type(value) is str and value in choices else wrong


def _demand(spec: FactSpec, minimum: Provenance | None) -> Provenance:
    """Facts of the server itself are only ever believed from the server."""
    return Provenance.OBSERVED if spec.supplied_by_server else minimum or Provenance.CLAIMED


def _demand_text(minimum: Provenance | None) -> str:
    return f" (at least {minimum.value})" if minimum else ""


def _in_error(fact: Fact) -> str:
    return f"not provided: {fact.error}" if fact.error else NOT_PROVIDED


def _too_weak(fact: Fact, demand: Provenance) -> str:
    return f"is {fact.provenance.value}; at least {demand.value} is required"
