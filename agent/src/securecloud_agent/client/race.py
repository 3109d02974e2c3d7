"""Ask several servers, one after the other without waiting for the slow ones; the first wins.

As in Happy Eyeballs (RFC 8305): the next begins after a short delay, or at once when one fails.
"""

import queue
import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from securecloud_agent.client.failures import NotWorkingError, UnreachableError
from securecloud_agent.client.tls import Deadline
from securecloud_agent.errors import AgentError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

START_DELAY = 0.3


class Contender(Protocol[T_co]):
    """One way to get the answer. `close` may come from another thread while `run` works."""

    url: str

    def run(self) -> T_co:
        """Return the answer or raise."""

    def close(self) -> None:
        """Give up, and make a `run` under way fail soon."""


class _Attempt(Generic[T]):
    def __init__(self, contender: Contender[T], done: "queue.SimpleQueue[_Attempt[T]]") -> None:
        self.contender = contender
        self.value: T | None = None
        self.error: BaseException | None = None
        self._done = done

    def start(self) -> None:
        # Daemons: a name look-up that hangs must not keep the process alive.
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self.value = self.contender.run()
        except BaseException as error:  # the thread that waits raises it
            self.error = error
        self._done.put(self)


def first(
    contenders: Sequence[Contender[T]], deadline: Deadline, start_delay: float = START_DELAY
) -> T:
    """Return the first answer; close all others. Raises when nobody has one before `deadline`."""
    done: queue.SimpleQueue[_Attempt[T]] = queue.SimpleQueue()
    waiting = deque(_Attempt(contender, done) for contender in contenders)
    running: list[_Attempt[T]] = []
    failures: list[AgentError] = []
    winner: _Attempt[T] | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                running.append(waiting.popleft())
                running[-1].start()
            ended = _next_ended(done, deadline, start_delay if waiting else None)
            if ended is None:
                continue
            running.remove(ended)
            if ended.error is None:
                winner = ended
            elif isinstance(ended.error, AgentError):
                failures.append(ended.error)
            else:
                raise ended.error
    except TimeoutError:
        failures += [_too_slow(attempt) for attempt in running]
    finally:
        for attempt in running:
            attempt.contender.close()
    if winner is None:
        raise _summary(failures)
    assert winner.value is not None
    return winner.value


def _next_ended(
    done: "queue.SimpleQueue[_Attempt[T]]", deadline: Deadline, patience: float | None
) -> "_Attempt[T] | None":
    """Return an attempt that ended, or None when it is time to start the next one."""
    left = deadline.left()
    try:
        return done.get(timeout=left if patience is None else min(patience, left))
    except queue.Empty:
        deadline.left()
        return None


def _too_slow(attempt: "_Attempt[T]") -> AgentError:
    return UnreachableError(f"{attempt.contender.url}: no answer in time")


def _summary(failures: Sequence[AgentError]) -> AgentError:
    """Return the failure that tells most, with the others' texts behind it."""
    if not failures:
        return UnreachableError("no server answered in time")
    telling = [error for error in failures if not isinstance(error, UnreachableError)]
    answered = [error for error in failures if isinstance(error, NotWorkingError)]
    chief = (telling or answered or list(failures))[0]
    others = [str(error) for error in failures if error is not chief]
    if others:
        chief.args = ("; ".join([str(chief), *others]),)
    return chief
