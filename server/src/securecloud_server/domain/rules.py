"""From the rules of a policy text to leaves and the decision that combines them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from securecloud_server.domain.evaluation import Decision, Leaf
from securecloud_server.domain.evidence import Provenance
from securecloud_server.domain.expression_analysis import ExpressionError, wants_all_keys
from securecloud_server.domain.expressions import compile_expression
from securecloud_server.domain.fact_paths import FactPathError, FieldPath, did_you_mean, resolve
from securecloud_server.domain.facts import CATALOGUE, FieldType
from securecloud_server.domain.leaves import expression_leaf, fact_leaf
from securecloud_server.domain.operators import OPERATORS
from securecloud_server.domain.policy_errors import Place, shown

DEPTH_LIMIT = 8
RULE_LIMIT = 200

_KINDS = ("fact", "jmespath", "all", "any", "not")
_KEYS = {
    "fact": ("fact", "operator", "value", "minimum_provenance"),
    "jmespath": ("jmespath", "minimum_provenance"),
    "all": ("all",),
    "any": ("any",),
    "not": ("not",),
}


class FactRequest(NamedTuple):
    """A fact that the agent must collect; no arguments means all there is."""

    name: str
    args: tuple[str, ...]


class Node(NamedTuple):
    """A rule that was accepted: its canonical form and its part of the decision."""

    canonical: Any
    decide: Decision


@dataclass(slots=True)
class RuleCompiler:
    """Compiles the nodes of one policy; what they need of the evidence gathers here.

    Negations are pushed down to the leaves (De Morgan), so that "cannot be told" simply does not
    pass and the three-valued result is exact.
    """

    leaves: list[Leaf] = field(default_factory=list)
    _keys: dict[str, set[str] | None] = field(default_factory=dict)
    _count: int = 0

    def fact_requests(self) -> tuple[FactRequest, ...]:
        """Return what the agent must collect, in the order of the catalogue."""
        return tuple(
            FactRequest(name, tuple(sorted(self._keys[name] or ())))
            for name, spec in CATALOGUE.items()
            if name in self._keys and not spec.supplied_by_server
        )

    def rules(self, raw: Any, place: Place) -> Node | None:
        """Compile the value of ``rules``: a list (all of it), or one node."""
        if isinstance(raw, list):
            return self._list(raw, place, 0, wanted=True) if raw else Node([], lambda _: False)
        if isinstance(raw, dict):
            return self._node(raw, place, 1, wanted=True)
        place.refuse_value("a list of rules, or one of all, any, not", raw)
        return None

    def _node(self, raw: Any, place: Place, depth: int, *, wanted: bool) -> Node | None:
        kind = _kind(raw, place)
        if kind is None:
            return None
        if depth > DEPTH_LIMIT:
            place.refuse(f"at most {DEPTH_LIMIT} levels", "the rules nest too deeply")
            return None
        if kind in ("fact", "jmespath"):
            return self._leaf(kind, raw, place, wanted=wanted)
        if kind == "not":
            inner = self._node(raw["not"], place.key("not"), depth + 1, wanted=not wanted)
        else:
            every = (kind == "all") is wanted
            inner = self._list(raw[kind], place.key(kind), depth, wanted=wanted, every=every)
        return inner and Node({kind: inner.canonical}, inner.decide)

    def _list(
        self, raw: Any, place: Place, depth: int, *, wanted: bool, every: bool = True
    ) -> Node | None:
        if not isinstance(raw, list) or not raw:
            place.refuse_value("a list of at least one rule", raw)
            return None
        nodes = [
            self._node(item, place.item(index), depth + 1, wanted=wanted)
            for index, item in enumerate(raw)
        ]
        accepted = [node for node in nodes if node is not None]
        combine = _all_of if every else _any_of
        return Node([n.canonical for n in accepted], combine([n.decide for n in accepted]))

    def _leaf(self, kind: str, raw: dict[str, Any], place: Place, *, wanted: bool) -> Node | None:
        self._count += 1
        if self._count > RULE_LIMIT:
            if self._count == RULE_LIMIT + 1:
                place.refuse(f"at most {RULE_LIMIT} rules", "the policy has too many rules")
            return None
        minimum = _minimum(raw, place)
        compiled = (
            self._fact_rule(raw, place, minimum, wanted=wanted)
            if kind == "fact"
            else self._expression_rule(raw, place, minimum, wanted=wanted)
        )
        if compiled is None:
            return None
        canonical, leaf = compiled
        if minimum:
            canonical["minimum_provenance"] = minimum.value
        self.leaves.append(leaf)
        return Node(canonical, itemgetter(len(self.leaves) - 1))

    def _fact_rule(
        self, raw: dict[str, Any], place: Place, minimum: Provenance | None, *, wanted: bool
    ) -> tuple[dict[str, Any], Leaf] | None:
        path = _fact_path(raw["fact"], place.key("fact"))
        operator = _operator(raw, path, place)
        if "value" not in raw:
            place.key("value").refuse("the value to compare with", "missing key 'value'")
        if path is None or operator is None or "value" not in raw:
            return None
        build = OPERATORS[path.field.type][operator]
        condition = build(path, raw["value"], place.key("value"))
        if condition is None:
            return None
        self._request(path.spec.name, {path.key} if path.key else condition.keys)
        canonical = {"fact": str(path), "operator": operator, "value": condition.value}
        return canonical, fact_leaf(path, condition, minimum, at=place.path, wanted=wanted)

    def _expression_rule(
        self, raw: dict[str, Any], place: Place, minimum: Provenance | None, *, wanted: bool
    ) -> tuple[dict[str, Any], Leaf] | None:
        text, at = raw["jmespath"], place.key("jmespath")
        if not isinstance(text, str):
            at.refuse_value("a JMESPath expression in quotes", text)
            return None
        try:
            expression = compile_expression(text)
        except ExpressionError as error:
            at.refuse("a JMESPath expression over facts that gives true or false", str(error))
            return None
        for name in expression.touches.facts:
            self._request(name, ())
        for reference in expression.touches.required | expression.touches.optional:
            name, key = reference
            self._request(name, None if wants_all_keys(reference) else {key} if key else ())
        return {"jmespath": text}, expression_leaf(
            expression, minimum, at=place.path, wanted=wanted
        )

    def _request(self, name: str, keys: Any) -> None:
        """Ask for a fact; ``keys`` None asks for all of a map, other facts have no arguments."""
        spec_field = CATALOGUE[name].field
        is_map = spec_field is not None and spec_field.type is FieldType.MAP
        known = self._keys.setdefault(name, set())
        if keys is None:
            self._keys[name] = None
        elif known is not None and is_map:
            known.update(keys)


def _kind(raw: Any, place: Place) -> str | None:
    if not isinstance(raw, dict):
        place.refuse_value("a rule: a mapping with fact, jmespath, all, any or not", raw)
        return None
    kinds = [kind for kind in _KINDS if kind in raw]
    if len(kinds) != 1:
        found = f"has {' and '.join(kinds)}" if kinds else "has none of them"
        place.refuse(f"exactly one of {', '.join(_KINDS)}", f"the rule {found}")
        return None
    check_keys(raw, _KEYS[kinds[0]], place)
    return kinds[0]


def check_keys(raw: dict[Any, Any], known: Sequence[str], place: Place) -> None:
    """Report the keys that a mapping must not have."""
    for key in raw:
        if key not in known:
            hint = did_you_mean(key, known) if isinstance(key, str) else ""
            place.key(key).refuse(f"one of {', '.join(known)}", f"unknown key {shown(key)}{hint}")


def _fact_path(raw: Any, place: Place) -> FieldPath | None:
    if not isinstance(raw, str):
        place.refuse_value("the path of a fact, such as os.id", raw)
        return None
    try:
        return resolve(raw)
    except FactPathError as error:
        place.refuse(error.expected, str(error))
        return None


def _operator(raw: dict[str, Any], path: FieldPath | None, place: Place) -> str | None:
    operators = OPERATORS[path.field.type] if path else {}
    expected = f"one of {', '.join(operators)}" if path else "an operator"
    at = place.key("operator")
    if "operator" not in raw:
        at.refuse(expected, "missing key 'operator'")
        return None
    name = raw["operator"]
    if not isinstance(name, str) or (path and name not in operators):
        hint = did_you_mean(name, operators) if isinstance(name, str) else ""
        of = f" of type {path.field.type.value}" if path else ""
        at.refuse(expected, f"operator {shown(name)} does not fit {path or 'the fact'}{of}{hint}")
        return None
    return name


def _minimum(raw: dict[str, Any], place: Place) -> Provenance | None:
    if "minimum_provenance" not in raw:
        return None
    try:
        return Provenance(raw["minimum_provenance"])
    except ValueError:
        place.key("minimum_provenance").refuse_value(
            f"one of {', '.join(Provenance)}", raw["minimum_provenance"]
        )
        return None


def _all_of(parts: Sequence[Callable[[Sequence[bool]], bool]]) -> Decision:
    def decide(passed: Sequence[bool]) -> bool:
        for part in parts:  # noqa: SIM110 - a generator would double the time of a decision
            if not part(passed):
                return False
        return True

    return decide


def _any_of(parts: Sequence[Callable[[Sequence[bool]], bool]]) -> Decision:
    def decide(passed: Sequence[bool]) -> bool:
        for part in parts:  # noqa: SIM110 - a generator would double the time of a decision
            if part(passed):
                return True
        return False

    return decide
