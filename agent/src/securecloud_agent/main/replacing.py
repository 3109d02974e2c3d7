"""Replaces keys of volumes that are open, as the server wants it."""

from dataclasses import dataclass, replace

from securecloud_protocol.messages import DeviceDecision

from securecloud_agent.decide.model import State
from securecloud_agent.errors import AgentError, printable, warn, warned
from securecloud_agent.main.device import Followed
from securecloud_agent.main.hardening import wipe
from securecloud_agent.main.wiring import Agent
from securecloud_agent.volumes.volumes import Volumes

_IN_USE = frozenset({State.VERIFIED, State.OPENED, State.MOUNTED})


@dataclass(frozen=True, slots=True)
class Replaced:
    """What was done, and the decision with the key that the volume opens with from now on: of
    `version`, if one was added.
    """

    done: Followed
    decision: DeviceDecision
    version: int | None = None


class Replacing:
    """Follows what the server says of the versions of keys."""

    def __init__(self, agent: Agent, volumes: Volumes) -> None:
        self._memory = agent.memory
        self._offline = agent.offline_keys()
        self._volumes = volumes

    def is_due(self, decision: DeviceDecision) -> bool:
        """Say whether to ask for the key that is to follow: the volume is open and writable."""
        successor, known = decision.successor, self._memory.device(decision.device)
        return (
            successor is not None
            and successor.key is None
            and known is not None
            and not known.read_only
            and self._volumes.state(decision.device) in _IN_USE
        )

    def follow(self, decision: DeviceDecision, done: Followed) -> Replaced:
        """Take off a key that is not released any more, and add the one that is to follow.

        What fails is told, and changes nothing of the volume's being open.
        """
        device, version = decision.device, decision.key_version
        if (
            decision.outcome != "granted"
            or version is None
            or self._volumes.state(device) not in _IN_USE
        ):
            return Replaced(done, decision)
        successor = decision.successor
        try:
            follows = successor.version if successor is not None else None
            settled = self._settle(device, version, follows)
            if settled:
                done = replace(done, changed=True)
            if successor is None or successor.key is None or decision.key is None:
                return Replaced(done, decision)
            self._add(device, decision.key, successor.key, successor.version)
        except AgentError as error:
            problem = f"its key was not replaced: {printable(error)}"
            warn(f"{device}: {problem}")
            return Replaced(_told(done, problem, version), decision)
        told = f"it opens with version {successor.version} of its key as well"
        opens_by = replace(
            decision, key=successor.key, key_version=successor.version, successor=None
        )
        done = _told(replace(done, changed=True), told, successor.version)
        return Replaced(done, opens_by, successor.version)

    def _add(self, device: str, key: bytes, successor: bytes, version: int) -> None:
        old, new = bytearray(key), bytearray(successor)
        try:
            self._volumes.add_key(device, old, new, version)
        finally:
            wipe(old)
            wipe(new)

    def taken(self, device: str, version: int) -> None:
        """Take off the old key: the server has taken the new one, of `version`, into use."""
        with warned(f"{device}: its old key opens it as well until the next check"):
            self._settle(device, version, None)

    def _settle(self, device: str, version: int, successor: int | None) -> bool:
        settled = self._volumes.settle_keys(device, version, successor)
        if settled:
            self._offline.outdated(device, version)
            known = self._memory.device(device)
            if known is not None:
                self._memory.remember_device(device, replace(known, key_version=version))
        return settled


def _told(done: Followed, text: str, version: int) -> Followed:
    ack = done.ack
    if ack is None:
        return done
    detail = printable(f"{ack.detail}; {text}" if ack.detail else text)
    return replace(done, ack=replace(ack, detail=detail, key_version=version))
