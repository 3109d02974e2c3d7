"""`/server`: which server this is, and what it stands on."""

from collections.abc import Callable
from dataclasses import dataclass

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel

from securecloud_server.web.admin.models import Time, answer, time


@dataclass(frozen=True, slots=True)
class About:
    """What the application knows of itself; `now` in seconds since 1970."""

    version: str
    server_id: str
    fingerprint: str
    now: int
    keystore: str
    keystore_state: str
    storage: str
    schema_version: int


class Keystore(BaseModel):
    """The keystore; its state is `ready`, or says what is wrong."""

    type: str
    state: str


class Storage(BaseModel):
    """The database."""

    type: str
    schema_version: int


class Server(BaseModel):
    """The server."""

    version: str
    server_id: str
    fingerprint: str
    time: Time
    keystore: Keystore
    storage: Storage


def server(api: APIBlueprint, about: Callable[[], About]) -> APIBlueprint:
    """Add the resource."""

    @api.get("/server", summary="This server", responses={200: Server})
    def get_server() -> Response:
        it = about()
        return answer(
            Server(
                version=it.version,
                server_id=it.server_id,
                fingerprint=it.fingerprint,
                time=time(it.now),
                keystore=Keystore(type=it.keystore, state=it.keystore_state),
                storage=Storage(type=it.storage, schema_version=it.schema_version),
            )
        )

    return api
