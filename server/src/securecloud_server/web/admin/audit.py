"""`/audit-events` and `/audit-head`: the append-only log and its signed tree head."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field, WithJsonSchema
from securecloud_protocol.encoding import b64u_encode

from securecloud_server.domain.errors import FieldError, Invalid
from securecloud_server.domain.records import LoggedEvent
from securecloud_server.services.audit import AuditService
from securecloud_server.web.admin.models import (
    Page,
    Time,
    answer,
    decode_cursor,
    listing,
    sequence,
    time,
)
from securecloud_server.web.auth import caller


class Event(BaseModel):
    """One security-relevant act; `at` with milliseconds."""

    seq: int
    at: Time
    actor: str
    role: str | None
    source: str | None
    action: str
    object: str
    outcome: str
    reason: str
    details: Annotated[Any, WithJsonSchema({"type": "object"})]


class Events(BaseModel):
    """A page of events, oldest first."""

    items: list[Event]
    next_cursor: str | None


class Head(BaseModel):
    """A signed tree head (RFC 9162). `root` in hex; `signature` base64url, by the key `key_id`."""

    size: int
    root: str
    at: Time
    signature: str
    key_id: str


class Filters(Page):
    """Which events are wanted."""

    action: str | None = None
    object: str | None = None
    actor: str | None = Field(default=None, description="kind:name, for example token:admin")
    outcome: Literal["success", "refused", "failed"] | None = None
    since: str | None = Field(default=None, description="RFC 3339, with a time zone")
    until: str | None = Field(default=None, description="events before then")


def show(logged: LoggedEvent) -> Event:
    """Return the event as the API shows it."""
    event = logged.event
    moment = datetime.fromtimestamp(logged.at / 1000, UTC)
    return Event(
        seq=logged.seq,
        at=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        actor=str(event.actor),
        role=event.actor.role,
        source=event.actor.source,
        action=event.action,
        object=event.object,
        outcome=event.outcome,
        reason=event.reason,
        details=dict(event.details),
    )


def audit(api: APIBlueprint, service: AuditService, key_id: str) -> APIBlueprint:
    """Add the resources; `key_id` names the key that signs heads."""

    @api.get("/audit-events", summary="List audit events", responses={200: Events})
    def list_audit_events(query: Filters) -> Response:
        filters = {
            "action": query.action,
            "object": query.object,
            "actor": query.actor,
            "outcome": query.outcome,
            "since": _milliseconds("since", query.since),
            "until": _milliseconds("until", query.until),
        }
        after = sequence(decode_cursor(query.cursor))
        found = service.page(caller(), after, query.limit + 1, filters)
        return listing(query, found, show, lambda logged: logged.seq)

    @api.get("/audit-head", summary="The signed tree head", responses={200: Head})
    def get_audit_head() -> Response:
        head = service.head(caller())
        return answer(
            Head(
                size=head.size,
                root=head.root.hex(),
                at=time(head.at),
                signature=b64u_encode(head.signature),
                key_id=key_id,
            )
        )

    return api


def _milliseconds(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return str(int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        pass
    expected = "a time such as 2026-01-31T12:00:00Z"
    raise Invalid([FieldError(name, expected, f"expected {expected}")])
