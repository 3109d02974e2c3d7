"""The encryptions in place of this machine: which were asked for, and which are under way.

One takes hours, so it is not part of a pass: a thread does it, of the service or of the `encrypt`
command. Whoever does it holds a lock file, and so do the programs that it starts; everybody else
sees by the lock that it is under way, and reads how far it is from a file beside it.
"""

import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from securecloud_agent.errors import printable, say
from securecloud_agent.run import Follower, Runner
from securecloud_agent.state.files import StateError, read_json, remove, write_json
from securecloud_agent.state.memory import BootMarks, Encryption, Memory
from securecloud_agent.volumes.in_place import Hands, InPlace, Order, Progress
from securecloud_agent.volumes.trouble import VolumeError

STOP = "stop-encryption"

_TAKE_SECONDS = 5.0
_STOP_SECONDS = 120.0
_POLL = 0.1
_TELL_SECONDS = 60.0
_WAIT_SECONDS = 10.0
_THREAD = "encrypt "


class Encryptions:
    """Those of this machine, whichever process does them."""

    def __init__(
        self,
        memory: Memory,
        marks: BootMarks,
        run: Runner,
        follow: Follower,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._memory = memory
        self._marks = marks
        self._run = run
        self._follow = follow
        self._monotonic = monotonic
        self._pause = pause
        self._threads: list[threading.Thread] = []
        self.on_end: Callable[[], None] = lambda: None
        """Called, in the thread that did it, when one has finished."""
        self.tell: Callable[[object], None] = say
        """Gets a line now and then on how far one is that this process does."""

    # --- what was asked for

    def asked(self, device: str) -> Encryption | None:
        """Return the encryption of `device` that was asked for and is not over."""
        return self._memory.encryption(device)

    def ask(self, device: str) -> None:
        """Remember, over reboots, that the operator wants `device` encrypted."""
        if self.asked(device) is None:
            self._memory.remember_encryption(device, Encryption(str(uuid.uuid4()), "asked"))
        if not self.running(device):
            # How an earlier try ended is no news of this one.
            self._report(device, Progress("asked"))

    def withdraw(self, device: str) -> None:
        """Forget it, unless something was changed already: then it has to come to its end."""
        asked = self.asked(device)
        if asked is not None and asked.phase == "asked":
            self._memory.remember_encryption(device, None)

    def refuse(self, device: str, reason: str, *, for_good: bool) -> None:
        """Leave the reason where whoever asked will look; `for_good` if it will not change."""
        if self.asked(device) is not None:
            if for_good:
                self.withdraw(device)
            self._report(device, Progress("failed", detail=printable(reason)))

    def forget(self, device: str) -> None:
        """The volume is open, so it is over."""
        self._memory.remember_encryption(device, None)
        reached = self.progress(device)
        if reached is not None and reached.phase == "asked":
            remove(self._progress_path(device))

    # --- what is under way

    def running(self, device: str) -> bool:
        """Say whether somebody is at it now."""
        try:
            with self._lock_path(device).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def progress(self, device: str) -> Progress | None:
        """Return how far it is or how it ended, if one was seen in this boot."""
        found = read_json(self._progress_path(device))
        try:
            return Progress(**found) if found else None
        except TypeError:
            return None

    def start(self, order: Order, key: bytearray) -> None:
        """Begin, or go on, in a thread of its own; `key` is copied and the copy is wiped."""
        record = self.asked(order.device)
        if record is None:
            raise VolumeError("nobody asked for it to be encrypted in place")
        lock = self._take(order.device)
        self._marks.clear(STOP, [order.device])
        self._report(order.device, Progress("checking"))
        arguments = (order, record, bytearray(key), lock)
        # No daemon: it ends in order, at the end of a chunk.
        thread = threading.Thread(
            target=self._work, args=arguments, name=f"{_THREAD}{order.device}"
        )
        self._threads.append(thread)
        thread.start()

    def stop(self, device: str) -> bool:
        """Have the one under way end after its chunk; return whether there was one."""
        if not self.running(device):
            return False
        self._marks.put(STOP, device)
        give_up = self._monotonic() + _STOP_SECONDS
        while self.running(device):
            if self._monotonic() >= give_up:
                raise VolumeError("it is being checked or made smaller, which must not be stopped")
            self._pause(_POLL)
        return True

    def own(self) -> set[str]:
        """Return the devices for which this process does one now."""
        return {each.name.removeprefix(_THREAD) for each in self._threads if each.is_alive()}

    def stop_own(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Have all that this process does end after their chunks; `waiting` is called meanwhile."""
        for device in self.own():
            self._marks.put(STOP, device)
        for thread in self._threads:
            while thread.is_alive():
                waiting()
                thread.join(_WAIT_SECONDS)

    # --- the work

    def _work(self, order: Order, record: Encryption, key: bytearray, lock: int) -> None:
        device = order.device
        teller = _Teller(device, self._monotonic, self.tell)

        def report(progress: Progress) -> None:
            self._report(device, progress)
            teller.tell(progress)

        def remember(encryption: Encryption) -> None:
            self._memory.remember_encryption(device, encryption)

        def stopped() -> bool:
            return self._marks.has(STOP, device)

        folder = self._marks.path("")
        hands = Hands(self._run, self._follow, remember, report, stopped, (lock,), folder)
        finished = False
        try:
            InPlace(order, record, key, hands).work()
            reached = self.progress(device) or Progress("encrypting")
            report(replace(reached, phase="finished", detail="all of it is encrypted"))
            finished = True
        except Exception as error:  # a thread has nobody else to tell
            self._failed(device, error, report)
        finally:
            key[:] = bytes(len(key))
            os.close(lock)
        if finished:
            self.on_end()

    def _failed(self, device: str, error: Exception, report: Callable[[Progress], None]) -> None:
        reached = self.progress(device) or Progress("failed")
        if self._marks.has(STOP, device):
            report(replace(reached, phase="stopped", detail="it goes on from here when granted"))
            return
        self.withdraw(device)
        report(replace(reached, phase="failed", detail=printable(error)))

    def _report(self, device: str, progress: Progress) -> None:
        # It goes on even where nobody can be told how far it is.
        with suppress(StateError):
            write_json(self._progress_path(device), asdict(progress))

    # --- files

    def _lock_path(self, device: str) -> Path:
        return self._marks.path(f"{device}.encryption")

    def _progress_path(self, device: str) -> Path:
        return self._marks.path(f"{device}.progress")

    def _take(self, device: str) -> int:
        """Return the lock's descriptor; whoever only looks lets go of it at once."""
        descriptor = os.open(self._lock_path(device), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up = self._monotonic() + _TAKE_SECONDS
        while not _locked(descriptor):
            if self._monotonic() >= give_up:
                os.close(descriptor)
                raise StateError(f"{device} is being encrypted already", "busy")
            self._pause(_POLL)
        return descriptor


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Teller:
    """Tells of it now and then: each phase, each tenth, and once a minute."""

    def __init__(
        self, device: str, monotonic: Callable[[], float], say: Callable[[object], None]
    ) -> None:
        self._device = device
        self._monotonic = monotonic
        self._say = say
        self._told: tuple[str, int] = ("", -1)
        self._at = monotonic()

    def tell(self, progress: Progress) -> None:
        news = (progress.phase, int(progress.percent // 10))
        if news == self._told and self._monotonic() < self._at + _TELL_SECONDS:
            return
        self._told, self._at = news, self._monotonic()
        self._say(f"{self._device}: {describe(progress)}")


def describe(progress: Progress) -> str:
    """Return a progress as one line: percentage, rate and time left."""
    if progress.phase != "encrypting":
        at = f" at {progress.percent:g} %" if progress.done else ""
        detail = f": {progress.detail}" if progress.detail else ""
        return f"encryption in place: {progress.phase}{at}{detail}"
    return (
        f"encryption in place: {progress.percent:.1f} % of {progress.total / 1024**2:.0f} MiB,"
        f" {progress.rate / 1024**2:.1f} MiB/s, {_span(progress.remaining or 0)} left"
    )


def _span(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
