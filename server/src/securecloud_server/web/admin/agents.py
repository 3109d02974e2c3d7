"""`/agents`: machines that have enrolled, and checks that are asked of them."""

import hashlib
from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field
from securecloud_protocol.encoding import b64u_encode

from securecloud_server.services.agents import AgentReport, AgentService, tag
from securecloud_server.web.admin.models import (
    NAME,
    Name,
    Nothing,
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


class Agent(BaseModel):
    """An agent. `identity_fingerprint`: SHA-256 of its public identity key, base64url."""

    name: str = NAME
    agent_id: str
    identity_fingerprint: str
    state: str = Field(description="active or retired")
    enrolled_at: Time
    last_seen_at: Time | None = Field(description="when it was judged last")
    last_source: str | None = Field(description="the address it last spoke from")
    version: str | None
    check_requested_at: Time | None = Field(description="when somebody last asked for a check")
    check_answered_at: Time | None = Field(
        description="when it was judged on that; null while it is awaited"
    )


class Agents(BaseModel):
    """A page of agents."""

    items: list[Agent]
    next_cursor: str | None


class Filters(Page):
    """Which agents are wanted."""

    state: Literal["active", "retired"] | None = None


def show(report: AgentReport) -> Agent:
    """Return the agent as the API shows it."""
    agent, check = report.agent, report.check
    return Agent(
        name=agent.name,
        agent_id=agent.agent_id,
        identity_fingerprint=b64u_encode(hashlib.sha256(agent.identity_key).digest()),
        state=agent.state,
        enrolled_at=time(agent.enrolled_at),
        last_seen_at=time_or_none(agent.last_seen_at),
        last_source=agent.last_source,
        version=agent.version,
        check_requested_at=time(check.requested_at) if check else None,
        check_answered_at=time_or_none(check.answered_at) if check else None,
    )


def agents(api: APIBlueprint, service: AgentService) -> APIBlueprint:
    """Add the resource."""

    @api.get("/agents", summary="List agents", responses={200: Agents})
    def list_agents(query: Filters) -> Response:
        found = service.page(caller(), part(query), {"state": query.state})
        return listing(query, found, show, lambda report: report.agent.name)

    @api.get("/agents/<name>", summary="Read an agent", responses={200: Agent})
    def get_agent(path: Name) -> Response:
        report = service.get(caller(), path.name)
        return answer(show(report), tag(report.agent), complete=False)

    @api.delete("/agents/<name>", summary="Retire an agent", responses={204: None})
    def retire_agent(path: Name) -> Response:
        service.retire(caller(), path.name, precondition())
        return no_content()

    @api.post("/agents/<string:name>:check", summary="Ask for a check", responses={200: Agent})
    def check_agent(path: Name, body: Nothing) -> Response:  # noqa: ARG001 - read for its strictness
        report = service.check(caller(), path.name)
        return answer(show(report), tag(report.agent), complete=False)

    return api
