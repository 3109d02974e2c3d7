"""An audit event as the octets that are hashed, and the readable columns derived from them.

A leaf of the audit log's tree is compact JSON in UTF-8 with sorted members. Whatever a bundle shows
beside a leaf follows from the leaf alone, so that changing it can be noticed.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

MAX_NUMBER = 2**53 - 1
_MEMBERS = frozenset(
    {"seq", "at", "actor", "action", "object", "outcome", "reason", "details"},
)
_ACTOR_MEMBERS = frozenset({"kind", "name", "role", "source"})
_OPTIONAL = frozenset({str, type(None)})
_DEVICE = "device:"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LeafError(Exception):
    """These octets are no audit event."""


def encode(document: Mapping[str, Any]) -> bytes:
    """Return the octets of an event."""
    return _ENCODER.encode(document).encode()


def decode(octets: bytes) -> dict[str, Any]:
    """Return the event in a leaf; LeafError when it is not one, or names a member twice."""
    try:
        text = str(octets, "utf-8")
        document, end = _DECODER.raw_decode(text)
    except (ValueError, TypeError, RecursionError):
        raise LeafError("it is not UTF-8 JSON") from None
    if end != len(text):
        raise LeafError("there is something behind it")
    if type(document) is not dict or document.keys() != _MEMBERS:
        raise LeafError("it does not have the members of an event")
    actor = document["actor"]
    if type(actor) is not dict or actor.keys() != _ACTOR_MEMBERS:
        raise LeafError("its actor does not have the members of an actor")
    for name in ("seq", "at"):
        if type(document[name]) is not int or not 0 <= document[name] <= MAX_NUMBER:
            raise LeafError(f"its {name} is no number from 0 to {MAX_NUMBER}")
    for name in ("action", "object", "outcome", "reason"):
        if type(document[name]) is not str:
            raise LeafError(f"its {name} is no text")
    if (
        type(actor["kind"]) is not str
        or type(actor["name"]) is not str
        or type(actor["role"]) not in _OPTIONAL
        or type(actor["source"]) not in _OPTIONAL
    ):
        raise LeafError("its actor is not made of texts")
    if type(document["details"]) is not dict:
        raise LeafError("its details are no object")
    return document


def columns(octets: bytes) -> tuple[Any, ...]:
    """Return what the table `events` holds of a leaf, in the order of `schema.EVENT_COLUMNS`."""
    event = decode(octets)
    actor, target, details = event["actor"], event["object"], event["details"]
    return (
        event["seq"],
        time_text(event["at"]),
        f"{actor['kind']}:{actor['name']}",
        actor["role"],
        actor["source"],
        event["action"],
        target,
        event["outcome"],
        event["reason"],
        target[len(_DEVICE) :] if target.startswith(_DEVICE) else None,
        _identifier(details, "request_id"),
        _identifier(details, "session_id"),
        _ENCODER.encode(details),
        octets,
    )


def time_text(milliseconds: int) -> str:
    """Return the moment in UTC with milliseconds (RFC 3339)."""
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise LeafError("its time is behind the year 9999") from None
    return f"{moment.isoformat(timespec='milliseconds')[:-6]}Z"


def _identifier(details: Mapping[str, Any], name: str) -> str | None:
    value = details.get(name)
    return value if type(value) is str else None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object names a member twice")
    return members


def _no_constants(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_constants)
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False
)
