"""What the server knows of an agent and the devices that it asks about, read in one go."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from securecloud_protocol import messages as wire
from securecloud_protocol.errors import ErrorCode, ProtocolError

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.policy import Policy, compile_policy
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.records import (
    Agent,
    Device,
    DeviceState,
    Key,
    KeyRequest,
    PolicyText,
)

DEFAULT_POLICY = "default"

_MAX_ARGUMENTS = 256


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device with everything that a decision on its key depends on.

    `key` is the version in use and `successor` the one that is to replace it; `request` is its
    newest key request, whatever its state.
    """

    device: Device
    policy: PolicyText
    state: DeviceState
    key: Key | None
    request: KeyRequest | None
    successor: Key | None = None

    def stamp(self) -> tuple[object, ...]:
        """Return what must not change between a decision and its commit."""
        key = (self.key.version, self.key.state) if self.key else None
        request = (
            (self.request.request_id, self.request.state, len(self.request.transitions))
            if self.request
            else None
        )
        return (
            self.device.device_id,
            self.device.revision,
            self.policy.name,
            self.policy.version,
            self.policy.digest,
            self.state,
            key,
            self.successor.version if self.successor else None,
            request,
        )


@dataclass(frozen=True, slots=True)
class Situation:
    """An agent and its devices, at one moment."""

    agent: Agent
    views: tuple[DeviceView, ...]

    def stamp(self) -> tuple[object, ...]:
        """Return what must not change between the decisions and their commit."""
        agent = self.agent
        return agent.agent_id, agent.state, tuple(view.stamp() for view in self.views)


Assignment = tuple[Device, PolicyText]
"""A device and the policy in effect for it."""


def resolve(tx: Transaction, agent: Agent, names: Sequence[str]) -> list[Assignment]:
    """Return the named devices of `agent`, or all when none is named, with their policies.

    Raises ProtocolError UNKNOWN_DEVICE when one is not this agent's.
    """
    mine = {device.name: device for device in tx.devices.of_agent(agent.name)}
    strangers = sorted(set(names) - mine.keys())
    if strangers:
        raise ProtocolError(
            ErrorCode.UNKNOWN_DEVICE, f"{', '.join(strangers)}: not of agent {agent.name}"
        )
    devices = [mine[name] for name in dict.fromkeys(names)] if names else list(mine.values())
    if len(devices) > wire.MAX_DEVICES:
        raise ProtocolError(
            ErrorCode.TOO_LARGE,
            f"agent {agent.name} has {len(devices)} devices and named none; "
            f"at most {wire.MAX_DEVICES} go into one exchange",
        )
    policies: dict[str, PolicyText] = {}
    return [(device, _effective_policy(tx, device, policies)) for device in devices]


def observe(tx: Transaction, agent: Agent, names: Sequence[str]) -> Situation:
    """Return everything that decisions on the named devices depend on."""
    assignments = resolve(tx, agent, names) if names else []
    ids = [device.device_id for device, _ in assignments]
    states = tx.devices.states(ids)
    lives = tx.keys.lives(ids)
    requests = tx.requests.open_of(ids)

    def view(device: Device, policy: PolicyText) -> DeviceView:
        life = lives.get(device.device_id)
        return DeviceView(
            device,
            policy,
            states[device.device_id],
            life.current if life else None,
            requests.get(device.device_id),
            life.successor if life else None,
        )

    return Situation(agent, tuple(view(device, policy) for device, policy in assignments))


def policy_digest(assignments: Iterable[Assignment]) -> bytes:
    """Return the digest (32 octets) of which policies, in which versions, hold for the devices."""
    lines = [[d.name, d.device_id, p.name, p.version, p.digest] for d, p in assignments]
    return hashlib.sha256(json.dumps(sorted(lines)).encode()).digest()


def fact_requests(assignments: Iterable[Assignment]) -> tuple[wire.FactRequest, ...]:
    """Return the union of what the policies ask for; no arguments means all there is."""
    wanted: dict[str, set[str] | None] = {}
    for policy in {policy.digest: policy for _, policy in assignments}.values():
        for request in compiled(policy).fact_requests:
            known = wanted.setdefault(request.name, set())
            if known is None or not request.args:
                wanted[request.name] = None
            else:
                known |= set(request.args)
    too_many = [name for name, args in wanted.items() if args and len(args) > _MAX_ARGUMENTS]
    if too_many:
        raise Unavailable(
            f"the policies ask for more than {_MAX_ARGUMENTS} entries of {too_many[0]}"
        )
    return tuple(wire.FactRequest(name, tuple(sorted(a or ()))) for name, a in wanted.items())


def compiled(policy: PolicyText) -> Policy:
    """Return the compiled policy; the same text is compiled once."""
    return _Compiler.get(policy)


class _Compiler:
    """Compiled policies by digest, so that a policy that was removed and made anew is another."""

    _known: dict[str, Policy] = {}  # noqa: RUF012 - the cache is shared on purpose
    _LIMIT = 1024

    @classmethod
    def get(cls, policy: PolicyText) -> Policy:
        found = cls._known.get(policy.digest)
        if found is None:
            if len(cls._known) >= cls._LIMIT:
                cls._known.clear()
            found = cls._known[policy.digest] = compile_policy(policy.text)
        return found


def _effective_policy(tx: Transaction, device: Device, known: dict[str, PolicyText]) -> PolicyText:
    """Return the device's own policy, else its group's, else the default one."""
    name = device.policy
    if name is None and device.group is not None:
        group = tx.groups.get(device.group)
        name = group.policy if group else None
    name = name or DEFAULT_POLICY
    if name not in known:
        policy = tx.policies.get(name)
        if policy is None:
            raise Unavailable(f"policy {name!r} of device {device.name!r} does not exist")
        known[name] = policy
    return known[name]
