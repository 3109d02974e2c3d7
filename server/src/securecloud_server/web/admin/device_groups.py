"""`/device-groups`: devices that share a policy."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from securecloud_server.domain.records import DeviceGroup
from securecloud_server.services.device_groups import DeviceGroupService, GroupText, tag
from securecloud_server.web.admin.models import (
    NAME,
    Body,
    Name,
    Page,
    answer,
    listing,
    no_content,
    part,
    precondition,
)
from securecloud_server.web.auth import caller


class GroupBody(Body):
    """What an administrator says of a group."""

    description: str = ""
    policy: str | None = Field(default=None, description="null: the default policy")


class Group(BaseModel):
    """A device group."""

    name: str = NAME
    description: str
    policy: str | None


class Groups(BaseModel):
    """A page of device groups."""

    items: list[Group]
    next_cursor: str | None


def show(group: DeviceGroup) -> Group:
    """Return the group as the API shows it."""
    return Group(name=group.name, description=group.description, policy=group.policy)


def device_groups(api: APIBlueprint, service: DeviceGroupService) -> APIBlueprint:
    """Add the resource."""

    @api.get("/device-groups", summary="List device groups", responses={200: Groups})
    def list_device_groups(query: Page) -> Response:
        return listing(query, service.page(caller(), part(query)), show, lambda g: g.name)

    @api.get("/device-groups/<name>", summary="Read a device group", responses={200: Group})
    def get_device_group(path: Name) -> Response:
        group = service.get(caller(), path.name)
        return answer(show(group), tag(group))

    @api.put(
        "/device-groups/<name>", summary="Create or replace", responses={200: Group, 201: Group}
    )
    def put_device_group(path: Name, body: GroupBody) -> Response:
        text = GroupText(body.description, body.policy)
        group, created = service.put(caller(), path.name, text, precondition())
        return answer(show(group), tag(group), created=created)

    @api.delete("/device-groups/<name>", summary="Delete a device group", responses={204: None})
    def delete_device_group(path: Name) -> Response:
        service.delete(caller(), path.name, precondition())
        return no_content()

    return api
