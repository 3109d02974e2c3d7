"""Follows the server's decision on one device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from securecloud_protocol.messages import AckResult, DeviceDecision, LuksHeader, Volume

from securecloud_agent.decide.model import Action, Content, Kind, Observed, State
from securecloud_agent.decide.offline import CODE as OFFLINE
from securecloud_agent.decide.plan import KEYLESS, Plan, plan, way_back
from securecloud_agent.errors import AgentError, printable, warned
from securecloud_agent.main.hardening import wipe
from securecloud_agent.main.outcome import Outcome
from securecloud_agent.main.wiring import Agent
from securecloud_agent.state.memory import DeviceMemory
from securecloud_agent.volumes.volumes import Volumes

_IN_USE = frozenset({State.VERIFIED, State.OPENED, State.MOUNTED})


@dataclass(frozen=True, slots=True)
class Event:
    """What hooks are told after a pass; see docs/revocation.md."""

    name: str
    mount_point: str
    seconds_left: int = 0


@dataclass(frozen=True, slots=True)
class Followed:
    """What was done for a device, what the server is told of it, and what hooks are.

    `decision` is the one that was followed, with the key that opened the volume.
    """

    outcome: Outcome
    changed: bool
    ack: AckResult | None
    event: Event | None = None
    decision: DeviceDecision | None = None


def not_answering(decision: DeviceDecision, state: str) -> Followed:
    """Return what becomes of a device whose disk does not answer: nothing, in this pass."""
    name, text = decision.device, "its disk does not answer"
    outcome = Outcome(name, "failed", "volume", text, state, "", decision.retry_after)
    ack = None
    if decision.outcome == "granted":
        ack = AckResult(name, decision.key_version or 0, "failed", None, False, text, None)
    return Followed(outcome, False, ack, None, decision)


class DeviceWork:
    """Follows the server's decision on one device."""

    def __init__(self, agent: Agent, volumes: Volumes, decision: DeviceDecision) -> None:
        self._memory = agent.memory
        self._graces = agent.graces()
        self._reports = agent.reports()
        self._offline = agent.offline_keys()
        self._volumes = volumes
        self._decision = decision
        self._name = decision.device
        self._known = agent.memory.device(decision.device)
        self._volume = decision.volume or (remembered_volume(self._known) if self._known else None)

    def follow(self) -> Followed:
        """Decide, then act; a failure becomes part of the outcome."""
        before = self._graces.left(self._name)
        observed, steps = self._decide()
        key, follows = bytearray(self._decision.key or b""), self._decision.successor
        successor = bytearray((follows and follows.key) or b"")
        work = self._volumes.work(self._name, self._volume, key, successor)
        problem = ""
        try:
            if steps[0].kind is Kind.CONNECT:
                # On disk before there is a session, so that `lock` knows of it after a crash.
                self._remember(self._known.luks_uuid if self._known else None)
                work.carry_out(steps[0])
                observed, more = self._decide(connected=True)
                steps = (*steps, *more)
            for step in steps:
                if step.kind is not Kind.CONNECT:
                    work.carry_out(step)
        except AgentError as error:
            problem = printable(error)
        finally:
            wipe(key)
            wipe(successor)
        done = work.done
        if done.by_successor and follows is not None:
            self._decision = replace(
                self._decision, key=follows.key, key_version=follows.version, successor=None
            )
        if done.state in KEYLESS:
            self._graces.end(self._name)
        if done.state is State.CLOSED:
            self._volumes.disconnect(self._name)
        self._answer_who_asked(problem, observed, done.state)
        if not problem and done.luks_uuid:
            with warned("the device could not be remembered"):
                self._remember(done.luks_uuid)
        volume = _volume_word(done.state, observed)
        outcome = self._outcome(volume, problem, done.how, observed)
        # Where it failed, the server is told of what was found.
        header = observed.luks_header if problem else done.header
        ack = self._ack(
            steps, done.state, problem, done.luks_uuid, done.initialised, outcome, header
        )
        event = self._event(observed.state, done.state, before, observed.grace_left)
        return Followed(outcome, done.changed, ack, event, self._decision)

    def _event(
        self, was: State, now: State, before: float | None, left: float | None
    ) -> Event | None:
        """Return what hooks are told; of locking they are told while it is done."""
        where = (self._volume.mount_point if self._volume is not None else None) or ""
        if was in KEYLESS and now in {State.OPENED, State.MOUNTED}:
            return Event("resumed" if was is State.SUSPENDED else "opened", where)
        if before is None and left is not None and left > 0:
            return Event("grace", where, round(left))
        if before is not None and self._decision.outcome == "granted" and now not in KEYLESS:
            return Event("cancelled", where)
        return None

    def _decide(self, *, connected: bool = False) -> tuple[Observed, Plan]:
        """Look and decide; `connected` when the volume's iSCSI session has been seen to."""
        volume = self._volume
        observed = self._volumes.observe(
            self._name,
            volume.source if volume else None,
            self._known.luks_uuid if self._known else None,
            volume.iscsi if volume and not connected else None,
        )
        left = self._graces.heed(self._decision, observed.state)
        observed = replace(observed, grace_left=left)
        return observed, plan(self._decision, observed, volume)

    def _answer_who_asked(self, problem: str, observed: Observed, state: State) -> None:
        """Somebody may have asked to encrypt it in the background, and wait for a word."""
        decision = self._decision
        if problem and state is State.CLOSED:
            # A disk may only be late.
            there = observed.content not in {Content.ABSENT, Content.UNKNOWN}
            self._volumes.refuse_encryption(self._name, problem, for_good=there)
        elif (
            decision.outcome == "denied"
            and decision.code != "unavailable"
            and observed.state is State.CLOSED
        ):
            reason = _DETAILS.get(decision.code, decision.code)
            self._volumes.refuse_encryption(self._name, f"denied: {reason}", for_good=True)

    def _outcome(self, volume: str, problem: str, how: str, observed: Observed) -> Outcome:
        decision = self._decision
        detail = _DETAILS.get(decision.code, decision.code)
        if decision.code == "header_changed" and self._volume is not None:
            detail = f"{detail}{self._why_changed(observed, self._volume)}"
        return Outcome(
            device=self._name,
            outcome="failed" if problem else decision.outcome,
            code="volume" if problem else decision.code,
            detail=problem or detail,
            volume=volume,
            how=how,
            retry_after=decision.retry_after,
        )

    def _why_changed(self, observed: Observed, volume: Volume) -> str:
        """Return what this machine sees of another header, and what may help."""
        found, pinned = observed.luks_uuid, self._known.luks_uuid if self._known else None
        if found and pinned and found != pinned:
            return f": it has LUKS UUID {found}, but {pinned} is pinned for this device"
        why = f": {observed.header_problem}" if observed.header_problem else ""
        return f"{why}{way_back(observed, volume)}"

    def _remember(self, luks_uuid: str | None) -> None:
        volume = self._volume
        assert volume is not None
        self._memory.remember_device(
            self._name,
            DeviceMemory(
                source=volume.source,
                filesystem=volume.filesystem,
                mount_point=volume.mount_point,
                options=volume.options,
                read_only=volume.read_only,
                luks_uuid=luks_uuid,
                key_version=self._decision.key_version or 0,
                iscsi=volume.iscsi,
            ),
        )

    def _ack(
        self,
        steps: Sequence[Action],
        state: State,
        problem: str,
        luks_uuid: str | None,
        initialised: bool,
        outcome: Outcome,
        header: LuksHeader | None,
    ) -> AckResult | None:
        word = _ack_word(self._decision, steps, state, problem)
        # What became of it while no server was there is still to be told.
        owed, used = self._reports.owed(self._name), self._offline.used(self._name)
        told = [problem or outcome.how] if word is not None else []
        if owed is not None:
            told.append(f"before that {owed.result}: {owed.detail}" if told else owed.detail)
        if used and state is not State.ENCRYPTING:
            told.append(used)
            if state in _IN_USE and (word is None or word == state):
                word = OFFLINE
        if not told:
            return None
        return AckResult(
            device=self._name,
            key_version=self._version,
            result=word or (owed.result if owed is not None else str(state)),
            luks_uuid=None if problem else luks_uuid,
            initialised=initialised and not problem,
            detail=printable("; ".join(told)),
            header=header,
        )

    @property
    def _version(self) -> int:
        version = self._decision.key_version
        if version is None:
            version = self._known.key_version if self._known else 0
        return version


_DETAILS = {
    "approved": "the server released the key",
    "checked": "the check passed",
    "approval_required": "an administrator has to approve the request",
    "delayed": "the policy approves after a delay",
    "policy": "the machine does not meet the policy; the server's key request says which rule",
    "rejected": "an administrator denied the request",
    "revoked": "the device's key is revoked",
    "disabled": "the device is disabled",
    "quarantined": "the device is in quarantine: a clone or a rolled-back machine was seen",
    "header_changed": "the LUKS header on the disk is not the one that the device opened with",
    "unknown_device": "the device is not registered for this agent",
    "unavailable": "the server cannot get the key now",
}


def _ack_word(
    decision: DeviceDecision, steps: Sequence[Action], state: State, problem: str
) -> str | None:
    """Return what to report of a device; None when there is nothing to tell."""
    kinds = {step.kind for step in steps}
    if Kind.WAIT in kinds:
        return "grace"
    locked = Kind.LOCK in kinds
    if decision.outcome != "granted" and not locked:
        return None
    if problem:
        return "failed"
    if locked:
        return str(state)
    if decision.key is None and not any(step.changes for step in steps):
        return None
    # Told when it is open: until then the key is in use only here.
    return None if state is State.ENCRYPTING else str(state)


def _volume_word(state: State, observed: Observed) -> str:
    if state is State.CLOSED and observed.content is Content.BLANK:
        return "blank"
    return str(state)


def remembered_volume(known: DeviceMemory) -> Volume:
    """Return the volume as the server described it last; it is never initialised again."""
    return Volume(
        source=known.source,
        iscsi=known.iscsi,
        filesystem=known.filesystem,
        mount_point=known.mount_point,
        options=known.options,
        read_only=known.read_only,
        initialise="never",
        luks_uuid=known.luks_uuid,
    )
