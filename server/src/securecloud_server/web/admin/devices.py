"""`/devices`: volumes, each with a key of its own."""

from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from securecloud_server.domain.records import DeviceState
from securecloud_server.services.devices import DeviceReport, DeviceService, DeviceText, tag
from securecloud_server.web.admin.models import (
    NAME,
    Body,
    Name,
    Page,
    Query,
    Reason,
    Time,
    answer,
    listing,
    no_content,
    part,
    precondition,
    time,
    time_or_none,
)
from securecloud_server.web.auth import caller

_OCTETS = "application/octet-stream"


class Iscsi(Body):
    """A disk behind the network (RFC 7143), which the agent connects to first."""

    portal: str = Field(description="IP address, IPv6 in brackets, and port; 3260 without one")
    target: str = Field(description="iSCSI name: iqn., eui. or naa.")
    lun: int = Field(description="0 to 255")


class Volume(Body):
    """Where the data is and how it is mounted. The mapper's name is `sc-<device>`."""

    source: str | None = Field(
        default=None, description="absolute path of a block device or a file; or else iscsi"
    )
    iscsi: Iscsi | None = Field(default=None, description="in the place of source")
    filesystem: Literal["ext4", "xfs"] = "ext4"
    mount_point: str | None = Field(default=None, description="null: opened, not mounted")
    options: list[str] = Field(default=["defaults"])
    read_only: bool = False
    initialise: Literal["never", "if_blank"] = "never"


class DeviceBody(Body):
    """What an administrator says of a device."""

    agent: str
    volume: Volume
    group: str | None = None
    policy: str | None = Field(default=None, description="null: the group's, or the default")
    enabled: bool = True


class DeviceKey(BaseModel):
    """The device's newest key, in KMIP's words."""

    state: str
    version: int


class Header(BaseModel):
    """The LUKS2 header that the device opens with (SHA-256, hexadecimal)."""

    digest: str
    changing: bool = Field(
        description="whether its machine may be changing key slots: then only the volume key counts"
    )
    refused: str | None = Field(
        description="the header that was presented last and refused; see `:accept-header`"
    )
    acceptable: bool = Field(
        description="whether the refused one can be accepted: an agent would open it"
    )
    copy_of: str | None = Field(
        description="the header of which the server has a copy; see `/devices/{name}/header`"
    )


class Device(BaseModel):
    """A device with what the server derives or has learnt."""

    name: str = NAME
    agent: str
    group: str | None
    policy: str | None
    effective_policy: str
    enabled: bool
    volume: Volume
    key: DeviceKey | None
    luks_uuid: str | None
    quarantined: bool
    first_seen_at: Time | None
    last_release_at: Time | None
    volume_state: str | None = Field(
        description="how the volume is on its machine, as far as it has told: `released` (its key"
        " went out, and no word has come back), `failed` (the key could not be used), `open`,"
        " `suspended` or `closed`"
    )
    volume_state_at: Time | None
    header: Header | None
    created_at: Time
    updated_at: Time


class Devices(BaseModel):
    """A page of devices."""

    items: list[Device]
    next_cursor: str | None


class Filters(Page):
    """Which devices are wanted."""

    agent: str | None = None
    group: str | None = None
    policy: str | None = None


class Deletion(Query):
    """How a device is deleted."""

    force: bool = Field(default=False, description="also one that its machine uses")


class Copy(Query):
    """How a copy is asked for."""

    stale: bool = Field(default=False, description="also one of a header that it had before")


class HeaderBody(Reason):
    """Which header is accepted."""

    digest: str = Field(description="the device's `header.refused`")


def show(report: DeviceReport) -> Device:
    """Return the device as the API shows it."""
    device, state, key = report.device, report.state, report.key
    return Device(
        name=device.name,
        agent=device.agent,
        group=device.group,
        policy=device.policy,
        effective_policy=report.effective_policy,
        enabled=device.enabled,
        volume=Volume(**device.volume),
        key=DeviceKey(state=key.state, version=key.version) if key else None,
        luks_uuid=state.luks_uuid,
        quarantined=state.quarantined,
        first_seen_at=time_or_none(state.first_seen_at),
        last_release_at=time_or_none(state.last_release_at),
        volume_state=state.volume_state,
        volume_state_at=time_or_none(state.volume_state_at),
        header=_header(state),
        created_at=time(device.created_at),
        updated_at=time(device.updated_at),
    )


def _header(state: DeviceState) -> Header | None:
    if state.header is None:
        return None
    refused, kept = state.header_refused, state.header_kept
    return Header(
        digest=state.header.hex(),
        changing=state.header_changing,
        refused=refused.hex() if refused else None,
        acceptable=refused is not None and state.volume_key_refused is not None,
        copy_of=kept.hex() if kept else None,
    )


def devices(api: APIBlueprint, service: DeviceService) -> APIBlueprint:
    """Add the resource."""

    @api.get("/devices", summary="List devices", responses={200: Devices})
    def list_devices(query: Filters) -> Response:
        filters = {"agent": query.agent, "group": query.group, "policy": query.policy}
        found = service.page(caller(), part(query), filters)
        return listing(query, found, show, lambda report: report.device.name)

    @api.get("/devices/<name>", summary="Read a device", responses={200: Device})
    def get_device(path: Name) -> Response:
        report = service.get(caller(), path.name)
        return answer(show(report), tag(report.device), complete=False)

    @api.put("/devices/<name>", summary="Register or replace", responses={200: Device, 201: Device})
    def put_device(path: Name, body: DeviceBody) -> Response:
        text = DeviceText(
            agent=body.agent,
            volume=body.volume.model_dump(),
            group=body.group,
            policy=body.policy,
            enabled=body.enabled,
        )
        report, created = service.put(caller(), path.name, text, precondition())
        return answer(show(report), tag(report.device), created=created)

    @api.delete("/devices/<name>", summary="Delete device and key", responses={204: None})
    def delete_device(path: Name, query: Deletion) -> Response:
        service.delete(caller(), path.name, precondition(), force=query.force)
        return no_content()

    @api.post(
        "/devices/<string:name>:clear-quarantine",
        summary="Let a quarantined device start a new lineage",
        responses={200: Device},
    )
    def clear_quarantine(path: Name, body: Reason) -> Response:
        report = service.clear_quarantine(caller(), path.name, body.reason)
        return answer(show(report), tag(report.device), complete=False)

    @api.get(
        "/devices/<name>/header",
        summary="The copy of its LUKS header",
        responses={200: {"content": {_OCTETS: {"schema": {"type": "string"}}}}},
    )
    def get_device_header(path: Name, query: Copy) -> Response:
        header = service.header(caller(), path.name, stale=query.stale)
        return Response(header, mimetype=_OCTETS)

    @api.post(
        "/devices/<string:name>:accept-header",
        summary="Accept the LUKS header that was refused",
        responses={200: Device},
    )
    def accept_header(path: Name, body: HeaderBody) -> Response:
        report = service.accept_header(caller(), path.name, body.digest, body.reason)
        return answer(show(report), tag(report.device), complete=False)

    return api
