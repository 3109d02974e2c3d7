"""The life of a key request: one table of transitions, and who may cause each."""

from dataclasses import replace

from securecloud_server.domain.errors import Conflict
from securecloud_server.domain.records import KeyRequest, Transition

PENDING = "pending"
APPROVED = "approved"
DENIED = "denied"
DELIVERED = "delivered"
REVOKED = "revoked"
EXPIRED = "expired"

TRANSITIONS: dict[str | None, frozenset[str]] = {
    None: frozenset({PENDING, APPROVED, DENIED}),
    PENDING: frozenset({PENDING, APPROVED, DENIED, REVOKED, EXPIRED}),
    APPROVED: frozenset({PENDING, DENIED, DELIVERED, REVOKED, EXPIRED}),
    DELIVERED: frozenset({REVOKED}),
    DENIED: frozenset(),
    REVOKED: frozenset(),
    EXPIRED: frozenset(),
}
"""From each state to those that may follow. Denied, revoked and expired are final."""

OPEN = frozenset({PENDING, APPROVED})


def start(request: KeyRequest, actor: str) -> KeyRequest:
    """Return the new request with its first transition."""
    first = Transition(request.created_at, None, request.state, actor, request.reason)
    return replace(request, decided_by=_decider(request.state, actor), transitions=(first,))


def move(
    request: KeyRequest,
    state: str,
    actor: str,
    reason: str,
    now: int,
    *,
    due_at: int | None = None,
    expires_at: int | None = None,
) -> KeyRequest:
    """Return the request in its next state; Conflict when the table has no such step."""
    if state not in TRANSITIONS[request.state]:
        raise Conflict(f"key request {request.request_id} is {request.state}, not {_before(state)}")
    step = Transition(now, request.state, state, actor, reason)
    return replace(
        request,
        state=state,
        decided_by=_decider(state, actor) or request.decided_by,
        reason=reason,
        updated_at=now,
        due_at=due_at,
        expires_at=expires_at,
        transitions=(*request.transitions, step),
    )


def covers(request: KeyRequest, boot_id: str, failing: tuple[str, ...]) -> bool:
    """Whether a decision on `request` still stands for a machine that fails `failing` rules now."""
    return request.boot_id == boot_id and set(failing) <= set(request.failing)


def _decider(state: str, actor: str) -> str | None:
    return actor if state in {APPROVED, DENIED, REVOKED} else None


def _before(state: str) -> str:
    return " or ".join(sorted(old for old, new in TRANSITIONS.items() if old and state in new))
