"""From a server's decision on one device and the sight of its volume to the steps to take."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from securecloud_agent.decide.grace import in_words
from securecloud_agent.decide.model import UNKNOWN_KIND, Action, Content, Kind, Observed, State
from securecloud_agent.decide.place import why_no_place

if TYPE_CHECKING:
    from securecloud_protocol.messages import DeviceDecision, Volume

Plan = tuple[Action, ...]

KEYLESS = frozenset({State.CLOSED, State.SUSPENDED})
"""The states in which this machine has no key."""


def claim(observed: Observed, *, renew: bool = False) -> str:
    """Return what to ask for: the `key` where this machine has none, a `check` elsewhere.

    `renew`: with the check the key of what is open, to keep it for boots without a server.
    """
    if observed.state in KEYLESS and not observed.held:
        return "key"
    return "renew" if renew else "check"


def in_order(decisions: "Iterable[DeviceDecision]") -> "list[DeviceDecision]":
    """Return the decisions in the order to follow them: no local disk waits for a remote one."""

    def is_remote(decision: "DeviceDecision") -> bool:
        return decision.volume is not None and decision.volume.iscsi is not None

    return sorted(decisions, key=is_remote)


def plan(decision: "DeviceDecision", observed: Observed, volume: "Volume | None") -> Plan:
    """Return the steps for one device; `volume` is the server's word, or the remembered one.

    Where the only step is to connect, there is more to decide once the disk can be looked at.
    """
    if decision.outcome != "granted":
        return _not_granted(decision, observed)
    if observed.held:
        return (
            Action(Kind.NOTHING, "locked by the operator; `securecloud-agent unlock` opens it"),
        )
    if observed.state not in KEYLESS:
        return _still_open(decision.device, observed, volume)
    if volume is None or decision.key is None:
        return _refuse("the server granted the device but sent no key or no volume with it")
    if observed.state is State.SUSPENDED:
        return _suspended(observed, volume)
    return _connect_first(observed, volume) or _granted(observed, volume)


def plan_offline(observed: Observed, volume: "Volume") -> Plan:
    """Return the steps to open a volume without a server: it is only opened, never made anew.

    `volume` is the remembered one, with the LUKS UUID that was opened before.
    """
    if observed.held or observed.state is not State.CLOSED:
        return (Action(Kind.NOTHING, f"it is {observed.state}, and stays so"),)
    connecting = _connect_first(observed, volume)
    if connecting:
        return connecting
    problem = _obstacle(observed, volume)
    if problem is None and (
        observed.content is not Content.LUKS or observed.encryption is not None
    ):
        problem = f"{volume.source} is encrypted in part; that goes on when a server grants it"
    return _refuse(problem) if problem is not None else _granted(observed, volume)


def _refuse(reason: str) -> Plan:
    return (Action(Kind.REFUSE, reason),)


def _not_granted(decision: "DeviceDecision", observed: Observed) -> Plan:
    denied = decision.outcome == "denied" and decision.code != "unavailable"
    if observed.state in KEYLESS:
        return (Action(Kind.NOTHING, f"it was {observed.state} already"),)
    left = observed.grace_left
    if left is not None and left > 0 and (decision.grace is not None or not denied):
        return (Action(Kind.WAIT, f"it stays {observed.state} for {in_words(left)}"),)
    if denied:
        return (Action(Kind.LOCK, f"denied ({decision.code}) while {observed.state}"),)
    if left is not None:
        return (Action(Kind.LOCK, f"its grace is over, and it is {decision.outcome}"),)
    if decision.code == "unavailable":
        return (Action(Kind.NOTHING, "the server cannot decide now; what is open stays open"),)
    return (Action(Kind.NOTHING, "nothing is changed meanwhile"),)


def _still_open(device: str, observed: Observed, volume: "Volume | None") -> Plan:
    if observed.disk_gone:
        return _refuse(
            "its disk is gone while it is open, so what was written last may be lost; bring it back"
            f" and `securecloud-agent lock {device}`, then `unlock {device}`, or reboot"
        )
    down = _session_is_down(observed, volume)
    if down is not None:
        return _refuse(down)
    pinned = volume.luks_uuid if volume is not None else None
    if pinned and observed.luks_uuid and observed.luks_uuid != pinned:
        return _refuse(f"LUKS UUID {observed.luks_uuid} is open in the place of {pinned}")
    if observed.state is State.OPENED and volume is not None and volume.mount_point:
        return (Action(Kind.MOUNT, f"open but not mounted at {volume.mount_point}"),)
    return (Action(Kind.NOTHING, f"it stays {observed.state}"),)


def _session_is_down(observed: Observed, volume: "Volume | None") -> str | None:
    """Return what is wrong with the disk of a volume that is open or suspended, if it is iSCSI."""
    if volume is None or volume.iscsi is None or observed.connected:
        return None
    return (
        f"it is {observed.state}, but its iSCSI session with {volume.iscsi.portal} is down: the"
        " target does not answer. What was written last is lost unless it comes back soon"
    )


def _suspended(observed: Observed, volume: "Volume") -> Plan:
    problem = _session_is_down(observed, volume) or _obstacle(observed, volume)
    if problem is None and observed.content is not Content.LUKS:
        problem = f"{volume.source} does not hold the volume any more that is suspended"
    return _refuse(problem) if problem else (Action(Kind.RESUME, "granted"),)


def _connect_first(observed: Observed, volume: "Volume") -> Plan:
    """Return what keeps a granted volume from being looked at; nothing where it was."""
    if volume.iscsi is None:
        return ()
    problem = why_no_place(volume.iscsi)
    if problem is not None:
        return _refuse(problem)
    if observed.connected:
        return ()
    return (Action(Kind.CONNECT, f"{volume.source} is on iSCSI"),)


def _granted(observed: Observed, volume: "Volume") -> Plan:
    if _headers_are_under_way(observed, volume):
        return (Action(Kind.ENCRYPT, f"LUKS headers are put on {volume.source}"),)
    problem = _obstacle(observed, volume)
    if problem is not None:
        return _refuse(problem)
    if observed.content is Content.OTHER:
        return (Action(Kind.ENCRYPT, f"the operator asked to encrypt {volume.source} in place"),)
    if observed.content is Content.UNFINISHED:
        return (Action(Kind.ENCRYPT, f"{volume.source} is encrypted in part"),)
    steps = []
    if observed.content is Content.BLANK:
        steps.append(Action(Kind.FORMAT, f"{volume.source} is blank and may be initialised"))
    if not observed.device_mapper:
        steps.append(Action(Kind.VERIFY, "this kernel has no device-mapper"))
        return tuple(steps)
    steps.append(Action(Kind.OPEN, "granted"))
    if _may_make_filesystem(observed, volume):
        # Also after a crash between format and acknowledgement: a finished one is left alone.
        steps.append(Action(Kind.MAKE_FILESYSTEM, "not acknowledged as initialised yet"))
    if volume.mount_point:
        steps.append(Action(Kind.MOUNT, f"belongs at {volume.mount_point}"))
    return tuple(steps)


def _headers_are_under_way(observed: Observed, volume: "Volume") -> bool:
    """Say whether the disk may look like anything; what it really is will be known by a digest."""
    wanted = observed.encryption is not None and observed.encryption_heading
    there = observed.content not in {Content.ABSENT, Content.UNKNOWN}
    return wanted and there and not volume.read_only


def _obstacle(observed: Observed, volume: "Volume") -> str | None:
    """Return why a granted volume must not be touched, or None."""
    begun = observed.encryption if observed.encryption_begun else None
    pins = {uuid for uuid in (volume.luks_uuid, observed.remembered_uuid, begun) if uuid}
    if len(pins) > 1:
        return (
            f"the server pins LUKS UUID {volume.luks_uuid}, but this machine knows"
            f" {observed.remembered_uuid or begun} as this device"
        )
    if observed.header_problem is not None and observed.content is not Content.BLANK:
        return (
            f"the LUKS header on {volume.source} is refused: {observed.header_problem}"
            f"{way_back(observed, volume)}"
        )
    return _WHY_NOT[observed.content](observed, volume, pins) or _another_header(observed, volume)


def _another_header(observed: Observed, volume: "Volume") -> str | None:
    found, expected = observed.luks_header, volume.header
    if found is None or expected is None or expected.allows(found):
        return None
    return (
        f"the LUKS header on {volume.source} is not the one that the device opened with"
        f"{way_back(observed, volume)}"
    )


def _why_not_use(observed: Observed, volume: "Volume", _pins: set[str]) -> str | None:
    return f"{volume.source} cannot be used: {observed.detail}"


def _may_initialise(observed: Observed, volume: "Volume") -> bool:
    return volume.initialise == "if_blank" or observed.encryption is not None


def _may_make_filesystem(observed: Observed, volume: "Volume") -> bool:
    """Never where there was one to encrypt: what cannot be read then must stay as it is."""
    fresh = volume.luks_uuid is None and not observed.encryption_begun
    return fresh and _may_initialise(observed, volume) and not volume.read_only


def _why_not_encrypt(observed: Observed, volume: "Volume", pins: set[str]) -> str | None:
    """Return why what lies on the source is not to be encrypted in place, or None."""
    if observed.encryption is None:
        return (
            f"{volume.source} holds {observed.detail}; refusing to touch it"
            f"{_advice_on_other(observed, volume, pins)}"
        )
    if pins:
        return (
            f"{volume.source} holds {observed.detail}, but the device has an encrypted volume"
            f" already (LUKS UUID {pins.pop()}); refusing to encrypt another one: register it as a"
            " device of its own"
        )
    if volume.read_only:
        return "the device is read-only; it cannot be encrypted in place"
    if observed.detail != volume.filesystem:
        return (
            f"{volume.source} holds {observed.detail}, and the device is registered with the file"
            f" system {volume.filesystem}; only that can be encrypted in place"
        )
    return None


def _why_not_continue(observed: Observed, volume: "Volume", pins: set[str]) -> str | None:
    """Part of it is plain, so the word of this machine's operator is needed, not the disk's."""
    if observed.encryption is None:
        return (
            f"{volume.source} is encrypted in part, and not by this machine;"
            " `securecloud-agent encrypt` continues if that is what you want"
        )
    if volume.read_only:
        return "the device is read-only; its encryption in place cannot be continued"
    return _replaced(observed, volume, pins)


def _why_not_format(observed: Observed, volume: "Volume", pins: set[str]) -> str | None:
    if pins:
        return (
            f"{volume.source} is blank, but the device was initialised before (LUKS UUID"
            f" {pins.pop()}); refusing to format it again{way_back(observed, volume)}"
        )
    if not _may_initialise(observed, volume):
        return f"{volume.source} is blank and the device's `initialise` is `never`"
    if volume.read_only:
        return f"{volume.source} is blank and the device is read-only; it cannot be initialised"
    return None


def _advice_on_other(observed: Observed, volume: "Volume", pins: set[str]) -> str:
    if not pins:
        return "; `securecloud-agent encrypt` encrypts a file system in place"
    # A file system here means another disk, which a header would damage.
    return way_back(observed, volume) if observed.detail == UNKNOWN_KIND else ""


def way_back(observed: Observed, volume: "Volume") -> str:
    """Return what may help where a header is damaged or gone, as an end to a message."""
    if observed.header_copy is None:
        return ""
    return (
        "; if it is the right disk and was damaged, `cryptsetup luksHeaderRestore"
        f" --header-backup-file {observed.header_copy} {volume.source}` puts the last good one back"
    )


def _replaced(observed: Observed, volume: "Volume", pins: set[str]) -> str | None:
    if pins and observed.luks_uuid not in pins:
        return (
            f"{volume.source} has LUKS UUID {observed.luks_uuid}, but {pins.pop()} is pinned for"
            " this device"
        )
    return None


_WHY_NOT = {
    Content.UNKNOWN: _why_not_use,
    Content.ABSENT: _why_not_use,
    Content.BLANK: _why_not_format,
    Content.LUKS: _replaced,
    Content.UNFINISHED: _why_not_continue,
    Content.OTHER: _why_not_encrypt,
}
