"""`/key-exports`: keys on their way to people, sealed to their public keys."""

from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from securecloud_server.domain.records import KeyExport as KeyExportRecord
from securecloud_server.services.key_exports import KeyExportService
from securecloud_server.web.admin.keys import DeviceName
from securecloud_server.web.admin.models import (
    Id,
    Nothing,
    Page,
    Reason,
    Time,
    answer,
    content_tag,
    listing,
    part,
    time,
    time_or_none,
)
from securecloud_server.web.auth import caller

ExportState = Literal["pending", "granted", "denied", "collected", "expired"]


class ExportRequest(Reason):
    """Why, and the public key of age to which the device's key is to be sealed."""

    recipient: str = Field(description="a public key of age, age1…, of whoever asks")


class KeyExport(BaseModel):
    """What somebody asked for, and what became of it. `expires_at`: for whom it waits until then.

    A pending one waits for another person, a granted one for whoever asked for it.
    """

    id: str
    device: str
    device_id: str
    version: int
    recipient: str
    state: ExportState
    requested_by: str
    reason: str
    decided_by: str | None
    decided_reason: str | None
    created_at: Time
    expires_at: Time
    decided_at: Time | None
    collected_at: Time | None


class KeyExports(BaseModel):
    """A page of exports, newest first."""

    items: list[KeyExport]
    next_cursor: str | None


class SealedKey(BaseModel):
    """The key, sealed. `sealed` is an age file as text; in it are the 64 octets of the passphrase,
    and nothing else.
    """

    device: str
    device_id: str
    version: int
    recipient: str
    sealed: str


class ExportFilters(Page):
    """Which exports are wanted."""

    state: ExportState | None = None
    device: str | None = None


def show(export: KeyExportRecord) -> KeyExport:
    """Return the export as the API shows it."""
    return KeyExport(
        id=export.export_id,
        device=export.device,
        device_id=export.device_id,
        version=export.key_version,
        recipient=export.recipient,
        state=export.state,  # type: ignore[arg-type]  # one of ExportState, says domain/exports.py
        requested_by=export.requested_by,
        reason=export.reason,
        decided_by=export.decided_by,
        decided_reason=export.decided_reason,
        created_at=time(export.created_at),
        expires_at=time(export.expires_at),
        decided_at=time_or_none(export.decided_at),
        collected_at=time_or_none(export.collected_at),
    )


def _answer(export: KeyExportRecord) -> Response:
    shown = show(export)
    return answer(shown, content_tag(shown))


def key_exports(api: APIBlueprint, service: KeyExportService) -> APIBlueprint:
    """Add the resource."""

    @api.post(
        "/keys/<string:device>:request-export",
        summary="Ask for a key",
        responses={200: KeyExport},
    )
    def request_key_export(path: DeviceName, body: ExportRequest) -> Response:
        return _answer(service.request(caller(), path.device, body.recipient, body.reason))

    @api.get("/key-exports", summary="List exports of keys", responses={200: KeyExports})
    def list_key_exports(query: ExportFilters) -> Response:
        filters = {"state": query.state, "device": query.device}
        found = service.page(caller(), part(query), filters)
        return listing(query, found, show, lambda export: export.export_id)

    @api.get("/key-exports/<id>", summary="Read an export", responses={200: KeyExport})
    def get_key_export(path: Id) -> Response:
        return _answer(service.get(caller(), path.id))

    @api.post("/key-exports/<string:id>:grant", summary="Grant", responses={200: KeyExport})
    def grant_key_export(path: Id, body: Reason) -> Response:
        return _answer(service.grant(caller(), path.id, body.reason))

    @api.post("/key-exports/<string:id>:deny", summary="Deny", responses={200: KeyExport})
    def deny_key_export(path: Id, body: Reason) -> Response:
        return _answer(service.deny(caller(), path.id, body.reason))

    @api.post(
        "/key-exports/<string:id>:collect",
        summary="Collect a granted key, once",
        responses={200: SealedKey},
    )
    def collect_key_export(path: Id, body: Nothing) -> Response:  # noqa: ARG001 - read for its strictness
        export, sealed = service.collect(caller(), path.id)
        return answer(
            SealedKey(
                device=export.device,
                device_id=export.device_id,
                version=export.key_version,
                recipient=export.recipient,
                sealed=sealed,
            )
        )

    return api
