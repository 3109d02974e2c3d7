"""JSON bodies, read strictly (RFC 8259): nothing that two readers might take differently."""

import inspect
import json
from functools import cache
from typing import Any

from flask import current_app, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from securecloud_server.domain.errors import FieldError, Invalid


class StrictJson(DefaultJSONProvider):
    """Flask's provider without duplicate members, NaN, lone surrogates or runaway nesting."""

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        """Return the value of the text; ValueError says what is wrong with it."""
        text = s.decode() if isinstance(s, bytes) else s
        try:
            value = json.loads(text, object_pairs_hook=_members, parse_constant=_no_constant)
            # Whatever was read can be written again: infinities and lone surrogates cannot.
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except RecursionError:
            raise ValueError("nested too deeply") from None
        return value


def check_request() -> None:
    """Refuse what no view should have to think of; to run before each view of the admin API."""
    _check_url()
    if request.method not in {"PUT", "POST", "PATCH"}:
        return
    if not request.is_json:
        raise UnsupportedMediaType("the body must have Content-Type: application/json")
    if not isinstance(_body(), dict):
        raise Invalid([FieldError("", "a JSON object", "the body is not a JSON object")])


class MalformedJson(BadRequest):
    """The body is not JSON."""


def _check_url() -> None:
    values = [value for some in request.args.listvalues() for value in some]
    if any("\x00" in text for text in (request.path, *request.args, *values)):
        raise Invalid([FieldError("", "text without NUL", "the URL holds a NUL character")])
    takes_query = _takes_query(current_app.view_functions[request.endpoint or ""])
    errors = [] if takes_query else [_unknown(name) for name in request.args]
    if len(values) != len(request.args):
        twice = [name for name, some in request.args.lists() if len(some) > 1]
        errors += [FieldError(name, "one value", "given more than once") for name in twice]
    if errors:
        raise Invalid(errors)


@cache
def _takes_query(view: Any) -> bool:
    return "query" in inspect.signature(view).parameters


def _unknown(name: str) -> FieldError:
    return FieldError(name, "no query parameters", "unknown field")


def _body() -> Any:
    if not request.get_data():
        raise MalformedJson("the body is empty")
    try:
        return request.get_json()
    except BadRequest as error:
        cause = error.__cause__
        said = cause.description if isinstance(cause, BadRequest) else None
        raise MalformedJson(said or "the body is not JSON") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
