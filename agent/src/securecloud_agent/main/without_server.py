"""Opens volumes while no server can be reached, with keys that this machine's TPM has sealed."""

from collections.abc import Iterable

from securecloud_agent.decide.grace import Grace, in_words
from securecloud_agent.decide.model import Kind, State
from securecloud_agent.decide.offline import CODE
from securecloud_agent.decide.plan import KEYLESS, plan_offline
from securecloud_agent.errors import AgentError, printable, warned
from securecloud_agent.main.device import remembered_volume
from securecloud_agent.main.hardening import wipe
from securecloud_agent.main.offline import Unsealed
from securecloud_agent.main.outcome import Outcome, remember
from securecloud_agent.main.wiring import Agent
from securecloud_agent.state.memory import DeviceMemory
from securecloud_agent.traces import forget
from securecloud_agent.volumes.trouble import VolumeError
from securecloud_agent.volumes.volumes import HELD, Volumes


def open_kept(agent: Agent) -> tuple[Outcome, ...]:
    """Open what is closed and kept; return what came of each device that was tried.

    The caller holds the instance lock, and has found no server for as long as it looks for one.
    """
    volumes = agent.volumes()
    keys: list[bytes] = []
    try:
        tried = [_try(agent, volumes, device, keys) for device in agent.offline_keys().devices()]
    finally:
        forget(keys)
    outcomes = tuple(each for each in tried if each is not None)
    if outcomes:
        volumes.settle()
        with warned("the outcome could not be remembered"):
            remember(agent, outcomes, None)
        _tell_hooks(agent, volumes, outcomes)
    return outcomes


def _tell_hooks(agent: Agent, volumes: Volumes, outcomes: Iterable[Outcome]) -> None:
    for each in outcomes:
        if each.outcome == "granted":
            with warned(f"hooks were not told of {each.device}"):
                known = agent.memory.device(each.device)
                volumes.tell("opened", each.device, (known.mount_point if known else None) or "", 0)


def _try(agent: Agent, volumes: Volumes, device: str, keys: list[bytes]) -> Outcome | None:
    """Return what came of `device`; None where there is nothing to do."""
    if volumes.state(device) is not State.CLOSED or agent.marks.has(HELD, device):
        return None
    unsealed: Unsealed | None = None
    try:
        known = agent.memory.device(device)
        if known is None or known.luks_uuid is None:
            raise VolumeError("this machine does not remember the volume that it belongs to")
        unsealed = agent.offline_keys().unseal(device)
        if unsealed is None:
            return None
        keys.append(bytes(unsealed.key))
        agent.offline_keys().count(device)
        return _open(agent, volumes, device, known, unsealed)
    except AgentError as error:
        detail = f"it is not opened without a server: {printable(error)}"
        return Outcome(device, "failed", CODE, detail, str(volumes.state(device)), "", None)
    finally:
        if unsealed is not None:
            wipe(unsealed.key)


def _open(
    agent: Agent, volumes: Volumes, device: str, known: DeviceMemory, unsealed: Unsealed
) -> Outcome:
    volume = remembered_volume(known)
    work = volumes.work(device, volume, unsealed.key)
    # Before it is open: a volume without an end would stay so.
    agent.graces().begin(device, Grace(agent.clocks.since_boot(), unsealed.seconds, 0, 0, CODE))
    try:
        for connected in (False, True):
            where = None if connected else volume.iscsi
            seen = volumes.observe(device, volume.source, known.luks_uuid, where)
            steps = plan_offline(seen, volume)
            for step in steps:
                work.carry_out(step)
            if steps[0].kind is not Kind.CONNECT:
                break
    finally:
        if work.done.state in KEYLESS:
            agent.graces().end(device)
            volumes.disconnect(device)
    boots = f"{unsealed.boots_left} more boot{'' if unsealed.boots_left == 1 else 's'}"
    detail = (
        "no server could be reached; opened with the key that this machine's TPM has sealed, for"
        f" {in_words(unsealed.seconds)}, and {boots} after this one"
    )
    state = str(work.done.state)
    return Outcome(device, "granted", CODE, detail, state, work.done.how, None)
