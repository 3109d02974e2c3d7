"""`/keys/<device>`: the life of a device's key. No path of this API ever shows a key in plain."""

from collections.abc import Callable

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from securecloud_server.domain.keys import KeyLife
from securecloud_server.domain.records import Actor
from securecloud_server.domain.records import Key as KeyRecord
from securecloud_server.services.keys import KeyService
from securecloud_server.web.admin.models import (
    NAME,
    Reason,
    Time,
    answer,
    content_tag,
    time,
    time_or_none,
)
from securecloud_server.web.auth import caller

Step = Callable[[Actor, str, str], KeyLife]


class DeviceName(BaseModel):
    """The device's name in the path."""

    device: str = NAME


class Successor(BaseModel):
    """The version that is to replace the one in use, once its machine has put it in its place."""

    version: int
    created_at: Time


class Key(BaseModel):
    """The version of a device's key that is in use (KMIP 2.1, section 4.57)."""

    device: str
    version: int
    state: str = Field(description="pre_active, active, deactivated or destroyed")
    created_at: Time
    activated_at: Time | None
    deactivated_at: Time | None
    destroyed_at: Time | None
    successor: Successor | None


def show(device: str, life: KeyLife) -> Key:
    """Return the key's state as the API shows it."""
    key, successor = life.current, life.successor
    return Key(
        device=device,
        version=key.version,
        state=key.state,
        created_at=time(key.created_at),
        activated_at=time_or_none(key.activated_at),
        deactivated_at=time_or_none(key.deactivated_at),
        destroyed_at=time_or_none(key.destroyed_at),
        successor=_following(successor) if successor else None,
    )


def _following(key: KeyRecord) -> Successor:
    return Successor(version=key.version, created_at=time(key.created_at))


def keys(api: APIBlueprint, service: KeyService) -> APIBlueprint:
    """Add the resource."""

    @api.get("/keys/<device>", summary="Read a key's state", responses={200: Key})
    def get_key(path: DeviceName) -> Response:
        return _answer(path.device, service.get(caller(), path.device))

    @api.post("/keys/<string:device>:revoke", summary="Deactivate a key", responses={200: Key})
    def revoke_key(path: DeviceName, body: Reason) -> Response:
        return _stepped(service.revoke, path.device, body)

    @api.post("/keys/<string:device>:restore", summary="Activate a key again", responses={200: Key})
    def restore_key(path: DeviceName, body: Reason) -> Response:
        return _stepped(service.restore, path.device, body)

    @api.post(
        "/keys/<string:device>:rotate", summary="Begin to replace a key", responses={200: Key}
    )
    def rotate_key(path: DeviceName, body: Reason) -> Response:
        return _stepped(service.rotate, path.device, body)

    @api.post(
        "/keys/<string:device>:cancel-rotation",
        summary="Give up a rotation",
        responses={200: Key},
    )
    def cancel_key_rotation(path: DeviceName, body: Reason) -> Response:
        return _stepped(service.cancel, path.device, body)

    @api.post("/keys/<string:device>:destroy", summary="Erase a key for good", responses={200: Key})
    def destroy_key(path: DeviceName, body: Reason) -> Response:
        return _stepped(service.destroy, path.device, body)

    return api


def _stepped(step: Step, device: str, body: Reason) -> Response:
    return _answer(device, step(caller(), device, body.reason))


def _answer(device: str, life: KeyLife) -> Response:
    shown = show(device, life)
    return answer(shown, content_tag(shown))
