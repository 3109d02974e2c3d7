"""What a JMESPath expression touches and costs, found in its syntax tree before it ever runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

from jmespath.functions import Functions

from securecloud_server.domain.fact_paths import (
    FactPathError,
    did_you_mean,
    dotted,
    find_fact,
    find_field,
)
from securecloud_server.domain.facts import CATALOGUE, FieldType

Node = Mapping[str, Any]
Reference = tuple[str, str | None]
"""A fact and a key inside it (None: all of the fact)."""

DEPTH_LIMIT = 32
GROWTH_LIMIT = 64
_ESCAPING = 8
_SIGNATURES: Mapping[str, Any] = Functions.FUNCTION_TABLE
_ROOT: Final = ""
_Scope = Reference | str | None
"""What a node is applied to: the whole document (_ROOT), part of a fact, or something computed."""


class ExpressionError(ValueError):
    """An expression is refused; the message says why."""


@dataclass(slots=True)
class Analysis:
    """What an expression touches.

    ``required`` references must not be null; ``optional`` ones stand where the expression deals
    with null itself. ``facts`` has the names of both.
    """

    facts: set[str] = field(default_factory=set)
    required: set[Reference] = field(default_factory=set)
    optional: set[Reference] = field(default_factory=set)


def analyse(tree: Node) -> Analysis:
    """Return what an expression touches; raises ExpressionError for what it may not do."""
    if _depth(tree) > DEPTH_LIMIT:
        raise ExpressionError(f"the expression nests more than {DEPTH_LIMIT} levels")
    if _growth(tree) > GROWTH_LIMIT:
        raise ExpressionError(
            "the expression could multiply the evidence too often; use fewer nested lists, "
            "to_string or join"
        )
    walker = _Walker()
    walker.use(walker.walk(tree, _ROOT))
    if not walker.found.facts:
        raise ExpressionError("the expression looks at no fact")
    return walker.found


def _children(node: Node) -> list[Node]:
    return [child for child in node.get("children", ()) if isinstance(child, Mapping)]


def _depth(tree: Node) -> int:
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting.extend((child, depth + 1) for child in _children(node))
    return deepest


def _growth(node: Node) -> int:
    """Return a bound on the size of the result as a multiple of what the expression sees."""
    parts = [_growth(child) for child in _children(node)]
    match node["type"]:
        case "multi_select_list" | "multi_select_dict":
            return sum(parts) + 1
        case "function_expression":
            return _function_growth(node, parts)
        case "comparator" | "or_expression" | "and_expression" | "not_expression":
            return max(parts, default=1)
    return prod(parts)


def _function_growth(node: Node, parts: list[int]) -> int:
    arguments = _children(node)
    total = sum(g for a, g in zip(arguments, parts, strict=True) if a["type"] != "expref")
    repeated = prod(g for a, g in zip(arguments, parts, strict=True) if a["type"] == "expref")
    factor = 1
    if node["value"] == "to_string":
        factor = _ESCAPING
    if node["value"] == "join":
        glue = arguments[0] if arguments else {"type": "none"}
        if glue["type"] != "literal":
            raise ExpressionError("the first argument of join must be a text in quotes")
        factor = max(1, len(str(glue["value"])))
    return max(1, total) * repeated * factor


class _Walker:
    """Follows field names from the document down and notes where values are used."""

    def __init__(self) -> None:
        self.found = Analysis()

    def walk(self, node: Node, scope: _Scope) -> _Scope:
        """Return what the node yields when applied to ``scope``."""
        children = _children(node)
        match node["type"]:
            case "field":
                return self._field(node["value"], scope)
            case "identity" | "current":
                return scope
            case "subexpression" | "pipe" | "index_expression":
                for child in children:
                    scope = self.walk(child, scope)
                return scope
            case "projection" | "value_projection" | "filter_projection":
                self.use(self.walk(children[0], scope))
                self._walk_all(children[1:], None)
            case "comparator":
                self._comparator(node, children, scope)
            case "function_expression":
                self._function(node["value"], children, scope)
            case "index" | "slice":
                self.use(scope)
            case _:
                self._walk_all(children, scope)
        return None

    def use(self, scope: _Scope, *, null_is_handled: bool = False) -> None:
        """Note that a value is used as such."""
        if scope is None:
            return
        if isinstance(scope, str):
            raise ExpressionError("the expression uses the whole evidence; name the facts")
        name, key = scope
        if name == "file_digests" and key is None:
            raise ExpressionError('name the file: file_digests."/path/of/the/file"')
        keys: Iterator[str | None] = iter([key])
        if key is None and CATALOGUE[name].fields:
            keys = iter(CATALOGUE[name].fields)
        target = self.found.optional if null_is_handled else self.found.required
        target.update((name, each) for each in keys)

    def _walk_all(self, nodes: list[Node], scope: _Scope) -> None:
        for node in nodes:
            self.use(self.walk(node, scope))

    def _field(self, name: str, scope: _Scope) -> _Scope:
        if scope is None:
            return None
        try:
            if isinstance(scope, str):
                self.found.facts.add(find_fact(name).name)
                return (name, None)
            fact, key = scope
            if key is not None:
                raise ExpressionError(f"{dotted(fact, key)} has no field {name!r}")
            find_field(CATALOGUE[fact], name)
        except FactPathError as error:
            raise ExpressionError(f"{error}{_quoting_hint(name, scope)}") from None
        return (fact, name)

    def _comparator(self, node: Node, children: list[Node], scope: _Scope) -> None:
        against_null = node["value"] in ("eq", "ne") and any(
            child["type"] == "literal" and child["value"] is None for child in children
        )
        for child in children:
            self.use(self.walk(child, scope), null_is_handled=against_null)

    def _function(self, name: str, arguments: list[Node], scope: _Scope) -> None:
        if name not in _SIGNATURES:
            raise ExpressionError(f"unknown function {name!r}{did_you_mean(name, _SIGNATURES)}")
        signature = _SIGNATURES[name]["signature"]
        variadic = bool(signature and signature[-1].get("variadic"))
        if len(arguments) < len(signature) or (len(arguments) > len(signature) and not variadic):
            least = "at least " if variadic else ""
            raise ExpressionError(
                f"function {name} takes {least}{len(signature)} arguments, got {len(arguments)}"
            )
        for argument in arguments:
            inner = None if argument["type"] == "expref" else scope
            self.use(self.walk(argument, inner), null_is_handled=name == "not_null")


def _quoting_hint(name: str, scope: _Scope) -> str:
    if not isinstance(scope, str):
        return ""
    if name in ("true", "false", "null"):
        return f"; the value is written `{name}` in backticks"
    return "; a text is written in single quotes"


def wants_all_keys(reference: Reference) -> bool:
    """Tell whether a reference needs every key of a map."""
    name, key = reference
    spec_field = CATALOGUE[name].field
    return key is None and spec_field is not None and spec_field.type is FieldType.MAP
