"""How the exchange tells its story to the audit log: ids to join on, never a secret."""

from typing import Any, Protocol

from securecloud_protocol import messages as wire
from securecloud_protocol.server import OpenedAck, OpenedEvidence

from securecloud_server.domain.records import Actor, Agent, AuditEvent
from securecloud_server.services.exchange_decision import Verdict, grace_of, offline_of
from securecloud_server.services.exchange_headers import expected
from securecloud_server.services.exchange_situation import DeviceView

_ACTIONS = {
    "granted": "device.checked",
    "pending": "key_request.pending",
    "denied": "key_request.denied",
}


class Told(Protocol):
    """What the log needs to know of an inquiry."""

    @property
    def opened(self) -> OpenedEvidence:
        """The evidence."""

    @property
    def agent(self) -> Agent:
        """Who asks."""

    @property
    def actor(self) -> Actor:
        """Who asks, and from where."""


def decision(inquiry: Told, verdict: Verdict) -> list[AuditEvent]:
    """Return the event of a decision on a device, behind an alert where there is one."""
    view, want = verdict.case.view, verdict.case.claim.want
    target = f"device:{view.device.name}"
    details: dict[str, Any] = {
        **_session(inquiry),
        "want": want,
        "code": verdict.code,
        "boot_id": verdict.case.boot_id,
        "policy": view.policy.name,
        "policy_version": view.policy.version,
        "key_version": view.key.version if view.key else None,
        "request_id": verdict.request.request_id if verdict.request else None,
        "failing": list(verdict.case.judgement.failing),
    }
    if not verdict.case.header_fits:
        details["header"] = _header(verdict.case.claim.header)
        details["expected_header"] = _header(expected(view.state))
    grace = grace_of(verdict)
    if grace is not None:
        details["grace"] = grace.period
    offline = offline_of(verdict)
    if offline is not None and verdict.releases:
        details["offline"] = {"period": offline.period, "boots": offline.boots}
    if verdict.successor is not None:
        details["successor"] = verdict.successor.version
    action = "key.released" if verdict.releases else _ACTIONS[verdict.outcome]
    outcome = "success" if verdict.outcome != "denied" else "refused"
    event = AuditEvent(inquiry.actor, action, target, outcome, verdict.reason, details)
    if not verdict.quarantines:
        return [event]
    alert = AuditEvent(
        inquiry.actor, "device.quarantined", target, "success", verdict.reason, _session(inquiry)
    )
    return [alert, event]


def refusal(inquiry: Told, reason: str) -> AuditEvent:
    """Return the event of an exchange that was refused as a whole."""
    target = f"agent:{inquiry.agent.name}"
    return AuditEvent(
        inquiry.actor, "exchange.refused", target, "refused", reason, _session(inquiry)
    )


def truncation(inquiry: Told, reason: str) -> AuditEvent:
    """Return the alert that an agent remembers more of the audit log than there is."""
    return AuditEvent(
        inquiry.actor, "audit.truncated", "audit", "failed", reason, _session(inquiry)
    )


def acknowledged(
    actor: Actor, opened: OpenedAck, result: wire.AckResult, problem: str | None, *, counts: bool
) -> AuditEvent:
    """Return the event of what became of one device on the machine.

    What does not `count` left the server's idea of the volume as it was.
    """
    details: dict[str, Any] = {
        "session_id": opened.ack.session_id.hex(),
        "result": result.result,
        "key_version": result.key_version,
        "luks_uuid": result.luks_uuid,
        "initialised": result.initialised,
        "detail": result.detail,
    }
    if result.header is not None:
        details["header"] = _header(result.header)
        details["header_changing"] = result.header.changing
    if not counts:
        details["counts"] = False
    failed = result.result == "failed" or problem is not None
    return AuditEvent(
        actor,
        "device.failed" if failed else f"device.{result.result}",
        f"device:{result.device}",
        "failed" if failed else "success",
        problem or result.detail,
        details,
    )


def rotated(actor: Actor, opened: OpenedAck, view: DeviceView, detail: str) -> AuditEvent:
    """Return the event of a key that its successor has replaced."""
    details = {
        "session_id": opened.ack.session_id.hex(),
        "key_version": view.successor.version if view.successor else None,
        "replaced": view.key.version if view.key else None,
    }
    return AuditEvent(
        actor, "key.rotated", f"device:{view.device.name}", "success", detail, details
    )


def _header(header: wire.LuksHeader | None) -> str | None:
    return header.digest.hex() if header is not None else None


def _session(inquiry: Told) -> dict[str, Any]:
    return {
        "session_id": inquiry.opened.session_id.hex(),
        "transcript": inquiry.opened.transcript.hex(),
    }
