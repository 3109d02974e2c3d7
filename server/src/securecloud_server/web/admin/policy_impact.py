"""`/policies/{name}:evaluate`: what a draft would change, by the machines' last evidence."""

from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field, WithJsonSchema

from securecloud_server.domain.evaluation import Action
from securecloud_server.services import policy_impact as model
from securecloud_server.services.policy_replay import Impact, PolicyReplay, Selection
from securecloud_server.web.admin.models import NAME, Body, Name, Time, answer, time
from securecloud_server.web.admin.policies import PolicyBody, draft_text
from securecloud_server.web.auth import caller

Anything = Annotated[Any, WithJsonSchema({})]
Names = Annotated[list[str], Field(max_length=1000)]


class Evaluate(Body):
    """What to replay. Without a draft, the policy in effect; without a selection, all devices."""

    draft: PolicyBody | None = Field(default=None, description="the policy as it might be put")
    groups: Names | None = Field(default=None, description="devices of these groups")
    devices: Names | None = Field(default=None, description="these devices")


class ReplayedAction(BaseModel):
    """What a policy wants done; `delay` in seconds."""

    action: str
    delay: int | None


class Fate(BaseModel):
    """What a policy means for a device; null is what cannot be told.

    `outcome` and `code`: what its machine would be told if it asked for its key after a boot.
    `stays_open`: whether it would keep its volume at its next check.
    """

    outcome: Literal["granted", "pending", "denied", "unknown"]
    code: str | None
    reason: str
    stays_open: bool | None
    matched: bool | None
    action: ReplayedAction | None


class ResponsibleRule(BaseModel):
    """A rule that makes the difference, beside the machine's value; `passed` null: not told."""

    policy: Literal["stored", "draft"]
    path: str
    rule: str
    passed: bool | None
    value: Anything
    provenance: str | None
    explanation: str


class Evidence(BaseModel):
    """The evidence on which a device's fate was replayed; `age` in seconds."""

    seen_at: Time
    age: int
    since: Time
    session_id: str
    key_request: str | None
    audit_event: int
    outcome: str
    code: str


class DeviceImpact(BaseModel):
    """What the draft does to one device. Without evidence there is neither before nor after."""

    device: str
    agent: str
    group: str | None
    effect: Literal["lose", "unknown", "no_evidence", "changed", "gain", "unchanged"]
    may_lose: bool
    before: Fate | None
    after: Fate | None
    rules: list[ResponsibleRule]
    evidence: Evidence | None


class Totals(BaseModel):
    """How many devices there are, of each effect, and how many may lose their key."""

    devices: int
    may_lose: int
    lose: int
    unknown: int
    no_evidence: int
    changed: int
    gain: int
    unchanged: int


class PolicyImpact(BaseModel):
    """What a draft does. `version`: the policy in effect, null when there is none yet."""

    policy: str = NAME
    version: int | None
    changed: bool = Field(description="whether the draft differs from the policy in effect")
    evaluated_at: Time
    totals: Totals
    devices: list[DeviceImpact]


def show(impact: Impact) -> PolicyImpact:
    """Return the impact as the API shows it."""
    return PolicyImpact(
        policy=impact.policy,
        version=impact.version,
        changed=impact.is_other,
        evaluated_at=time(impact.at),
        totals=Totals(**impact.totals()),
        devices=[_device(device, impact.at) for device in impact.devices],
    )


def _device(device: model.DeviceImpact, now: int) -> DeviceImpact:
    return DeviceImpact(
        device=device.device,
        agent=device.agent,
        group=device.group,
        effect=device.effect.value,
        may_lose=device.may_lose,
        before=_fate(device.before),
        after=_fate(device.after),
        rules=[_rule(rule) for rule in device.rules],
        evidence=_evidence(device, now),
    )


def _fate(fate: model.Fate | None) -> Fate | None:
    if fate is None:
        return None
    return Fate(
        outcome=fate.outcome,  # type: ignore[arg-type]  # one of them, says services/policy_impact.py
        code=fate.code,
        reason=fate.reason,
        stays_open=fate.stays_open,
        matched=fate.matched,
        action=_action(fate.action),
    )


def _action(action: Action | None) -> ReplayedAction | None:
    return None if action is None else ReplayedAction(action=action.kind.value, delay=action.delay)


def _rule(rule: model.Responsible) -> ResponsibleRule:
    document = rule.result.to_document()
    passed = document["passed"] if rule.told else None
    return ResponsibleRule(**{**document, "passed": passed, "policy": rule.policy})


def _evidence(device: model.DeviceImpact, now: int) -> Evidence | None:
    seen = device.sighting
    if seen is None:
        return None
    return Evidence(
        seen_at=time(seen.last_at),
        age=max(0, now - seen.last_at),
        since=time(seen.first_at),
        session_id=seen.session_id.hex(),
        key_request=seen.request_id,
        audit_event=seen.seq,
        outcome=seen.outcome,
        code=seen.code,
    )


def policy_impact(api: APIBlueprint, service: PolicyReplay) -> APIBlueprint:
    """Add the act."""

    @api.post(
        "/policies/<string:name>:evaluate",
        summary="Replay a draft on the last evidence",
        responses={200: PolicyImpact},
    )
    def evaluate_policy(path: Name, body: Evaluate) -> Response:
        draft = None if body.draft is None else draft_text(body.draft)
        selection = Selection(body.groups, body.devices)
        return answer(show(service.evaluate(caller(), path.name, draft, selection)))

    return api
