"""Replaces keys of volumes that are open, as the server wants it."""

from dataclasses import dataclass, replace

from securecloud_protocol.messages import AckResult, DeviceDecision, LuksHeader, Successor

from securecloud_agent.decide.model import State
from securecloud_agent.decide.offline import CODE as OFFLINE
from securecloud_agent.errors import AgentError, printable, warn
from securecloud_agent.main.device import Followed
from securecloud_agent.main.hardening import wipe
from securecloud_agent.main.wiring import Agent
from securecloud_agent.volumes.volumes import Volumes

_IN_USE = frozenset({State.VERIFIED, State.OPENED, State.MOUNTED})
_WORDS = frozenset({*map(str, _IN_USE), OFFLINE})


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
        successor = decision.successor
        return (
            successor is not None
            and successor.key is None
            and not self._is_read_only(decision)
            and self._volumes.state(decision.device) in _IN_USE
        )

    def follow(self, decision: DeviceDecision, done: Followed) -> Replaced:
        """Take off a key that is not released any more, and add the one that is to follow.

        Only the server's decision says which one it releases: it answers an acknowledgement also
        where it did not take the successor that was named in it. What fails is told, and changes
        nothing of the volume's being open.
        """
        device, version, successor = decision.device, decision.key_version, decision.successor
        state = self._volumes.state(device)
        if decision.outcome != "granted" or version is None or state not in _IN_USE:
            return Replaced(done, decision)
        self._look_back(device, version, successor)
        try:
            follows = successor.version if successor is not None else None
            # Before the slot goes that it opens.
            self._offline.outdated(device, {version, follows})
            header = self._volumes.settle_keys(device, version, follows)
            if header is not None:
                self._remember(device, version)
                text = f"it opens with version {version} of its key alone"
                done = _told(replace(done, changed=True), device, str(state), text, version, header)
            if successor is None or successor.key is None or decision.key is None:
                return Replaced(done, decision)
            if self._is_read_only(decision) or not _is_in_use(done):
                return Replaced(done, decision)
            header = self._add(device, decision.key, successor.key, successor.version)
        except AgentError as error:
            problem = f"its key was not replaced: {printable(error)}"
            warn(f"{device}: {problem}")
            # The header may be changed in part, so nothing is said of it.
            return Replaced(_told(done, device, str(state), problem, version, None), decision)
        opens_by = replace(
            decision, key=successor.key, key_version=successor.version, successor=None
        )
        text = f"it opens with version {successor.version} of its key as well"
        done = replace(done, changed=True)
        done = _told(done, device, str(state), text, successor.version, header)
        return Replaced(done, opens_by, successor.version)

    def _look_back(self, device: str, version: int, successor: Successor | None) -> None:
        """Warn of a server that knows less than it did, while the volume is still open."""
        known = self._memory.device(device)
        newest = max(version, successor.version if successor is not None else 0)
        if known is not None and newest < known.key_version:
            warn(
                f"{device}: the server releases version {version} of its key, this volume opens"
                f" with version {known.key_version}; was the server restored from a backup?"
            )

    def _is_read_only(self, decision: DeviceDecision) -> bool:
        known = self._memory.device(decision.device)
        volume = decision.volume
        return (known is None or known.read_only) or (volume is not None and volume.read_only)

    def _add(self, device: str, key: bytes, successor: bytes, version: int) -> LuksHeader:
        old, new = bytearray(key), bytearray(successor)
        try:
            return self._volumes.add_key(device, old, new, version)
        finally:
            wipe(old)
            wipe(new)

    def _remember(self, device: str, version: int) -> None:
        known = self._memory.device(device)
        if known is not None:
            self._memory.remember_device(device, replace(known, key_version=version))


def _is_in_use(done: Followed) -> bool:
    """Say whether the server will take it for that; else it would not take the successor."""
    return done.ack is not None and done.ack.result in _WORDS


def _told(
    done: Followed, device: str, state: str, text: str, version: int, header: LuksHeader | None
) -> Followed:
    ack = done.ack or AckResult(device, version, state, None, False, "")
    detail = printable(f"{ack.detail}; {text}" if ack.detail else text)
    return replace(done, ack=replace(ack, detail=detail, key_version=version, header=header))
