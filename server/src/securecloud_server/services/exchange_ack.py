"""Ack in, Receipt out: what became of the keys on the machine."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from securecloud_protocol import messages as wire
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.server import OpenedAck, Responder

from securecloud_server.domain import requests as life
from securecloud_server.domain.errors import Conflict, NotFound
from securecloud_server.domain.ports import Database, Transaction
from securecloud_server.domain.records import Actor, Agent, AuditEvent, DeviceState
from securecloud_server.domain.volume_states import after_result
from securecloud_server.services import exchange_audit as audit
from securecloud_server.services import exchange_headers as headers
from securecloud_server.services.exchange_identities import Refused, active_agent
from securecloud_server.services.exchange_release import lineage_tag
from securecloud_server.services.exchange_situation import DeviceView, observe

_IN_USE = frozenset({"mounted", "opened", "verified", "offline"})


@dataclass(frozen=True, slots=True)
class Report:
    """One authenticated Ack."""

    opened: OpenedAck
    agent: Agent
    actor: Actor
    now: int


class Acknowledgement:
    """Answers one Ack; see `answer`."""

    def __init__(
        self, database: Database, responder: Responder, observed: Callable[[str], None]
    ) -> None:
        self._database = database
        self._responder = responder
        self._observed = observed

    def answer(self, data: bytes, source: str, now: int) -> bytes:
        """Authenticate, record everything once and in one transaction, answer."""
        opened = self._responder.open_ack(data, now)
        copies = self._database.write(lambda tx: _record(tx, opened, source, now))
        for result in opened.ack.results:
            self._observed(result.result)
        return self._responder.receipt(opened, copies)


def _record(tx: Transaction, opened: OpenedAck, source: str, now: int) -> tuple[str, ...]:
    """Return the devices of whose LUKS headers a copy is wanted."""
    agent = active_agent(tx, opened.agent_id, source)
    report = Report(opened, agent, Actor("agent", agent.name, None, source), now)
    _acknowledge_once(tx, report)
    results = {result.device: result for result in opened.ack.results}
    try:
        situation = observe(tx, agent, tuple(results))
    except ProtocolError as error:
        raise Refused(error.code, _refusal(report, error.detail)) from None
    wanted = [
        view.device.name
        for view in situation.views
        if _record_device(tx, report, view, results[view.device.name])
    ]
    return tuple(wanted)


def _acknowledge_once(tx: Transaction, report: Report) -> None:
    try:
        tx.sessions.acknowledge(report.opened.ack.session_id, report.now)
    except Conflict as error:
        raise Refused(ErrorCode.REPLAYED, _refusal(report, str(error))) from None
    except NotFound as error:
        raise Refused(ErrorCode.EXPIRED, _refusal(report, str(error))) from None


def _record_device(
    tx: Transaction, report: Report, view: DeviceView, result: wire.AckResult
) -> bool:
    """Return whether a copy of its LUKS header is wanted."""
    problem, unconfirmed = None, view.state.lineage_next
    wrong = _wrong_volume(view, result)
    released = unconfirmed is not None and unconfirmed.startswith(
        lineage_tag(report.opened.ack.session_id)
    )
    state = view.state
    # With a release behind it, or one that nobody confirmed, it may say how the volume was before.
    counts = released or (unconfirmed is None and not _is_late(report, state))
    if counts:
        state = _heard(state, result, report.now)
        if wrong is None:
            state, problem = _with_header(state, result, released=released)
    if released and result.result in _IN_USE:
        state = _settled(state, result)
        taken = _activate_key(tx, report, view, result)
        problem = wrong or problem or (None if taken else _not_taken(view, result))
        _deliver(tx, report, view, result)
    if state != view.state:
        tx.devices.put_state(state)
    tx.audit.append(audit.acknowledged(report.actor, report.opened, result, problem, counts=counts))
    return result.result in _IN_USE and headers.lacks_copy(state)


def _is_late(report: Report, state: DeviceState) -> bool:
    """Whether this is of before the last release.

    A release that is yet to come was made before the clock was set back.
    """
    return report.opened.state.issued_at < (state.last_release_at or 0) <= report.now


def _wrong_volume(view: DeviceView, result: wire.AckResult) -> str | None:
    known = view.state.luks_uuid
    if known is None or result.luks_uuid in {None, known}:
        return None
    return f"the key opened volume {result.luks_uuid}, the device is known as {known}"


def _heard(state: DeviceState, result: wire.AckResult, now: int) -> DeviceState:
    volume = after_result(state.volume_state, result.result)
    if volume == state.volume_state:
        return state
    return replace(state, volume_state=volume, volume_state_at=now)


def _with_header(
    state: DeviceState, result: wire.AckResult, *, released: bool
) -> tuple[DeviceState, str | None]:
    """Learn the header that the volume is in use with; also return what is wrong with it."""
    found = result.header
    if found is None:
        return state, None
    fits = headers.fits(state, found)
    if result.result in _IN_USE:
        state = headers.in_use(state, found, released=released)
        return state, None if fits else "it is in use with a LUKS header that was not expected"
    return state if fits else headers.refused(state, found), None


def _settled(state: DeviceState, result: wire.AckResult) -> DeviceState:
    return replace(
        state,
        lineage=state.lineage_next,
        lineage_next=None,
        luks_uuid=state.luks_uuid or result.luks_uuid,
    )


def _activate_key(
    tx: Transaction, report: Report, view: DeviceView, result: wire.AckResult
) -> bool:
    """Take a key into use that the machine has opened its volume with; say whether it is in use."""
    key, successor = view.key, view.successor
    if key is None:
        return False
    if key.version == result.key_version:
        if key.state == "pre_active":
            tx.keys.put(replace(key, state="active", activated_at=report.now))
        return True
    if successor is None or successor.version != result.key_version or key.state != "active":
        return False
    tx.keys.put(replace(key, state="deactivated", deactivated_at=report.now))
    tx.keys.put(replace(successor, state="active", activated_at=report.now))
    tx.audit.append(audit.rotated(report.actor, report.opened, view, result.detail))
    return True


def _not_taken(view: DeviceView, result: wire.AckResult) -> str:
    """Return what is wrong where the volume opens with a version that is not released."""
    key = view.key
    known = f"version {key.version}, which is {key.state}" if key is not None else "no key"
    return f"the volume opens with version {result.key_version} of its key; released is {known}"


def _deliver(tx: Transaction, report: Report, view: DeviceView, result: wire.AckResult) -> None:
    request = view.request
    if request is None:
        return
    if view.successor is not None and view.successor.version == result.key_version:
        # What was decided about this boot holds for the key that replaces the one it was asked for.
        request = replace(request, key_version=result.key_version)
    if request.state == life.APPROVED:
        actor = str(report.actor)
        reason = "the agent opened the device"
        request = life.move(request, life.DELIVERED, actor, reason, report.now)
    if request is not view.request:
        tx.requests.replace(request)


def _refusal(report: Report, reason: str) -> AuditEvent:
    details = {"session_id": report.opened.ack.session_id.hex()}
    target = f"agent:{report.agent.name}"
    return AuditEvent(report.actor, "exchange.refused", target, "refused", reason, details)
