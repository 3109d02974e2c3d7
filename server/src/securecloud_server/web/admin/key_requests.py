"""`/key-requests`: what machines asked for, and people's decisions."""

from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field, WithJsonSchema

from securecloud_server.domain.records import KeyRequest as KeyRequestRecord
from securecloud_server.domain.records import Transition as TransitionRecord
from securecloud_server.services.key_requests import KeyRequestService
from securecloud_server.web.admin.models import (
    Id,
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

State = Literal["pending", "approved", "denied", "delivered", "revoked", "expired"]
Anything = Annotated[Any, WithJsonSchema({})]


class Rule(BaseModel):
    """One rule beside the machine's value."""

    path: str
    rule: Anything
    passed: bool
    value: Anything
    provenance: str | None
    explanation: str


class Transition(BaseModel):
    """One step in the life of a request."""

    at: Time
    from_: str | None = Field(alias="from")
    to: str
    actor: str
    reason: str


class KeyRequest(BaseModel):
    """One machine's request for one device's key. `due_at`: when it approves itself."""

    id: str
    device: str
    agent: str
    state: State
    policy: str
    policy_version: int
    matched: bool
    decided_by: str | None
    reason: str
    rules: list[Rule]
    created_at: Time
    updated_at: Time
    due_at: Time | None
    expires_at: Time | None
    transitions: list[Transition]


class KeyRequests(BaseModel):
    """A page of requests, newest first."""

    items: list[KeyRequest]
    next_cursor: str | None


class Filters(Page):
    """Which requests are wanted."""

    state: State | None = None
    device: str | None = None
    agent: str | None = None


def show(request: KeyRequestRecord) -> KeyRequest:
    """Return the request as the API shows it."""
    return KeyRequest(
        id=request.request_id,
        device=request.device,
        agent=request.agent,
        state=request.state,  # type: ignore[arg-type]  # one of State, says domain/requests.py
        policy=request.policy,
        policy_version=request.policy_version,
        matched=request.matched,
        decided_by=request.decided_by,
        reason=request.reason,
        rules=[Rule(**rule) for rule in request.rules],
        created_at=time(request.created_at),
        updated_at=time(request.updated_at),
        due_at=time_or_none(request.due_at),
        expires_at=time_or_none(request.expires_at),
        transitions=[_step(step) for step in request.transitions],
    )


def _step(step: TransitionRecord) -> Transition:
    at = time(step.at)
    return Transition.model_validate(
        {"at": at, "from": step.old, "to": step.new, "actor": step.actor, "reason": step.reason}
    )


def _answer(request: KeyRequestRecord) -> Response:
    shown = show(request)
    return answer(shown, content_tag(shown))


def key_requests(api: APIBlueprint, service: KeyRequestService) -> APIBlueprint:
    """Add the resource."""

    @api.get("/key-requests", summary="List key requests", responses={200: KeyRequests})
    def list_key_requests(query: Filters) -> Response:
        filters = {"state": query.state, "device": query.device, "agent": query.agent}
        found = service.page(caller(), part(query), filters)
        return listing(query, found, show, lambda request: request.request_id)

    @api.get("/key-requests/<id>", summary="Read a key request", responses={200: KeyRequest})
    def get_key_request(path: Id) -> Response:
        return _answer(service.get(caller(), path.id))

    @api.post("/key-requests/<string:id>:approve", summary="Approve", responses={200: KeyRequest})
    def approve_key_request(path: Id, body: Reason) -> Response:
        return _answer(service.approve(caller(), path.id, body.reason))

    @api.post("/key-requests/<string:id>:deny", summary="Deny", responses={200: KeyRequest})
    def deny_key_request(path: Id, body: Reason) -> Response:
        return _answer(service.deny(caller(), path.id, body.reason))

    return api
