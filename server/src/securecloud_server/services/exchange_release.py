"""Evidence in, Release out: decide on each device, commit everything at once, then answer."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from securecloud_protocol import messages as wire
from securecloud_protocol.errors import ErrorCode, ProtocolError, malformed
from securecloud_protocol.server import ACK_LIFETIME, OpenedEvidence, Responder

from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.domain.ids import uuid7_after
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.ports import Database, RandomSource, Transaction
from securecloud_server.domain.records import Actor, Agent, DeviceState, Key, Session
from securecloud_server.domain.volume_states import after_exchange
from securecloud_server.domain.volumes import source_of
from securecloud_server.services import exchange_audit as audit
from securecloud_server.services.checks import answered
from securecloud_server.services.exchange_decision import (
    Case,
    Verdict,
    decide,
    grace_of,
    offline_of,
    unavailable,
)
from securecloud_server.services.exchange_evidence import EvidenceDocument
from securecloud_server.services.exchange_headers import changing, expected, refused
from securecloud_server.services.exchange_identities import Identities, Refused
from securecloud_server.services.exchange_kept import KeptEvidence
from securecloud_server.services.exchange_situation import (
    Situation,
    observe,
    policy_digest,
)

_LINEAGE_TAG_BYTES = 16

Keys = dict[tuple[str, int], bytes]
"""Keys by device id and version."""


class Times(Protocol):
    """The times that a release depends on, in seconds."""

    @property
    def pending_retry(self) -> int:
        """When to ask again."""

    @property
    def approval_lifetime(self) -> int:
        """How long an approval waits for its agent."""

    @property
    def check_interval(self) -> int:
        """How often a running agent asks whether it would still get its key."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One authenticated Evidence and what was known when it came."""

    opened: OpenedEvidence
    situation: Situation
    source: str
    now: int

    @property
    def agent(self) -> Agent:
        """The agent that asks."""
        return self.situation.agent

    @property
    def actor(self) -> Actor:
        """The agent as the audit log names it."""
        return Actor("agent", self.agent.name, None, self.source)


class Release:
    """Answers one Evidence; see `answer`."""

    def __init__(
        self,
        database: Database,
        keystores: Keystores,
        responder: Responder,
        random: RandomSource,
        times: Times,
        history: int,
        observed: Callable[[str, str], None],
    ) -> None:
        self._database = database
        self._keystores = keystores
        self._responder = responder
        self._random = random
        self._times = times
        self._history = history
        self._observed = observed

    def answer(self, data: bytes, source: str, now: int) -> bytes:
        """Authenticate, decide, fetch keys, commit, answer."""
        inquiry = self._authenticate(data, source, now)
        evidence = EvidenceDocument(inquiry.opened, source, now)
        verdicts = self._decide(inquiry, evidence)
        verdicts, keys = self._fetch_keys(verdicts)
        lineages = {
            v.case.view.device.device_id: self._lineage(inquiry) for v in verdicts if v.releases
        }
        kept = KeptEvidence(evidence, inquiry.opened, self._history)
        head = self._commit(inquiry, verdicts, lineages, kept)
        for verdict in verdicts:
            self._observed(verdict.outcome, verdict.code)
        decisions = tuple(_on_the_wire(verdict, keys, lineages) for verdict in verdicts)
        return self._responder.release(
            inquiry.opened, decisions, self._times.check_interval, head, now
        )

    # Authenticate

    def _authenticate(self, data: bytes, source: str, now: int) -> Inquiry:
        with self._database.read() as tx:
            identities = Identities(tx, source)
            opened = self._responder.open_evidence(data, identities, now)
            situation = _current(tx, identities.agent, opened)
        _check_claims(opened)
        return Inquiry(opened, situation, source, now)

    # Decide

    def _decide(self, inquiry: Inquiry, evidence: EvidenceDocument) -> list[Verdict]:
        opened = inquiry.opened
        claims = {claim.device: claim for claim in opened.body.devices}

        def new_id(previous: str | None) -> str:
            return uuid7_after(previous, inquiry.now * 1000, self._random)

        return [
            decide(
                Case(
                    view,
                    claims[view.device.name],
                    opened.body.boot_id,
                    evidence.judge(view),
                    inquiry.now,
                    self._times.pending_retry,
                    self._times.approval_lifetime,
                    new_id,
                )
            )
            for view in inquiry.situation.views
        ]

    # Fetch

    def _fetch_keys(self, verdicts: Sequence[Verdict]) -> tuple[list[Verdict], Keys]:
        """Return the verdicts, those without a fetchable key put off, and the keys."""
        keys: Keys = {}
        reachable = []
        for verdict in verdicts:
            try:
                reachable.append(self._fetched(verdict, keys) if verdict.releases else verdict)
            except Unavailable as error:
                reachable.append(unavailable(verdict, str(error)))
        return reachable, keys

    def _fetched(self, verdict: Verdict, keys: Keys) -> Verdict:
        """Put the device's key into `keys`, and its successor, which can wait for a better time.

        Unavailable also where only the successor is missing, and was all that was asked for.
        """
        view = verdict.case.view
        if view.key is None:
            raise Unavailable("the device has no key")
        keys[_name(view.key)] = self._fetch_one(view.key)
        if view.successor is None:
            return verdict
        try:
            keys[_name(view.successor)] = self._fetch_one(view.successor)
        except Unavailable:
            if verdict.case.claim.want == "renew" and offline_of(verdict) is None:
                raise
            return verdict
        return replace(verdict, successor=view.successor)

    def _fetch_one(self, key: Key) -> bytes:
        return self._keystores.of(key).fetch(key.reference, key.device_id, key.version)

    def _lineage(self, inquiry: Inquiry) -> bytes:
        return lineage_tag(inquiry.opened.session_id) + self._random(
            wire.LINEAGE_BYTES - _LINEAGE_TAG_BYTES
        )

    # Commit

    def _commit(
        self,
        inquiry: Inquiry,
        verdicts: Sequence[Verdict],
        lineages: dict[str, bytes],
        kept: KeptEvidence,
    ) -> wire.AuditHead:
        def work(tx: Transaction) -> wire.AuditHead:
            _check_log_is_whole(tx, inquiry)
            _consume_session(tx, inquiry)
            _check_nothing_changed(tx, inquiry)
            for verdict in verdicts:
                kept.store(tx, verdict, _store(tx, inquiry, verdict, lineages))
            _saw_agent(tx, inquiry)
            known, devices = inquiry.opened.state.last_check, len(verdicts)
            answered(tx, inquiry.agent, known, devices, inquiry.now)
            return _audit_head(tx, inquiry)

        return self._database.write(work)


def lineage_tag(session_id: bytes) -> bytes:
    """Return the half of a lineage value that says in which session it was handed out.

    The other half is random. So an Ack that comes late cannot confirm a value of a later session.
    """
    return hashlib.sha256(b"securecloud/1 lineage" + session_id).digest()[:_LINEAGE_TAG_BYTES]


def _current(tx: Transaction, agent: Agent, opened: OpenedEvidence) -> Situation:
    """Return the situation; STALE when it is not the one that the challenge was made for."""
    try:
        situation = observe(tx, agent, opened.core.devices)
    except ProtocolError as error:
        raise ProtocolError(ErrorCode.STALE, error.detail) from None
    digest = policy_digest((view.device, view.policy) for view in situation.views)
    if digest != opened.core.policy_digest:
        raise ProtocolError(ErrorCode.STALE, "devices or policies changed since the challenge")
    return situation


def _check_claims(opened: OpenedEvidence) -> None:
    claimed = [claim.device for claim in opened.body.devices]
    if sorted(claimed) != sorted(opened.core.devices):
        raise malformed("the evidence claims other devices than the challenge named")


def _consume_session(tx: Transaction, inquiry: Inquiry) -> None:
    session = Session(inquiry.opened.session_id, inquiry.agent.agent_id, inquiry.now + ACK_LIFETIME)
    try:
        tx.sessions.consume(session)
    except Conflict as error:
        event = audit.refusal(inquiry, str(error))
        raise Refused(ErrorCode.REPLAYED, event) from None


def _check_nothing_changed(tx: Transaction, inquiry: Inquiry) -> None:
    """Read again what the decisions rest on: another node or thread may have been faster."""
    agent = tx.agents.by_id(inquiry.agent.agent_id)
    if agent is None:
        raise ProtocolError(ErrorCode.STALE, "the agent is gone")
    if _current(tx, agent, inquiry.opened).stamp() != inquiry.situation.stamp():
        raise ProtocolError(ErrorCode.STALE, "something changed between decision and commit")


def _store(tx: Transaction, inquiry: Inquiry, verdict: Verdict, lineages: dict[str, bytes]) -> int:
    """Store what a verdict changes; return the number of its audit event."""
    known = verdict.case.view.request
    for request in verdict.changed:
        if known is not None and request.request_id == known.request_id:
            if request is not known:
                tx.requests.replace(request)
        else:
            tx.requests.add(request)
    state = _next_state(verdict, lineages)
    if state != verdict.case.view.state:
        tx.devices.put_state(state)
    return [tx.audit.append(event) for event in audit.decision(inquiry, verdict)][-1]


def _next_state(verdict: Verdict, lineages: dict[str, bytes]) -> DeviceState:
    """Return the device's state after the verdict.

    What the machine presented becomes the known value, and the fresh one may follow it.
    """
    case = verdict.case
    state = case.view.state
    if state.first_seen_at is None:
        state = replace(state, first_seen_at=case.now)
    if verdict.quarantines or state.quarantined:
        # Who asks may not be who was known, so nothing is learnt of the volume.
        return replace(state, quarantined=True)
    if case.claim.header is not None and not case.header_fits:
        state = refused(state, case.claim.header)
    if verdict.successor is not None:
        # Before the machine has what it needs for it.
        state = changing(state)
    lineage = lineages.get(state.device_id)
    volume = after_exchange(state.volume_state, case.claim.want, releases=lineage is not None)
    if volume != state.volume_state:
        state = replace(state, volume_state=volume, volume_state_at=case.now)
    if lineage is None:
        return state
    return replace(
        state, lineage=case.claim.lineage, lineage_next=lineage, last_release_at=case.now
    )


def _saw_agent(tx: Transaction, inquiry: Inquiry) -> None:
    tx.agents.replace(
        replace(
            inquiry.agent,
            last_seen_at=inquiry.now,
            last_source=inquiry.source,
            version=inquiry.opened.body.agent_version,
        )
    )


def _check_log_is_whole(tx: Transaction, inquiry: Inquiry) -> None:
    """Refuse to go on with a log that is shorter than what this agent has seen."""
    seen, size = inquiry.opened.state.seen_audit_size, tx.audit.size()
    if seen > size:
        reason = f"the agent has seen an audit log of {seen} events, there are only {size}"
        raise Refused(ErrorCode.UNAVAILABLE, audit.truncation(inquiry, reason))


def _audit_head(tx: Transaction, inquiry: Inquiry) -> wire.AuditHead:
    head, seen = tx.audit.head(), inquiry.opened.state.seen_audit_size
    proof = tx.audit.consistency(seen)
    return wire.AuditHead(head.size, head.root, head.at, head.signature, proof)


def _on_the_wire(verdict: Verdict, keys: Keys, lineages: dict[str, bytes]) -> wire.DeviceDecision:
    view = verdict.case.view
    released = verdict.releases and view.key is not None
    granted = verdict.outcome == "granted"
    return wire.DeviceDecision(
        device=view.device.name,
        outcome=verdict.outcome,
        code=verdict.code,
        request_id=verdict.request.request_id if verdict.request else None,
        retry_after=verdict.retry_after,
        key=keys[_name(view.key)] if released and view.key else None,
        key_version=view.key.version if granted and view.key else None,
        lineage=lineages[view.device.device_id] if released else None,
        volume=_volume(verdict) if released else None,
        grace=grace_of(verdict),
        offline=offline_of(verdict),
        successor=_successor(verdict, keys),
    )


def _successor(verdict: Verdict, keys: Keys) -> wire.Successor | None:
    """Return the key that is to replace the present one; without keys, or while it cannot be
    fetched, only its version: that it is not there would mean that it was given up.
    """
    if verdict.successor is not None:
        return wire.Successor(verdict.successor.version, keys[_name(verdict.successor)])
    successor = verdict.case.view.successor
    if successor is None or verdict.outcome != "granted":
        return None
    return wire.Successor(successor.version, None)


def _name(key: Key) -> tuple[str, int]:
    return key.device_id, key.version


def _volume(verdict: Verdict) -> wire.Volume:
    """Return what the agent needs; a volume that is known is never initialised again."""
    state, volume = verdict.case.view.state, verdict.case.view.device.volume
    iscsi = volume.get("iscsi")
    return wire.Volume(
        source=source_of(volume),
        iscsi=wire.IscsiTarget(**iscsi) if iscsi else None,
        filesystem=volume.get("filesystem", "ext4"),
        mount_point=volume.get("mount_point"),
        options=tuple(volume.get("options", ("defaults",))),
        read_only=volume.get("read_only", False),
        initialise="never" if state.luks_uuid else volume.get("initialise", "never"),
        luks_uuid=state.luks_uuid,
        header=expected(state),
    )
