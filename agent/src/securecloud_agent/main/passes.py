"""One pass: an exchange, the steps that follow from it, and the acknowledgement."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from securecloud_protocol.agent import Exchange
from securecloud_protocol.errors import ProtocolError
from securecloud_protocol.messages import (
    AckResult,
    DeviceDecision,
    EvidenceBody,
    ReleaseBody,
    ServerIdentity,
)

from securecloud_agent import __version__
from securecloud_agent.client.connection import Peers
from securecloud_agent.client.exchange import Caller, Question, Session, open_session
from securecloud_agent.client.failures import NotWorkingError, RefusedError, UnreachableError
from securecloud_agent.client.tls import Deadline
from securecloud_agent.client.waiting import Ticket
from securecloud_agent.decide.audit import check_head
from securecloud_agent.decide.clock import skew_warning
from securecloud_agent.decide.model import Observed
from securecloud_agent.decide.plan import KEYLESS, claim, in_order
from securecloud_agent.errors import AgentError, warn, warned
from securecloud_agent.main.claims import Claims
from securecloud_agent.main.device import DeviceWork, Followed, not_answering
from securecloud_agent.main.gone import let_go
from securecloud_agent.main.notify import notify_ready
from securecloud_agent.main.outcome import Outcome, Passed, failed, remember
from securecloud_agent.main.replacing import Replacing
from securecloud_agent.main.wiring import Agent
from securecloud_agent.probes.collect import collect
from securecloud_agent.probes.watch import FactWatch
from securecloud_agent.state.files import StateError
from securecloud_agent.state.identity import identity_key, require_enrolled
from securecloud_agent.state.memory import SeenHead
from securecloud_agent.traces import forget
from securecloud_agent.volumes.volumes import Volumes

Keys = dict[str, list[bytes]]
"""Keys by device, to be overwritten in the end."""

_BEGIN_ANEW = frozenset({"stale", "replayed", "expired"})
_EVIDENCE_RESERVE = 5
_ACK_SECONDS = 30.0
_SHORTEST_PASS = 1.0


def make_pass(agent: Agent, devices: tuple[str, ...]) -> Passed:
    """Ask for `devices`, all of this agent's when empty; the caller holds the instance lock."""
    return _Pass(agent).run(devices)


def preview(agent: Agent, devices: tuple[str, ...], *, release_held: bool) -> Passed:
    """Say what a pass would ask for. A Hello costs the server no write, and no key is asked for.

    `release_held`: also for what the operator keeps locked now.
    """
    return _Pass(agent).preview(devices, release_held)


def warm_up(agent: Agent) -> None:
    """Load and try what the first pass will need, while there is nobody to ask; nothing is sent.

    What is wrong is for the pass to say.
    """
    with suppress(AgentError, ProtocolError):
        _Pass(agent).rehearse()


class _Pass:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._memory = agent.memory
        self._volumes: Volumes = agent.volumes()
        self._offline = agent.offline_keys()
        self._replacing = Replacing(agent, self._volumes)
        self._claims = Claims(agent, self._volumes, self._offline)
        self._due: set[str] = set()
        self._added: set[str] = set()
        self._renewing: set[str] = set()
        self._facts: FactWatch | None = None
        self._peers = Peers(agent.settings.ca_file, agent.clocks.now)
        known = require_enrolled(agent.settings.state_dir)
        self._caller = Caller(
            known.agent_id,
            identity_key(agent.settings.state_dir),
            ServerIdentity(known.server_id, known.kem_key, known.signing_key),
        )

    def rehearse(self) -> None:
        # The first use of a key loads the rest of the cryptography, the first context its CA.
        Exchange(self._caller.server, self._caller.agent_id, self._caller.key).hello(
            (), self._agent.boot_id, int(self._agent.clocks.now())
        )
        self._agent.probe_context()

    def run(self, devices: tuple[str, ...]) -> Passed:
        passed = self._run(devices)
        if self._due:
            self._renewing = set(self._due)
            passed = self._again(passed, self._renewing)
            self._renewing = set()
        if self._added:
            # The old key goes when a decision says that the new one is released.
            passed = self._again(passed, self._added)
        return passed

    def _run(self, devices: tuple[str, ...]) -> Passed:
        # A server that does not answer must not keep a volume open beyond its grace.
        limit = self._until_an_end(self._agent.settings.deadline)
        deadline = Deadline(limit, self._agent.clocks.monotonic)
        try:
            return self._run_once(devices, deadline)
        except RefusedError as error:
            if error.code not in _BEGIN_ANEW:
                raise
            return self._run_once(devices, deadline)

    def _again(self, passed: Passed, devices: Collection[str]) -> Passed:
        """Ask again, about some of what was asked for."""
        watched = self._facts
        try:
            more = self._run(tuple(sorted(devices)))
        except AgentError as error:
            warn(f"keys are not replaced before the next check: {error}")
            return passed
        finally:
            # The first exchange asked for more.
            self._facts = watched
        # What it was opened by says more than that it is open.
        newer = {each.device: each for each in more.outcomes if each.outcome != "granted"}
        outcomes = tuple(newer.get(each.device, each) for each in passed.outcomes)
        changed = passed.changed or more.changed
        # And so its ticket stays: a check that was put in between is not answered by a part.
        return replace(passed, changed=changed, outcomes=outcomes)

    def _until_an_end(self, limit: float) -> float:
        """Return `limit`, or what is left until the next grace ends. One that is over and whose
        volume cannot be locked limits nothing: a grant may be the way out.
        """
        soonest = self._agent.graces().soonest()
        if soonest is None or soonest <= 0:
            return limit
        return max(_SHORTEST_PASS, min(limit, soonest))

    def _run_once(self, devices: tuple[str, ...], deadline: Deadline) -> Passed:
        session = self._open(devices, deadline)
        damaged = self._damaged(session.core.devices)
        if damaged:
            session.close()
            session = self._open_without(damaged, session, deadline)
        keys: Keys = {}
        try:
            release = self._release(session)
            keys.update({each.device: _keys_in(each) for each in release.decisions})
            self._accept_audit_head(release)
            return self._follow(session, release, damaged, keys, all_devices=not devices)
        finally:
            session.close()
            self._forget(keys)

    def _release(self, session: Session) -> ReleaseBody:
        evidence = self._evidence(session)
        try:
            return session.release(evidence)
        except UnreachableError as error:
            # It was there, and answered the hello.
            raise NotWorkingError(str(error), error.code) from None

    def _damaged(self, devices: Sequence[str]) -> dict[str, StateError]:
        """Return the devices of which this machine remembers something that it cannot read."""
        damaged = {}
        for device in devices:
            try:
                self._memory.lineage(device)
                self._memory.device(device)
                self._memory.encryption(device)
                self._memory.rotation(device)
            except StateError as error:
                damaged[device] = error
        return damaged

    def _open_without(
        self, damaged: dict[str, StateError], session: Session, deadline: Deadline
    ) -> Session:
        """Ask for the others: one device's damage must not keep them from their keys."""
        sound = tuple(device for device in session.core.devices if device not in damaged)
        if not sound:
            raise next(iter(damaged.values()))
        return self._open(sound, deadline)

    def _forget(self, keys: Keys, but: Collection[str] = ()) -> None:
        # An encryption in place needs its key for hours; when it ends, another pass gets it again.
        needed = {*self._agent.encryptions.own(), *but}
        done_with = [key for device in keys.keys() - needed for key in keys.pop(device)]
        if done_with:
            forget(done_with)

    def preview(self, devices: tuple[str, ...], release_held: bool) -> Passed:
        deadline = Deadline(self._agent.settings.deadline, self._agent.clocks.monotonic)
        session = self._open(devices, deadline)
        session.close()
        found = [self._volumes.observe(device) for device in session.core.devices]
        if release_held:
            found = [replace(each, held=False) for each in found]
        outcomes = map(_foreseen, session.core.devices, found)
        return Passed(any(claim(each) == "key" for each in found), tuple(outcomes), 0)

    def _open(self, devices: tuple[str, ...], deadline: Deadline) -> Session:
        now = int(self._agent.clocks.now())
        question = Question(devices, self._agent.boot_id, now, self._memory.seen_head().size)
        urls = self._urls(self._memory.last_server())
        session = open_session(urls, self._peers, deadline, self._caller, question)
        skew = skew_warning(session.core.time, now)
        if skew:
            warn(skew)
        return session

    def _urls(self, last: str | None) -> list[str]:
        """The server that answered last comes first."""
        return sorted(self._agent.settings.servers, key=lambda url: url != last)

    def _evidence(self, session: Session) -> EvidenceBody:
        began = self._agent.clocks.monotonic()
        claims = self._claims.of(session.core.devices, self._renewing)
        spent = self._agent.clocks.monotonic() - began
        budget = self._until_an_end(max(1, session.core.lifetime - _EVIDENCE_RESERVE - spent))
        context = self._agent.probe_context()
        # Before the facts are collected: what changes meanwhile is then noticed.
        self._facts = FactWatch(session.core.facts, context)
        facts = collect(session.core.facts, context, budget)
        return EvidenceBody(__version__, self._agent.boot_id, claims, facts)

    def _accept_audit_head(self, release: ReleaseBody) -> None:
        seen, head = self._memory.seen_head(), release.audit
        check_head(seen.size, seen.root, head.size, head.root, head.consistency)
        if (seen.size, seen.root) != (head.size, head.root):
            self._memory.remember_head(SeenHead(head.size, head.root))

    def _follow(
        self,
        session: Session,
        release: ReleaseBody,
        damaged: dict[str, StateError],
        keys: Keys,
        *,
        all_devices: bool,
    ) -> Passed:
        # On disk before anything else: without it the next exchange would look like a clone's.
        for decision in release.decisions:
            if decision.lineage is not None:
                self._memory.receive_lineage(decision.device, decision.lineage)
        decisions = in_order(release.decisions)
        for decision in decisions:
            self._offline.withdraw(decision)
        done = [self._work(each) for each in decisions]
        decisions = [each.decision for each in done if each.decision is not None]
        if all_devices:
            done += let_go(self._agent, self._volumes, {*session.core.devices, *damaged})
        # What waits for the volumes need not wait until the server knows.
        notify_ready()
        # Nor need a key wait for that, unless it is to be sealed or replaced.
        needed = {each.device for each in decisions if each.offline or each.successor}
        self._forget(keys, but=needed)
        self._volumes.settle()
        replaced = [self._replacing.follow(*each) for each in zip(decisions, done, strict=False)]
        done[: len(replaced)] = [each.done for each in replaced]
        decisions = [each.decision for each in replaced]
        self._added |= {each.decision.device for each in replaced if each.version is not None}
        self._forget(keys, but={each.device for each in decisions if each.offline})
        self._due = {each.device for each in decisions if self._replacing.is_due(each)}
        self._acknowledge(session, [each.ack for each in done if each.ack is not None])
        # It takes seconds, and nobody waits for it.
        for decision in decisions:
            self._offline.keep(decision, self._volumes.observe(decision.device))
        outcomes = (*(each.outcome for each in done), *self._not_asked(damaged))
        with warned("the outcome could not be remembered"):
            remember(self._agent, outcomes, session.url, all_devices=all_devices)
        for each in done:
            if each.event is not None:
                event = each.event
                device = each.outcome.device
                self._volumes.tell(event.name, device, event.mount_point, event.seconds_left)
        changed = any(each.changed for each in done)
        ticket = Ticket(session.waiting, tuple(self._urls(session.url)))
        return Passed(changed, outcomes, release.check_interval, self._facts, ticket)

    def _work(self, decision: DeviceDecision) -> Followed:
        if decision.device not in self._claims.silent:
            return DeviceWork(self._agent, self._volumes, decision).follow()
        # It would keep all that is behind it waiting.
        state = str(self._volumes.state(decision.device))
        return not_answering(decision, state)

    def _not_asked(self, damaged: dict[str, StateError]) -> tuple[Outcome, ...]:
        return tuple(
            replace(each, volume=str(self._volumes.state(device)))
            for device, error in damaged.items()
            for each in failed([device], error)
        )

    def _header_copy(self, device: str) -> bytes | None:
        known = self._memory.device(device)
        return None if known is None else self._volumes.header_copy(known.source, known.iscsi)

    def _acknowledge(self, session: Session, results: Sequence[AckResult]) -> None:
        if not results:
            return
        clocks, reports = self._agent.clocks, self._agent.reports()
        deadline = Deadline(self._until_an_end(_ACK_SECONDS), clocks.monotonic)
        try:
            session.acknowledge(
                tuple(results), deadline, clocks.pause, clocks.chance, self._header_copy
            )
        except (RefusedError, UnreachableError) as error:
            warn(f"the server could not be told what was done: {error}")
            reports.keep(results)
            return
        for result in results:
            reports.told(result.device)
            self._offline.told(result.device)
            self._memory.confirm_lineage(result.device)


def _keys_in(decision: DeviceDecision) -> list[bytes]:
    successor = decision.successor
    return [key for key in (decision.key, successor and successor.key) if key]


def _foreseen(device: str, observed: Observed) -> Outcome:
    state = str(observed.state)
    if claim(observed) == "key":
        return Outcome(device, "pending", "check_mode", "would ask for the key", state, "", None)
    is_so = "is open" if observed.state not in KEYLESS else "is kept locked"
    detail = f"{is_so}; would ask for a check only"
    return Outcome(device, "granted", "check_mode", detail, state, "", None)
