"""What pydantic finds wrong, in the words of this project: field, what was expected, a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from securecloud_server.domain.errors import FieldError, Invalid

_EXPECTED = {
    "missing": "a value",
    "extra_forbidden": "no such field",
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer",
    "dict_type": "an object",
    "model_type": "an object",
    "list_type": "a list",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
}
_MESSAGES = {"missing": "the field is missing", "extra_forbidden": "unknown field"}


def invalid_request(error: ValidationError) -> Invalid:
    """Return the same as a refusal; the values themselves are left out."""
    return Invalid([_field_error(detail) for detail in error.errors(include_url=False)])


def _field_error(detail: Mapping[str, Any]) -> FieldError:
    kind, context = detail["type"], detail.get("ctx", {})
    expected = _EXPECTED[kind].format(**context) if kind in _EXPECTED else detail["msg"]
    message = _MESSAGES.get(kind, f"expected {expected}")
    return FieldError(field_name(detail["loc"]), expected, message)


def field_name(location: Sequence[str | int]) -> str:
    """Return a path as policies write them: `rules[0].operator`."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
