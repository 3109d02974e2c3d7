"""`/policies`: reviewed text, with every version."""

from typing import Annotated, Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from securecloud_server.domain.errors import FieldError, Invalid
from securecloud_server.domain.offline import (
    LAST_PCR,
    LONGEST_PERIOD,
    MOST_BOOTS,
    NEVER,
    SHORTEST_PERIOD,
)
from securecloud_server.domain.records import PolicyText
from securecloud_server.services.exchange_situation import DEFAULT_POLICY
from securecloud_server.services.policies import PolicyService, tag
from securecloud_server.web.admin.models import (
    NAME,
    Name,
    Page,
    Time,
    answer,
    decode_cursor,
    listing,
    no_content,
    part,
    precondition,
    sequence,
    time,
)
from securecloud_server.web.auth import caller

_RULES = WithJsonSchema({"anyOf": [{"type": "array"}, {"type": "object"}]})
_ACTION = WithJsonSchema(
    {
        "type": "object",
        "properties": {
            "action": {"enum": ["approve", "approve_after", "manual", "deny"]},
            "delay": {"type": "integer", "description": "seconds, with approve_after"},
        },
        "required": ["action"],
    }
)
_TEXT = WithJsonSchema({"type": "string", "maxLength": 1000})
_GRACE_SECONDS = {"type": "integer", "minimum": 0, "maximum": 604_800}
_GRACE = WithJsonSchema(
    {
        "type": "object",
        "description": "how long an open volume may stay so after it is denied; none with period 0",
        "properties": {
            "period": {
                "type": "integer",
                "minimum": 0,
                "maximum": 604800,
                "description": "seconds",
            },
            "postpone": {
                "type": "integer",
                "minimum": 0,
                "maximum": 604800,
                "default": 0,
                "description": "seconds by which people on the machine may move its end, in all",
            },
        },
        "required": ["period"],
        "additionalProperties": False,
    }
)
_OFFLINE = WithJsonSchema(
    {
        "type": "object",
        "description": (
            "whether machines may keep the key, sealed by their TPM, for boots in which no server"
            " can be reached; never with period 0"
        ),
        "properties": {
            "period": {
                "type": "integer",
                "minimum": 0,
                "maximum": LONGEST_PERIOD,
                "description": f"seconds since the last release: 0, or at least {SHORTEST_PERIOD}",
            },
            "boots": {
                "type": "integer",
                "minimum": 1,
                "maximum": MOST_BOOTS,
                "default": NEVER.boots,
                "description": "boots since the last release",
            },
            "pcrs": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": LAST_PCR},
                "minItems": 1,
                "maxItems": LAST_PCR + 1,
                "uniqueItems": True,
                "default": list(NEVER.pcrs),
                "description": "PCRs of the SHA-256 bank that must be as at the last release",
            },
        },
        "required": ["period"],
        "additionalProperties": False,
    }
)
_FLAG = WithJsonSchema({"type": "boolean"})


class PolicyBody(BaseModel):
    """A policy's text. Its fields are checked by the policy compiler, which names them all."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})

    description: Annotated[Any, _TEXT] = ""
    rules: Annotated[Any, _RULES] = []
    on_match: Annotated[Any, _ACTION] = {"action": "manual"}
    on_fail: Annotated[Any, _ACTION] = {"action": "manual"}
    force: Annotated[Any, _FLAG] = False
    grace: Annotated[Any, _GRACE] = {"period": 0, "postpone": 0}
    offline: Annotated[Any, _OFFLINE] = NEVER.to_document()


class Policy(BaseModel):
    """One version of a policy. `digest`: SHA-256 of its normalised text, in hex."""

    name: str = NAME
    description: str
    rules: Annotated[Any, _RULES]
    on_match: Annotated[Any, _ACTION]
    on_fail: Annotated[Any, _ACTION]
    force: bool
    grace: Annotated[Any, _GRACE] = {"period": 0, "postpone": 0}
    offline: Annotated[Any, _OFFLINE] = NEVER.to_document()
    version: int
    digest: str
    default: bool
    created_at: Time
    updated_at: Time


class Policies(BaseModel):
    """A page of policies."""

    items: list[Policy]
    next_cursor: str | None = Field(description="null at the end")


def draft_text(body: PolicyBody) -> dict[str, Any]:
    """Return the text of a policy as it came, for the compiler."""
    return {**body.__dict__, **(body.model_extra or {})}


def show(policy: PolicyText) -> Policy:
    """Return the policy as the API shows it."""
    return Policy(
        **policy.text,
        name=policy.name,
        version=policy.version,
        digest=policy.digest,
        default=policy.name == DEFAULT_POLICY,
        created_at=time(policy.created_at),
        updated_at=time(policy.updated_at),
    )


def policies(api: APIBlueprint, service: PolicyService) -> APIBlueprint:
    """Add the resource."""

    @api.get("/policies", summary="List policies", responses={200: Policies})
    def list_policies(query: Page) -> Response:
        return listing(query, service.page(caller(), part(query)), show, lambda p: p.name)

    @api.get("/policies/<name>", summary="Read a policy", responses={200: Policy})
    def get_policy(path: Name) -> Response:
        policy = service.get(caller(), path.name)
        return answer(show(policy), tag(policy))

    @api.get("/policies/<name>/versions", summary="Every version", responses={200: Policies})
    def list_policy_versions(path: Name, query: Page) -> Response:
        before = sequence(decode_cursor(query.cursor))
        versions = service.versions(caller(), path.name)
        older = [policy for policy in versions if before is None or policy.version < before]
        return listing(query, older, show, lambda p: p.version)

    @api.put("/policies/<name>", summary="Create or replace", responses={200: Policy, 201: Policy})
    def put_policy(path: Name, body: PolicyBody) -> Response:
        text = draft_text(body)
        if text.get("name", path.name) != path.name:
            expected = f"{path.name}, as in the URL"
            raise Invalid([FieldError("name", expected, f"expected {expected}")])
        policy, created = service.put(caller(), path.name, text, precondition())
        return answer(show(policy), tag(policy), created=created)

    @api.delete("/policies/<name>", summary="Delete a policy", responses={204: None})
    def delete_policy(path: Name) -> Response:
        service.delete(caller(), path.name, precondition())
        return no_content()

    return api
