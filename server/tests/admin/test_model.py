"""The administrative services against a small model, in any order that hypothesis thinks of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from securecloud_server.domain.errors import Conflict, DomainError, Invalid, NotFound
from securecloud_server.domain.records import Actor, Agent
from securecloud_server.services.admin import Slice
from securecloud_server.services.device_groups import GroupText
from securecloud_server.services.devices import DeviceText

from server.tests.admin.conftest import AdminServer, Template
from server.tests.exchange.conftest import Clock

ACTOR = Actor("cli", "model")
NAMES = st.sampled_from(["a", "b", "c"])
AGENTS = st.sampled_from(["web1", "web2", "none"])
POLICIES = st.sampled_from([None, "a", "b", "c", "default"])
ALL = Slice(limit=100)
STEPS = {
    "revoke": ({"pre_active", "active"}, "deactivated"),
    "restore": ({"deactivated"}, "active"),
    "destroy": ({"deactivated"}, "destroyed"),
}


@dataclass
class ModelDevice:
    agent: str
    group: str | None
    policy: str | None
    source: str
    enabled: bool
    key: str = "pre_active"


@dataclass
class Model:
    """What the services should hold."""

    policies: dict[str, list[str]] = field(default_factory=dict)
    groups: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    devices: dict[str, ModelDevice] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)
    events: int = 0

    def users(self, policy: str) -> bool:
        used = [used for _, used in self.groups.values()]
        return policy in used + [device.policy for device in self.devices.values()]

    def effective(self, device: ModelDevice) -> str:
        group = self.groups.get(device.group or "", ("", None))[1]
        return device.policy or group or "default"


class Administrators(RuleBasedStateMachine):
    """Edits everything, and after each edit compares all that is there."""

    def __init__(self, open_server: Callable[[], Any]) -> None:
        super().__init__()
        self.opened = open_server()
        self.server: AdminServer = self.opened.__enter__()
        self.admin = self.server.application.admin
        self.model = Model()

    def teardown(self) -> None:
        self.opened.__exit__(None, None, None)

    @initialize()
    def begin(self) -> None:
        """Two machines are enrolled; a default policy is there."""
        for name in ("web1", "web2"):
            agent = Agent(name, f"id-{name}", name.encode(), "active", 1)
            self.server.database.write(lambda tx, agent=agent: tx.agents.add(agent))
            self.model.agents[name] = "active"
        policy = self.admin.policies.get(ACTOR, "default")
        self.model.policies["default"] = [policy.text["description"]]
        self.model.events = self.size()

    def size(self) -> int:
        return int(self.admin.audit.head(ACTOR).size)

    def expect(
        self, refusal: type[DomainError] | None, act: Callable[[], Any], events: int = 1
    ) -> bool:
        """Act; return whether it was done, which must be as `refusal` says."""
        if refusal is None:
            act()
            self.model.events += events
            return True
        with pytest.raises(refusal):
            act()
        return False

    @rule(name=NAMES, text=st.sampled_from(["x", "y"]))
    def put_policy(self, name: str, text: str) -> None:
        versions = self.model.policies.setdefault(name, [])
        change = not versions or versions[-1] != text
        self.expect(
            None,
            lambda: self.admin.policies.put(ACTOR, name, {"description": text}),
            events=int(change),
        )
        if change:
            versions.append(text)

    @rule(name=st.one_of(NAMES, st.just("default")))
    def delete_policy(self, name: str) -> None:
        refusal: type[DomainError] | None = None
        if name not in self.model.policies:
            refusal = NotFound
        elif name == "default" or self.model.users(name):
            refusal = Conflict
        if self.expect(refusal, lambda: self.admin.policies.delete(ACTOR, name)):
            del self.model.policies[name]

    @rule(name=NAMES, policy=POLICIES, text=st.sampled_from(["", "shop"]))
    def put_group(self, name: str, policy: str | None, text: str) -> None:
        there = policy is None or policy in self.model.policies
        change = self.model.groups.get(name) != (text, policy)
        if self.expect(
            None if there else Invalid,
            lambda: self.admin.device_groups.put(ACTOR, name, GroupText(text, policy)),
            events=int(change),
        ):
            self.model.groups[name] = (text, policy)

    @rule(name=NAMES)
    def delete_group(self, name: str) -> None:
        refusal: type[DomainError] | None = None
        if name not in self.model.groups:
            refusal = NotFound
        elif any(device.group == name for device in self.model.devices.values()):
            refusal = Conflict
        if self.expect(refusal, lambda: self.admin.device_groups.delete(ACTOR, name)):
            del self.model.groups[name]

    @rule(
        name=NAMES,
        agent=AGENTS,
        group=st.one_of(st.none(), NAMES),
        policy=POLICIES,
        source=st.sampled_from(["/dev/x", "/dev/y"]),
        enabled=st.booleans(),
    )
    def put_device(
        self,
        name: str,
        agent: str,
        group: str | None,
        policy: str | None,
        source: str,
        enabled: bool,
    ) -> None:
        wanted = ModelDevice(agent, group, policy, source, enabled)
        known = self.model.devices.get(name)
        if known is not None:
            wanted.key = known.key
        text = DeviceText(agent, {"source": source}, group, policy, enabled)
        if self.expect(
            self.refusal_of(name, wanted),
            lambda: self.admin.devices.put(ACTOR, name, text),
            events=int(wanted != known),
        ):
            self.model.devices[name] = wanted

    def refusal_of(self, name: str, wanted: ModelDevice) -> type[DomainError] | None:
        model = self.model
        known = model.devices.get(name)
        clash = any(
            (other.agent, other.source) == (wanted.agent, wanted.source)
            for other_name, other in model.devices.items()
            if other_name != name
        )
        good = (
            model.agents.get(wanted.agent) == "active"
            and (wanted.group is None or wanted.group in model.groups)
            and (wanted.policy is None or wanted.policy in model.policies)
            and not clash
        )
        if not good:
            return Invalid
        return Conflict if known is not None and known.agent != wanted.agent else None

    @rule(name=NAMES)
    def delete_device(self, name: str) -> None:
        refusal = None if name in self.model.devices else NotFound
        if self.expect(refusal, lambda: self.admin.devices.delete(ACTOR, name)):
            del self.model.devices[name]

    @rule(name=NAMES, step=st.sampled_from(sorted(STEPS)))
    def step_key(self, name: str, step: str) -> None:
        device = self.model.devices.get(name)
        sources, target = STEPS[step]
        refusal: type[DomainError] | None = None
        if device is None:
            refusal = NotFound
        elif device.key not in sources:
            refusal = Conflict
        act = getattr(self.admin.keys, step)
        if self.expect(refusal, lambda: act(ACTOR, name, "because")) and device is not None:
            device.key = target

    @rule(name=st.sampled_from(["web1", "web2", "none"]))
    def retire_agent(self, name: str) -> None:
        refusal: type[DomainError] | None = None
        if name not in self.model.agents:
            refusal = NotFound
        elif any(device.agent == name for device in self.model.devices.values()):
            refusal = Conflict
        change = self.model.agents.get(name) == "active"
        if self.expect(refusal, lambda: self.admin.agents.retire(ACTOR, name), int(change)):
            self.model.agents[name] = "retired"

    @invariant()
    def the_log_grew_by_what_was_done(self) -> None:
        if self.model.agents:
            assert self.size() == self.model.events

    @invariant()
    def policies_and_groups_are_as_modelled(self) -> None:
        if not self.model.agents:
            return
        stored = {p.name: p for p in self.admin.policies.page(ACTOR, ALL)}
        assert stored.keys() == self.model.policies.keys()
        for name, versions in self.model.policies.items():
            found = self.admin.policies.versions(ACTOR, name)
            assert [p.text["description"] for p in found] == versions[::-1]
            assert (stored[name].version, stored[name]) == (len(versions), found[0])
        groups = {
            g.name: (g.description, g.policy) for g in self.admin.device_groups.page(ACTOR, ALL)
        }
        assert groups == self.model.groups

    @invariant()
    def devices_agents_and_keys_are_as_modelled(self) -> None:
        if not self.model.agents:
            return
        reports = self.admin.devices.page(ACTOR, ALL, {})
        assert [report.device.name for report in reports] == sorted(self.model.devices)
        for report in reports:
            device, key = report.device, report.key
            wanted = self.model.devices[device.name]
            assert key is not None
            assert wanted == ModelDevice(
                device.agent,
                device.group,
                device.policy,
                device.volume["source"],
                device.enabled,
                key.state,
            )
            assert report.effective_policy == self.model.effective(wanted)
            assert (key.reference == b"") is (key.state == "destroyed")
        reports = self.admin.agents.page(ACTOR, ALL, {})
        agents = {report.agent.name: report.agent.state for report in reports}
        assert agents == self.model.agents


def test_whatever_administrators_do_is_as_modelled(
    template: Template, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def directory() -> Path:
        return tmp_path_factory.mktemp("model")

    run_state_machine_as_test(
        lambda: Administrators(lambda: template.server(directory(), Clock())),
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
