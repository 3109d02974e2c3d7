"""`/devices/{name}/evidence`: what a device's machine said last, and before."""

from collections.abc import Mapping
from typing import Annotated, Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field, WithJsonSchema

from securecloud_server.domain.records import Sighting as SightingRecord
from securecloud_server.services.evidence import EvidenceService
from securecloud_server.web.admin.models import (
    Name,
    Page,
    Time,
    decode_cursor,
    listing,
    sequence,
    time,
)
from securecloud_server.web.auth import caller

_MAP = WithJsonSchema({"type": "object"})


class Sighting(BaseModel):
    """A run of exchanges in which a machine showed the same evidence.

    `seen_at` and all that follows up to `code` are of the last exchange in it, and so are the facts
    `boot` and `request`. `withheld` are fields that are not kept, for they may hold secrets.
    """

    audit_event: int = Field(description="the first decision on this evidence")
    since: Time
    seen_at: Time
    session_id: str
    key_request: str | None
    boot_id: str
    outcome: str
    code: str
    facts: Annotated[Any, _MAP]
    asked: Annotated[Any, _MAP]
    withheld: Annotated[Any, _MAP]


class Sightings(BaseModel):
    """A page of sightings, newest first."""

    items: list[Sighting]
    next_cursor: str | None


def show(kept: tuple[SightingRecord, Mapping[str, Any]]) -> Sighting:
    """Return what is kept as the API shows it."""
    seen, document = kept
    return Sighting(
        audit_event=seen.seq,
        since=time(seen.first_at),
        seen_at=time(seen.last_at),
        session_id=seen.session_id.hex(),
        key_request=seen.request_id,
        boot_id=seen.boot_id,
        outcome=seen.outcome,
        code=seen.code,
        facts={**document["facts"], **seen.circumstances},
        asked=document["asked"],
        withheld=document["withheld"],
    )


def evidence(api: APIBlueprint, service: EvidenceService) -> APIBlueprint:
    """Add the resource."""

    @api.get(
        "/devices/<name>/evidence", summary="What its machine said", responses={200: Sightings}
    )
    def list_device_evidence(path: Name, query: Page) -> Response:
        before = sequence(decode_cursor(query.cursor))
        history = service.history(caller(), path.name)
        older = [kept for kept in history if before is None or kept[0].seq < before]
        return listing(query, older, show, lambda kept: kept[0].seq)

    return api
