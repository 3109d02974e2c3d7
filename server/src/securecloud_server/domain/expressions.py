"""JMESPath rules: compiled once, run on a document of the facts' values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jmespath.exceptions import JMESPathError
from jmespath.parser import Parser
from jmespath.visitor import TreeInterpreter

from securecloud_server.domain.expression_analysis import (
    Analysis,
    ExpressionError,
    Node,
    analyse,
)
from securecloud_server.domain.operators import Outcome

EXPRESSION_LIMIT = 1024

_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`((?:\\`|[^`])*)`", re.DOTALL)

# Type errors inside functions are JMESPathError; the rest is what Python raises when the library
# compares, sorts or converts values that it did not check, or recurses into them.
_EVALUATION_ERRORS = (
    JMESPathError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression: what it touches, and ``run`` on ``{fact: value}``, which never raises.

    ``run`` gives True or False, or a text for any other result.
    """

    text: str
    touches: Analysis
    run: Callable[[Mapping[str, Any]], Outcome]


def compile_expression(text: str) -> Expression:
    """Return a compiled expression; raises ExpressionError, also for what would cost too much."""
    if len(text) > EXPRESSION_LIMIT:
        raise ExpressionError(f"an expression has at most {EXPRESSION_LIMIT} characters")
    _check_literals(text)
    try:
        tree: Node = Parser().parse(text).parsed
        touches = analyse(tree)
    except JMESPathError as error:
        raise ExpressionError(f"bad JMESPath: {_first_line(error)}") from None
    except RecursionError:
        raise ExpressionError("the expression nests too deeply") from None
    return Expression(text, touches, _runner(tree))


def _check_literals(text: str) -> None:
    for found in _QUOTED.finditer(text):
        literal = found.group(1)
        if literal is None:
            continue
        try:
            json.loads(literal.replace("\\`", "`"))
        except (ValueError, RecursionError):
            raise ExpressionError(
                f"`{literal}` is not JSON; a text is written in single quotes"
            ) from None


def _first_line(error: JMESPathError) -> str:
    return str(error).splitlines()[0].removeprefix("Invalid jmespath expression: ").rstrip(":")


def _runner(tree: Any) -> Callable[[Mapping[str, Any]], Outcome]:
    visit = TreeInterpreter().visit

    def run(document: Mapping[str, Any]) -> Outcome:
        try:
            result = visit(tree, document)
        except _EVALUATION_ERRORS as error:
            return f"the expression fails: {type(error).__name__}"
        if result is True or result is False:
            return bool(result)
        return f"the expression gives {_kind(result)}; it must give true"

    return run


def _kind(result: object) -> str:
    match result:
        case None:
            return "null"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return "a list"
    return "an object"
