"""`/enrollment-tokens`: one-use rights to enrol one agent name."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from securecloud_server.domain.records import EnrolmentTokenRecord
from securecloud_server.services.enrollment_tokens import EnrollmentTokenService, state, tag
from securecloud_server.web.admin.models import (
    NAME,
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
)
from securecloud_server.web.auth import caller


class EnrollmentTokenBody(Body):
    """For which agent, and for how long (seconds)."""

    agent_name: str = NAME
    expires_in: int = Field(default=3600, ge=60, le=2_592_000)


class EnrollmentToken(BaseModel):
    """A token without its text."""

    id: str
    agent_name: str
    state: str = Field(description="unused, used, expired or revoked")
    expires_at: Time


class NewEnrollmentToken(EnrollmentToken):
    """A fresh token; its text is shown here and never again."""

    token: str


class EnrollmentTokens(BaseModel):
    """A page of tokens."""

    items: list[EnrollmentToken]
    next_cursor: str | None


class Filters(Page):
    """Which tokens are wanted."""

    agent_name: str | None = None


def enrollment_tokens(api: APIBlueprint, service: EnrollmentTokenService) -> APIBlueprint:
    """Add the resource."""

    def show(token: EnrolmentTokenRecord) -> EnrollmentToken:
        return EnrollmentToken(
            id=token.token_id,
            agent_name=token.agent_name,
            state=state(token, service.now()),
            expires_at=time(token.expires_at),
        )

    def answered(
        shown: EnrollmentToken, record: EnrolmentTokenRecord, *, created: bool = False
    ) -> Response:
        return answer(shown, tag(record, service.now()), created=created)

    @api.get("/enrollment-tokens", summary="List tokens", responses={200: EnrollmentTokens})
    def list_enrollment_tokens(query: Filters) -> Response:
        found = service.page(caller(), part(query), {"agent_name": query.agent_name})
        return listing(query, found, show, lambda token: token.token_id)

    @api.post("/enrollment-tokens", summary="Mint a token", responses={201: NewEnrollmentToken})
    def create_enrollment_token(body: EnrollmentTokenBody) -> Response:
        record, text = service.create(caller(), body.agent_name, body.expires_in)
        return answered(
            NewEnrollmentToken(**show(record).model_dump(), token=text), record, created=True
        )

    @api.get("/enrollment-tokens/<id>", summary="Read", responses={200: EnrollmentToken})
    def get_enrollment_token(path: Id) -> Response:
        record = service.get(caller(), path.id)
        return answered(show(record), record)

    @api.delete("/enrollment-tokens/<id>", summary="Revoke a token", responses={204: None})
    def revoke_enrollment_token(path: Id) -> Response:
        service.revoke(caller(), path.id, precondition())
        return no_content()

    return api
