"""JSON bodies, read strictly (RFC 8259): nothing that two readers might take differently."""

import json
from typing import Any

from flask import request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from securecloud_server.domain.errors import FieldError, Invalid


class StrictJson(DefaultJSONProvider):
    """Flask's provider without duplicate members, NaN, lone surrogates or runaway nesting."""

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        """Return the value of the text; ValueError says what is wrong with it."""
        try:
            value = json.loads(s, object_pairs_hook=_members, parse_constant=_no_constant)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        json.dumps(value, ensure_ascii=False).encode()
        return value


def check_request() -> None:
    """Refuse what no view should have to think of; to run before each view of the admin API."""
    if any("\x00" in text for text in (request.path, *request.args.values())):
        raise Invalid([FieldError("", "text without NUL", "the URL holds a NUL character")])
    if request.method not in {"PUT", "POST", "PATCH"}:
        return
    if not request.is_json:
        raise UnsupportedMediaType("the body must have Content-Type: application/json")
    if not isinstance(_body(), dict):
        raise Invalid([FieldError("", "a JSON object", "the body is not a JSON object")])


class MalformedJson(BadRequest):
    """The body is not JSON."""


def _body() -> Any:
    try:
        return request.get_json()
    except BadRequest as error:
        cause = error.__cause__ or error.__context__
        raise MalformedJson(f"the body is not JSON: {cause or 'empty'}") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
