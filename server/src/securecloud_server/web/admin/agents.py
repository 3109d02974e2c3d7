"""`/agents`: machines that have enrolled."""

import hashlib
from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field
from securecloud_protocol.encoding import b64u_encode

from securecloud_server.domain.records import Agent as AgentRecord
from securecloud_server.services.agents import AgentService, tag
from securecloud_server.web.admin.models import (
    NAME,
    Name,
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
    last_seen_at: Time | None
    last_source: str | None = Field(description="the address it last spoke from")
    version: str | None


class Agents(BaseModel):
    """A page of agents."""

    items: list[Agent]
    next_cursor: str | None


class Filters(Page):
    """Which agents are wanted."""

    state: Literal["active", "retired"] | None = None


def show(agent: AgentRecord) -> Agent:
    """Return the agent as the API shows it."""
    return Agent(
        name=agent.name,
        agent_id=agent.agent_id,
        identity_fingerprint=b64u_encode(hashlib.sha256(agent.identity_key).digest()),
        state=agent.state,
        enrolled_at=time(agent.enrolled_at),
        last_seen_at=time_or_none(agent.last_seen_at),
        last_source=agent.last_source,
        version=agent.version,
    )


def agents(api: APIBlueprint, service: AgentService) -> APIBlueprint:
    """Add the resource."""

    @api.get("/agents", summary="List agents", responses={200: Agents})
    def list_agents(query: Filters) -> Response:
        found = service.page(caller(), part(query), {"state": query.state})
        return listing(query, found, show, lambda agent: agent.name)

    @api.get("/agents/<name>", summary="Read an agent", responses={200: Agent})
    def get_agent(path: Name) -> Response:
        agent = service.get(caller(), path.name)
        return answer(show(agent), tag(agent), complete=False)

    @api.delete("/agents/<name>", summary="Retire an agent", responses={204: None})
    def retire_agent(path: Name) -> Response:
        service.retire(caller(), path.name, precondition())
        return no_content()

    return api
