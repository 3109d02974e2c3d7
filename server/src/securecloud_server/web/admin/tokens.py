"""`/tokens`: API tokens of people and programs."""

from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from securecloud_server.domain.records import ApiToken
from securecloud_server.services.api_tokens import ApiTokenService, state, tag
from securecloud_server.web.admin.models import (
    Body,
    Id,
    Page,
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

Role = Literal[
    "account_administrator", "security_administrator", "auditor", "data_analyst", "key_approver"
]


class TokenBody(Body):
    """For whom, with which role, and for how long (seconds; null: until it is revoked)."""

    name: str = Field(description="one line of 1 to 100 characters")
    role: Role
    expires_in: int | None = Field(default=None, ge=60, le=31_536_000)


class Token(BaseModel):
    """A token without its text."""

    id: str
    name: str
    role: str
    state: str = Field(description="active, expired or revoked")
    created_at: Time
    expires_at: Time | None
    origin: str = Field(
        description="id of the token of the command line that it descends from; empty: unknown"
    )


class NewToken(Token):
    """A fresh token; its text is shown here and never again."""

    token: str


class Tokens(BaseModel):
    """A page of tokens."""

    items: list[Token]
    next_cursor: str | None


def tokens(api: APIBlueprint, service: ApiTokenService) -> APIBlueprint:
    """Add the resource."""

    def show(token: ApiToken) -> Token:
        return Token(
            id=token.token_id,
            name=token.name,
            role=token.role,
            state=state(token, service.now()),
            created_at=time(token.created_at),
            expires_at=time_or_none(token.expires_at),
            origin=token.origin,
        )

    def answered(shown: Token, record: ApiToken, *, created: bool = False) -> Response:
        return answer(shown, tag(record, service.now()), created=created)

    @api.get("/tokens", summary="List API tokens", responses={200: Tokens})
    def list_tokens(query: Page) -> Response:
        found = service.page(caller(), part(query))
        return listing(query, found, show, lambda token: token.token_id)

    @api.post("/tokens", summary="Mint an API token", responses={201: NewToken})
    def create_token(body: TokenBody) -> Response:
        record, text = service.create(caller(), body.name, body.role, body.expires_in)
        return answered(NewToken(**show(record).model_dump(), token=text), record, created=True)

    @api.get("/tokens/<id>", summary="Read an API token", responses={200: Token})
    def get_token(path: Id) -> Response:
        record = service.get(caller(), path.id)
        return answered(show(record), record)

    @api.delete("/tokens/<id>", summary="Revoke an API token", responses={204: None})
    def revoke_token(path: Id) -> Response:
        service.revoke(caller(), path.id, precondition())
        return no_content()

    return api
