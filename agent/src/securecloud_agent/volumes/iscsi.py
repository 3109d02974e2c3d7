"""iSCSI sessions of this machine (RFC 7143): made for a device's disk, ended when nobody needs it.

open-iscsi does the work: `iscsiadm` tells its daemon. A record for the target is written, never
discovered, so the portal is the one that the server named. A record that is there already is left
as it is, with whatever the administrator put into it, CHAP secrets for one.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from securecloud_agent.decide.place import read_portal
from securecloud_agent.errors import AgentError
from securecloud_agent.run import Finished, Runner, ToolTimeoutError
from securecloud_agent.state.memory import BootMarks, Memory
from securecloud_agent.volumes.encryptions import Encryptions
from securecloud_agent.volumes.kernel import IscsiSession, Kernel
from securecloud_agent.volumes.trouble import VolumeError

if TYPE_CHECKING:
    from securecloud_protocol.messages import IscsiTarget

CONNECTED = "iscsi"
"""The mark of a device for which this agent logged in."""

_CONNECT_SECONDS = 30.0
"""How long one disk may keep the others waiting, all its steps together."""
_PORTAL_SECONDS = 10.0
_LOGOUT_SECONDS = 30.0
_POLL = 0.25

# Exit statuses of iscsiadm(8).
_SESSION_NOT_FOUND = 2
_SESSION_EXISTS = 15
_NO_OBJECTS_FOUND = 21
_WHY_NOT = {
    8: "the login was not answered in time",
    11: "the login was not answered in time",
    12: "the kernel's module iscsi_tcp cannot be loaded",
    18: "the daemon iscsid does not answer; see `systemctl status iscsid`",
    19: "the target is not there, or not for this machine's name in /etc/iscsi/initiatorname.iscsi",
    20: "the daemon iscsid does not run; see `systemctl status iscsid`",
    24: "the target refuses this machine: its name in /etc/iscsi/initiatorname.iscsi is not"
    " allowed, or a CHAP secret is missing or wrong",
}


class Sessions:
    """Those of this machine. One object sees to one pass: it tries no dead portal twice."""

    def __init__(
        self,
        run: Runner,
        kernel: Kernel,
        memory: Memory,
        marks: BootMarks,
        encryptions: Encryptions,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._run = run
        self._kernel = kernel
        self._memory = memory
        self._marks = marks
        self._encryptions = encryptions
        self._monotonic = monotonic
        self._pause = pause
        self._dead: dict[str, str] = {}

    def is_up(self, place: "IscsiTarget") -> bool:
        """Say whether there is a session with the target, and it answers."""
        session = self._session(place)
        return session is not None and session.up

    def connect(self, device: str, place: "IscsiTarget", source: Path) -> bool:
        """See to it that `source` is there; return whether that took a login.

        Raise VolumeError, which says what the matter is, within 30 seconds.
        """
        give_up = self._monotonic() + _CONNECT_SECONDS
        session = self._session(place)
        if session is None:
            self._reach(place)
            self._log_in(device, place, give_up)
        else:
            self._await_session(place, give_up)
            # The target may have got this disk later than the session.
            self._node(place, give_up, "--rescan")
        self._await_disk(place, source, give_up)
        return session is None

    def disconnect(self, device: str) -> bool:
        """End the session of a closed device's disk; return whether there was one to end.

        Only if this agent logged in, and nobody uses any disk of the same session: that of another
        device, or one that the agent knows nothing of.
        """
        known = self._memory.device(device)
        place = known.iscsi if known is not None else None
        if place is None:
            return False
        sharers = self._sharers(place)
        if not any(self._marks.has(CONNECTED, each) for each in sharers):
            return False
        session = self._session(place)
        if session is not None:
            if self._is_needed(session, sharers):
                return False
            self._log_out(place)
        self._marks.clear(CONNECTED, sharers)
        return session is not None

    def _sharers(self, place: "IscsiTarget") -> list[str]:
        """Return the devices whose disks come with the same session."""
        found = []
        for each in self._memory.devices():
            # What is damaged is told of by the pass; the kernel knows whether its disk is in use.
            with suppress(AgentError):
                known = self._memory.device(each)
                other = known.iscsi if known is not None else None
                if other and (other.portal, other.target) == (place.portal, place.target):
                    found.append(each)
        return found

    def _is_needed(self, session: IscsiSession, sharers: list[str]) -> bool:
        """Between its programs an encryption in place holds the disk by its own lock alone."""
        return any(self._encryptions.running(each) for each in sharers) or any(
            self._kernel.is_used(disk) for disk in session.disks
        )

    def _session(self, place: "IscsiTarget") -> IscsiSession | None:
        where = read_portal(place.portal)
        return self._kernel.iscsi_session(*where, place.target) if where is not None else None

    def _left(self, give_up: float) -> float:
        return max(1.0, give_up - self._monotonic())

    # --- steps

    def _reach(self, place: "IscsiTarget") -> None:
        """Wait until somebody listens there, for iscsid would try for minutes and say less."""
        where = read_portal(place.portal)
        if where is None:
            raise VolumeError(f"{place.portal} is no iSCSI portal")
        if place.portal in self._dead:
            raise VolumeError(self._dead[place.portal])
        give_up = self._monotonic() + _PORTAL_SECONDS
        while (problem := _why_unreachable(where, self._left(give_up))) is not None:
            if self._monotonic() >= give_up:
                text = (
                    f"the iSCSI portal {place.portal} cannot be reached: {problem}; it is tried"
                    " again"
                )
                self._dead[place.portal] = text
                raise VolumeError(text)
            self._pause(_POLL)

    def _log_in(self, device: str, place: "IscsiTarget", give_up: float) -> None:
        was_ours = self._marks.has(CONNECTED, device)
        try:
            self._record(place, give_up)
            self._marks.put(CONNECTED, device)
            done = self._node(place, give_up, "--login")
        except ToolTimeoutError:
            # The daemon goes on trying, and the session may come after all: it is ours, then.
            text = f"the login to {place.target} at {place.portal} was not answered in time"
            self._dead[place.portal] = text
            raise VolumeError(text) from None
        if done.status == 0 or (done.status == _SESSION_EXISTS and was_ours):
            return
        self._marks.clear(CONNECTED, [device])
        if done.status != _SESSION_EXISTS:
            self._require(done, place, "logged in to")

    def _record(self, place: "IscsiTarget", give_up: float) -> None:
        """Have a record of the target; making one anew would empty the administrator's."""
        if self._node(place, give_up, "--op=show").status == _NO_OBJECTS_FOUND:
            self._require(self._node(place, give_up, "--op=new"), place, "recorded")
            # Whatever the default of this machine is: only the agent says when.
            manual = ("--op=update", "--name=node.startup", "--value=manual")
            self._require(self._node(place, give_up, *manual), place, "recorded")

    def _await_session(self, place: "IscsiTarget", give_up: float) -> None:
        while not self.is_up(place):
            if self._monotonic() >= give_up:
                raise VolumeError(
                    f"the iSCSI session with {place.target} at {place.portal} is down: the target"
                    " does not answer"
                )
            self._pause(_POLL)

    def _await_disk(self, place: "IscsiTarget", source: Path, give_up: float) -> None:
        while not source.exists():
            left = self._left(give_up)
            if self._monotonic() >= give_up:
                raise VolumeError(
                    f"{place.target} at {place.portal} is connected, but {source} has not appeared:"
                    f" has it a LUN {place.lun}, and for this machine?"
                )
            settle = ["udevadm", "settle", f"--exit-if-exists={source}", f"--timeout={left:.0f}"]
            self._run(settle, timeout=left + 1)
            self._pause(_POLL)

    def _log_out(self, place: "IscsiTarget") -> None:
        done = self._node(place, self._monotonic() + _LOGOUT_SECONDS, "--logout")
        if done.status not in (_SESSION_NOT_FOUND, _NO_OBJECTS_FOUND):
            self._require(done, place, "logged out of")

    def _node(self, place: "IscsiTarget", give_up: float, *words: str) -> Finished:
        which = (f"--targetname={place.target}", f"--portal={_spelled(place.portal)}")
        argv = ["iscsiadm", "--mode=node", *which, *words]
        return self._run(argv, timeout=self._left(give_up))

    def _require(self, done: Finished, place: "IscsiTarget", what: str) -> None:
        if done.status != 0:
            why = _WHY_NOT.get(done.status, done.complaint)
            raise VolumeError(f"{place.target} at {place.portal} could not be {what}: {why}")


def _spelled(portal: str) -> str:
    """Return the portal as iscsiadm takes it, and as its records and the kernel spell it."""
    address, port = read_portal(portal) or (portal, 0)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _why_unreachable(where: tuple[str, int], seconds: float) -> str | None:
    try:
        socket.create_connection(where, timeout=seconds).close()
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return error.strerror or "no connection"
    return None
