"""Whatever machines, people and accidents do, in any order: a key goes only where it may go.

A model of what is promised, told in other words than the server's, against the real exchange over a
real database file.
"""

from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from securecloud_server.domain import requests as life
from securecloud_server.domain.records import Actor
from securecloud_server.storage.verification import verify_audit

from server.tests.exchange.conftest import HOST_RULE, Clock, Machine, Server, serve

DEVICE = "web1-data"
PERSON = Actor("cli", "alice")
DELAY = 600
LIFETIME = 3600
WAITS = st.sampled_from([0, 1, DELAY - 1, DELAY, LIFETIME - 1, LIFETIME])
ENDINGS = st.sampled_from(["acknowledged", "not acknowledged", "release lost"])
ACTIONS: dict[str, dict[str, Any]] = {
    "approve": {"action": "approve"},
    "approve_after": {"action": "approve_after", "delay": DELAY},
    "manual": {"action": "manual"},
    "deny": {"action": "deny"},
}


class Life(RuleBasedStateMachine):
    """One device and the machine that it belongs to, later perhaps with a copy of that machine."""

    def __init__(self, opened: AbstractContextManager[Server]) -> None:
        super().__init__()
        self.opened = opened
        self.server = self.opened.__enter__()
        self.released = 0
        self.complies = True
        self.quarantined = False
        self.usable = True
        self.enabled = True
        self.policy = {"on_match": "approve", "on_fail": "manual"}
        self.approved_until: int | None = None
        """Until when a person's word, given in this boot and under this policy, is to be used."""
        self.waiting_since: int | None = None
        """Since when the machine has waited for a delay, in this boot and under this policy."""

    @initialize()
    def begin(self) -> None:
        self.put_policy("approve", "manual")
        self.honest = self.server.machine("web1")
        self.server.device(DEVICE, "web1")

    def teardown(self) -> None:
        actions = self.server.actions()
        assert actions.count("key.released") == self.released
        report = verify_audit(self.server.database, lambda *_: True)
        assert report.verified, report.problem
        self.opened.__exit__(None, None, None)

    @property
    def now(self) -> int:
        return int(self.server.clock())

    @property
    def action(self) -> str:
        return self.policy["on_match" if self.complies else "on_fail"]

    def start_anew(self) -> None:
        """Nothing that was decided, or waited for, counts any more."""
        self.approved_until = self.waiting_since = None

    # --- people

    @rule(
        on_match=st.sampled_from(sorted(ACTIONS)),
        on_fail=st.sampled_from(["manual", "deny", "approve_after"]),
        ending=ENDINGS,
    )
    def change_policy_and_ask(self, on_match: str, on_fail: str, ending: str) -> None:
        self.put_policy(on_match, on_fail)
        self.ask_for_the_key(ending)

    def put_policy(self, on_match: str, on_fail: str) -> None:
        self.policy = {"on_match": on_match, "on_fail": on_fail}
        text = {name: ACTIONS[action] for name, action in self.policy.items()}
        description = f"written at {len(self.server.events())}"
        self.server.policy(
            "web", {"rules": [HOST_RULE], "force": True, "description": description, **text}
        )
        self.start_anew()

    @rule(approves=st.booleans(), seconds=WAITS, ending=ENDINGS)
    def ask_decide_and_ask(self, approves: bool, seconds: int, ending: str) -> None:
        if self.action != "manual":
            self.put_policy("manual", "manual")
        self.ask_for_the_key("acknowledged")
        waiting = [each for each in self.server.requests(DEVICE) if each.state == life.PENDING]
        for request in waiting:
            service = self.server.application.admin.key_requests
            decide = service.approve if approves else service.deny
            decide(PERSON, request.request_id, "I looked")
            asked_by = (request.boot_id, request.matched)
            if approves and asked_by == (self.honest.boot_id, self.complies):
                self.approved_until = self.now + LIFETIME
            if not approves:
                self.start_anew()
        self.wait_and_ask(seconds, ending)

    @rule(what=st.sampled_from(["usable", "enabled"]))
    def bar_and_unbar(self, what: str) -> None:
        for state in (False, True):
            self.set(what, state=state)
            self.ask_for_the_key("acknowledged")

    def set(self, what: str, *, state: bool) -> None:
        setattr(self, what, state)
        if what == "usable":
            self.server.key_state(DEVICE, "active" if state else "deactivated")
        else:
            self.server.change_device(DEVICE, enabled=state)

    # --- time and the machine

    @rule(seconds=WAITS, ending=ENDINGS)
    def ask_wait_and_ask(self, seconds: int, ending: str) -> None:
        self.ask_for_the_key(ending)
        self.wait_and_ask(seconds, ending)

    def wait_and_ask(self, seconds: int, ending: str) -> None:
        self.server.clock.forward(seconds)
        self.ask_for_the_key(ending)

    @rule(ending=ENDINGS)
    def reboot_and_ask(self, ending: str) -> None:
        self.honest.reboot()
        self.start_anew()
        self.ask_for_the_key(ending)

    @rule(complies=st.booleans())
    def change_host_name(self, complies: bool) -> None:
        self.complies = complies
        self.honest.facts["host_name"] = "web1" if complies else "intruder"
        if not complies:
            self.approved_until = None

    @rule(ending=ENDINGS)
    def ask_for_the_key(self, ending: str) -> None:
        decision = self.ask(self.honest, ending)
        may = self.may_have_it()
        if decision.key is not None:
            assert may, decision
        elif self.usable and self.enabled and not self.quarantined:
            # Nobody who is what he says is kept from it.
            assert self.action != "approve", decision
            assert decision.code not in {"quarantined", "revoked", "disabled"}, decision

    def ask(self, machine: Machine, ending: str) -> Any:
        before = dict(machine.lineage)
        dialogue = machine.begin(DEVICE)
        dialogue.challenge()
        (decision,) = dialogue.release().decisions
        if decision.key is not None:
            self.released += 1
            key = self.server.key(DEVICE)
            fetch = self.server.application.keystores.active.fetch
            assert decision.key == fetch(key.reference, key.device_id, key.version)
        if ending == "release lost":
            machine.lineage = before
        elif ending == "acknowledged" and decision.key is not None:
            dialogue.ack()
        if decision.code == "delayed" and self.waiting_since is None:
            self.waiting_since = self.now
        self.quarantined = self.server.state(DEVICE).quarantined
        return decision

    def may_have_it(self) -> bool:
        if not self.usable or not self.enabled or self.quarantined:
            return False
        if self.approved_until is not None and self.now < self.approved_until:
            return self.action != "deny"
        if self.action == "approve_after" and self.waiting_since is not None:
            return self.now >= self.waiting_since + DELAY
        return self.action == "approve"

    # --- somebody copies the machine

    @precondition(lambda self: self.honest.lineage)
    @rule()
    def a_copy_gets_the_key_first(self) -> None:
        """The copy is served, being all that the machine was; then both are found out, until a
        person says which of them it is.
        """
        self.complies = True
        self.honest.facts["host_name"] = "web1"
        self.put_policy("approve", "manual")
        copy = Machine(
            self.server,
            self.honest.name,
            self.honest.agent_id,
            self.honest.key,
            dict(self.honest.facts),
            lineage=deepcopy(self.honest.lineage),
        )
        for _ in range(2):
            assert self.ask(copy, "acknowledged").key is not None
        for machine in (self.honest, copy):
            assert self.ask(machine, "acknowledged").code == "quarantined"
        self.server.application.admin.devices.clear_quarantine(PERSON, DEVICE, "it was restored")
        self.quarantined = False
        self.honest.lineage.clear()
        self.start_anew()

    # --- what is always so

    @invariant()
    def requests_follow_the_table(self) -> None:
        if not hasattr(self, "honest"):
            return
        requests = self.server.requests(DEVICE)
        assert sum(each.state in life.OPEN for each in requests) <= 1
        for request in requests:
            state = None
            for step in request.transitions:
                assert step.old == state
                assert step.new in life.TRANSITIONS[state]
                assert step.actor
                assert step.reason
                state = step.new
            assert state == request.state


def test_a_key_goes_only_where_it_may_go(tmp_path_factory: pytest.TempPathFactory) -> None:
    run_state_machine_as_test(
        lambda: Life(serve(tmp_path_factory.mktemp("life"), Clock())),
        settings=settings(
            max_examples=30,
            stateful_step_count=20,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
