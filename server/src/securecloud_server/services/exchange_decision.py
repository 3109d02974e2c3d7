"""Decides on one device: pure, from what is known and claimed to a verdict with its reasons.

The order is: is the key usable at all, is this the machine we knew, what does the policy want, and
what has been decided in this boot already.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace

from securecloud_protocol import messages as wire

from securecloud_server.domain import requests as life
from securecloud_server.domain.keys import USABLE
from securecloud_server.domain.policy import ActionKind
from securecloud_server.domain.records import Key, KeyRequest
from securecloud_server.services.exchange_evidence import Judgement
from securecloud_server.services.exchange_headers import fits
from securecloud_server.services.exchange_situation import DeviceView, compiled

_RELEASING = frozenset({ActionKind.APPROVE, ActionKind.APPROVE_AFTER})


@dataclass(frozen=True, slots=True)
class Case:
    """One device's turn in one exchange.

    `new_id` makes a request id that sorts behind the one given. Times are in seconds.
    """

    view: DeviceView
    claim: wire.DeviceClaim
    boot_id: str
    judgement: Judgement
    now: int
    pending_retry: int
    approval_lifetime: int
    new_id: Callable[[str | None], str]

    @property
    def decider(self) -> str:
        """Return the actor's name when the policy itself decides."""
        return f"policy:{self.view.policy.name}"

    @property
    def header_fits(self) -> bool:
        """Whether the LUKS2 header on the disk may be given a key, as far as it can be seen."""
        return fits(self.view.state, self.claim.header)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one device, and what is to be stored with it.

    `changed` are the key requests to store; `request` is the one that the answer refers to.
    `successor` is the key that goes out beside the present one, to replace it.
    """

    case: Case
    outcome: str
    code: str
    reason: str
    request: KeyRequest | None = None
    changed: tuple[KeyRequest, ...] = ()
    retry_after: int | None = None
    quarantines: bool = False
    successor: Key | None = None

    @property
    def releases(self) -> bool:
        """Whether a key goes out with this verdict."""
        return self.code == "approved"


def decide(case: Case) -> Verdict:
    """Return the verdict on one device."""
    barred = _barred(case)
    if barred is not None:
        return barred
    match case.claim.want:
        case "check":
            return _check(case)
        case "renew":
            return _renewal(_check(case))
        case _:
            return _release(case) if case.header_fits else _changed(case)


def unavailable(verdict: Verdict, cause: str) -> Verdict:
    """Return the verdict for a device whose key cannot be fetched now: ask again.

    What is open needs none to stay so.
    """
    case = verdict.case
    if case.claim.want == "renew":
        return replace(verdict, code="checked")
    return Verdict(case, "pending", "unavailable", cause, retry_after=case.pending_retry)


def grace_of(verdict: Verdict) -> wire.Grace | None:
    """Return how long what is open may stay so; only a policy or a person leaves time.

    Whoever revokes a key, switches a device off or sees a clone wants it closed now.
    """
    if verdict.case.claim.want == "key" or verdict.code not in wire.GRACEFUL_CODES:
        return None
    grace = compiled(verdict.case.view.policy).grace
    return wire.Grace(grace.period, grace.postpone) if grace.period else None


def offline_of(verdict: Verdict) -> wire.Offline | None:
    """Return for how long the machine may keep its key for boots without a server.

    Only where the policy approves by itself, now: what a person approved was for this boot.
    """
    judgement = verdict.case.judgement
    if verdict.outcome != "granted" or not judgement.matched:
        return None
    offline = compiled(verdict.case.view.policy).offline
    if not offline.period or judgement.action is not ActionKind.APPROVE:
        return None
    return wire.Offline(offline.period, offline.boots, offline.pcrs)


# Before any policy


def _barred(case: Case) -> Verdict | None:
    view = case.view
    if view.key is None or view.key.state not in USABLE:
        state = view.key.state if view.key else "missing"
        return Verdict(case, "denied", "revoked", f"the key is {state}")
    if not view.device.enabled:
        return Verdict(case, "denied", "disabled", "the device is disabled")
    if view.state.quarantined:
        return Verdict(case, "denied", "quarantined", "the device is quarantined")
    if not _lineage_fits(case):
        reason = "the machine presents a lineage that it cannot have: cloned or rolled back"
        return Verdict(case, "denied", "quarantined", reason, quarantines=True)
    return None


def _lineage_fits(case: Case) -> bool:
    """Whether this is the machine that got the last key, or none got one yet.

    Both the acknowledged value and the one handed out last are accepted: an answer may get lost.
    """
    state, presented = case.view.state, case.claim.lineage
    if presented is None:
        return state.lineage is None
    known = [value for value in (state.lineage, state.lineage_next) if value is not None]
    return not known or any(hmac.compare_digest(presented, value) for value in known)


def _changed(case: Case) -> Verdict:
    reason = "the LUKS header on the disk is not the one that the device opened with"
    return Verdict(case, "denied", "header_changed", reason)


# A running machine asks whether it would still get its key


def _check(case: Case) -> Verdict:
    request = _of_this_boot(case)
    if case.judgement.action is ActionKind.DENY:
        return _deny(case, request)
    if case.judgement.action in _RELEASING:
        return Verdict(case, "granted", "checked", "the policy still approves", request)
    changed = _superseded(case)
    if request is not None and request.state == life.DELIVERED and _stands(case, request):
        return Verdict(case, "granted", "checked", "the decision of this boot stands", request)
    if request is not None and request.state == life.APPROVED:
        if _stands(case, request) and not _expired(case, request):
            used = life.move(request, life.DELIVERED, case.decider, "checked", case.now)
            return Verdict(case, "granted", "checked", request.reason, used, (used,))
        request, changed = _withdrawn(case, request)
    return _manual(case, request, changed)


def _renewal(checked: Verdict) -> Verdict:
    """Return the verdict on a check, with the key once more where the machine has a use for it:
    where it may keep it, or is to replace it. What is open stays so whatever its disk looks like.
    """
    if checked.outcome != "granted" or not checked.case.header_fits:
        return checked
    useful = offline_of(checked) is not None or checked.case.view.successor is not None
    return replace(checked, code="approved") if useful else checked


# A machine asks for its key


def _release(case: Case) -> Verdict:
    request = _of_this_boot(case)
    if case.judgement.action is ActionKind.DENY:
        return _deny(case, request)
    changed = _superseded(case)
    if request is not None and request.state == life.APPROVED:
        if _stands(case, request) and not _expired(case, request):
            return Verdict(case, "granted", "approved", request.reason, request, changed)
        request, changed = _withdrawn(case, request)
    match case.judgement.action:
        case ActionKind.APPROVE:
            return _approve(case, request, changed, "the policy approves")
        case ActionKind.APPROVE_AFTER:
            return _delay(case, request, changed)
        case _:
            return _manual(case, request, changed)


def _approve(
    case: Case, request: KeyRequest | None, changed: tuple[KeyRequest, ...], reason: str
) -> Verdict:
    expires_at = case.now + case.approval_lifetime
    if request is None or request.state not in life.OPEN:
        approved = _new(case, life.APPROVED, reason, expires_at=expires_at)
    else:
        approved = life.move(
            _refreshed(case, request),
            life.APPROVED,
            case.decider,
            reason,
            case.now,
            expires_at=expires_at,
        )
    return Verdict(case, "granted", "approved", reason, approved, _with(changed, approved))


def _delay(case: Case, request: KeyRequest | None, changed: tuple[KeyRequest, ...]) -> Verdict:
    if request is not None and _rejects(case, request):
        return _rejected(case, request, changed)
    waiting = request is not None and request.state == life.PENDING and _stands(case, request)
    due_at = request.due_at if request is not None and waiting else None
    if request is not None and due_at is not None and due_at <= case.now:
        reason = f"the delay of {case.judgement.delay} s is over and the rules still hold"
        return _approve(case, request, changed, reason)
    reason = f"approval is delayed by {case.judgement.delay} s"
    due_at = due_at or case.now + case.judgement.delay
    pending = _pending(case, request, reason, due_at)
    retry = max(1, min(due_at - case.now, case.pending_retry))
    return Verdict(
        case, "pending", "delayed", reason, pending, _with(changed, pending), retry_after=retry
    )


def _manual(case: Case, request: KeyRequest | None, changed: tuple[KeyRequest, ...]) -> Verdict:
    if request is not None and _rejects(case, request):
        return _rejected(case, request, changed)
    reason = "a person has to decide"
    pending = _pending(case, request, reason, None)
    return Verdict(
        case,
        "pending",
        "approval_required",
        reason,
        pending,
        _with(changed, pending),
        retry_after=case.pending_retry,
    )


def _deny(case: Case, request: KeyRequest | None) -> Verdict:
    changed, reason = _superseded(case), "the policy denies"
    if request is not None and request.state in life.OPEN:
        denied = life.move(_refreshed(case, request), life.DENIED, case.decider, reason, case.now)
    elif request is not None and request.state == life.DENIED and _same(case, request):
        return Verdict(case, "denied", "policy", reason, request, changed)
    else:
        denied = _new(case, life.DENIED, reason)
    return Verdict(case, "denied", "policy", reason, denied, _with(changed, denied))


def _rejected(case: Case, request: KeyRequest, changed: tuple[KeyRequest, ...]) -> Verdict:
    return Verdict(case, "denied", "rejected", request.reason, request, changed)


# Requests


def _of_this_boot(case: Case) -> KeyRequest | None:
    request = case.view.request
    return request if request is not None and request.boot_id == case.boot_id else None


def _superseded(case: Case) -> tuple[KeyRequest, ...]:
    """Return the open request of an earlier boot, if any, as expired."""
    request = case.view.request
    if request is None or request.boot_id == case.boot_id or request.state not in life.OPEN:
        return ()
    reason = "the machine has booted since"
    return (life.move(request, life.EXPIRED, case.decider, reason, case.now),)


def _withdrawn(case: Case, request: KeyRequest) -> tuple[KeyRequest | None, tuple[KeyRequest, ...]]:
    """Take back an approval that no longer holds: expired, or for other circumstances."""
    if _expired(case, request):
        reason = "the approval was not used in time"
        return None, (life.move(request, life.EXPIRED, case.decider, reason, case.now),)
    reason = "the circumstances of the approval have changed"
    return life.move(request, life.PENDING, case.decider, reason, case.now), ()


def _expired(case: Case, request: KeyRequest) -> bool:
    return request.expires_at is not None and request.expires_at <= case.now


def _stands(case: Case, request: KeyRequest) -> bool:
    """Whether a decision on `request` holds now: the same policy and key, no further failures."""
    policy, key = case.view.policy, case.view.key
    return (
        life.covers(request, case.boot_id, case.judgement.failing)
        and (request.policy, request.policy_version) == (policy.name, policy.version)
        and key is not None
        and request.key_version == key.version
    )


def _same(case: Case, request: KeyRequest) -> bool:
    """Whether `request` was decided in just these circumstances."""
    return request.matched == case.judgement.matched and _stands(case, request)


def _rejects(case: Case, request: KeyRequest) -> bool:
    """Whether a person has denied this already."""
    by_person = not (request.decided_by or "").startswith("policy:")
    return request.state == life.DENIED and by_person and _same(case, request)


def _pending(case: Case, request: KeyRequest | None, reason: str, due_at: int | None) -> KeyRequest:
    """Return the open request brought up to date, or a new one."""
    if request is None or request.state != life.PENDING:
        return _new(case, life.PENDING, reason, due_at=due_at)
    if _same(case, request) and request.due_at == due_at:
        return request
    return life.move(
        _refreshed(case, request), life.PENDING, case.decider, reason, case.now, due_at=due_at
    )


def _refreshed(case: Case, request: KeyRequest) -> KeyRequest:
    policy, key = case.view.policy, case.view.key
    return replace(
        request,
        key_version=key.version if key else 0,
        policy=policy.name,
        policy_version=policy.version,
        matched=case.judgement.matched,
        failing=case.judgement.failing,
        rules=case.judgement.rules,
    )


def _new(
    case: Case,
    state: str,
    reason: str,
    *,
    due_at: int | None = None,
    expires_at: int | None = None,
) -> KeyRequest:
    view = case.view
    request = KeyRequest(
        request_id=case.new_id(view.request.request_id if view.request else None),
        device_id=view.device.device_id,
        device=view.device.name,
        agent=view.device.agent,
        boot_id=case.boot_id,
        key_version=view.key.version if view.key else 0,
        state=state,
        policy=view.policy.name,
        policy_version=view.policy.version,
        matched=case.judgement.matched,
        failing=case.judgement.failing,
        rules=case.judgement.rules,
        decided_by=None,
        reason=reason,
        created_at=case.now,
        updated_at=case.now,
        due_at=due_at,
        expires_at=expires_at,
    )
    return life.start(request, case.decider)


def _with(changed: tuple[KeyRequest, ...], request: KeyRequest) -> tuple[KeyRequest, ...]:
    return (*changed, request)
