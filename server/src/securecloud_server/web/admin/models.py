"""What the resources share: strict models, times, lists and conditional edits."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar

from flask import Response, request
from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, ConfigDict, Field

from securecloud_server.domain.errors import FieldError, Invalid
from securecloud_server.domain.preconditions import Precondition
from securecloud_server.services.admin import Slice
from securecloud_server.web.problems import MEDIA_TYPE

R = TypeVar("R")

NAME = Field(description="1 to 63 of a-z, 0-9, '.', '_', '-'; a letter or digit at both ends")
Time = Annotated[str, Field(description="RFC 3339, UTC", examples=["2026-01-31T12:00:00Z"])]
_SEQUENCE = re.compile("[0-9]{1,18}")
_CREATED = 201
_OK = 200


class Body(BaseModel):
    """A request's body: unknown fields and values of a similar type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Query(BaseModel):
    """A request's query: unknown parameters are refused, for a mistyped filter filters nothing."""

    model_config = ConfigDict(extra="forbid")


class Page(Query):
    """Which part of a list is wanted."""

    limit: int = Field(default=100, ge=1, le=500)
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before")


class Name(BaseModel):
    """The object's name in the path."""

    name: str = NAME


class Id(BaseModel):
    """The object's id in the path."""

    id: str


class Reason(Body):
    """Why a person decided so; it stays in the audit log."""

    reason: str = Field(description="one line of 3 to 500 characters")


class Nothing(Body):
    """There is nothing to say: an empty object."""


class WrongField(BaseModel):
    """One wrong field."""

    field: str
    expected: str
    message: str


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[WrongField]


PROBLEM: ResponseDict = {
    status: {
        "description": "Refused",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in ("4XX", "422", "5XX")
}


def time(seconds: int) -> str:
    """Return a time in seconds since 1970 as text."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def time_or_none(seconds: int | None) -> str | None:
    """Return a time as text; None stays None."""
    return None if seconds is None else time(seconds)


def answer(
    model: BaseModel, tag: str | None = None, *, created: bool = False, complete: bool = True
) -> Response:
    """Return the object; with its entity tag if it has one.

    A `complete` tag covers all that is shown: a caller who has it is told so (304).
    """
    response = Response(
        model.model_dump_json(by_alias=True),
        _CREATED if created else _OK,
        mimetype="application/json",
    )
    if tag is not None:
        response.set_etag(tag)
        if complete:
            response.make_conditional(request.environ)
    return response


def content_tag(model: BaseModel) -> str:
    """Return the entity tag of an object that only the server changes."""
    return hashlib.sha256(model.model_dump_json().encode()).hexdigest()[:32]


def no_content() -> Response:
    """Return the answer of a deletion."""
    return Response(status=204)


def part(page: Page) -> Slice:
    """Return what to read for `page`: one more than asked, to know whether more follows."""
    return Slice(decode_cursor(page.cursor), page.limit + 1)


def listing(
    page: Page, records: Sequence[R], show: Callable[[R], BaseModel], key: Callable[[R], object]
) -> Response:
    """Return one page of a list."""
    shown = records[: page.limit]
    more = len(records) > page.limit
    items = ",".join(show(record).model_dump_json(by_alias=True) for record in shown)
    cursor = f'"{_encode_cursor(str(key(shown[-1])))}"' if more else "null"
    text = f'{{"items":[{items}],"next_cursor":{cursor}}}'
    return Response(text, mimetype="application/json")


def precondition() -> Precondition:
    """Return what If-Match and If-None-Match say (RFC 9110, section 13.1)."""
    absent = request.headers.get("If-None-Match")
    if absent is not None and absent.strip() != "*":
        expected = "* (the object must not exist)"
        raise Invalid([FieldError("If-None-Match", expected, f"expected {expected}")])
    if "If-Match" not in request.headers:
        return Precondition(absent=absent is not None)
    tags = request.if_match
    wanted: Iterable[str] = ("*",) if tags.star_tag else tags.as_set()
    # A tag that no object has: a header with weak tags alone, or none, never holds.
    return Precondition(tuple(wanted) or ("-",), absent=absent is not None)


def decode_cursor(cursor: str | None) -> str | None:
    """Return the key in a cursor."""
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        key = ""
    if not key or "\x00" in key:
        raise _not_a_cursor()
    return key


def sequence(cursor: str | None) -> int | None:
    """Return the number that `decode_cursor` found, for lists that are ordered by number."""
    if cursor is None:
        return None
    if not _SEQUENCE.fullmatch(cursor):
        raise _not_a_cursor()
    return int(cursor)


def _not_a_cursor() -> Invalid:
    expected = "next_cursor of the page before"
    return Invalid([FieldError("cursor", expected, f"expected {expected}")])


def _encode_cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
