"""Group commit: pieces of work that wait at the same time share one transaction and one fsync."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Engine, PoolProxiedConnection

from securecloud_server.domain.errors import Conflict, Unavailable
from securecloud_server.storage.dialects import Broken, Dialect, explained
from securecloud_server.storage.transaction import SqlTransaction

T = TypeVar("T")

_MOST_IN_A_BATCH = 64

Opener = Callable[[Any], SqlTransaction]
"""Makes a transaction for writing on a DBAPI cursor."""


class Job(Generic[T]):
    """One piece of work and, once its batch is over, its outcome."""

    def __init__(self, work: Callable[[SqlTransaction], T]) -> None:
        self.work = work
        self.over = False
        self._value: T | None = None
        self._error: BaseException | None = None

    def run(self, transaction: SqlTransaction) -> None:
        """Run the work; keep what it returns or raises."""
        self._error = None
        self._value = self.work(transaction)

    def fail(self, error: BaseException) -> None:
        """Make `error` the outcome."""
        self._error = error

    @property
    def failed(self) -> bool:
        """Whether there is nothing to commit."""
        return self._error is not None

    def outcome(self) -> T:
        """Return what the work returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return cast("T", self._value)


class GroupCommit:
    """Serialises the writes of this process.

    Callers queue their work and take turns. Whoever has the turn runs all that is queued in one
    transaction and commits once; the others find their work done when their turn comes. There is
    no thread of its own to hand work to, to lose, or to survive a fork without.
    """

    def __init__(self, engine: Engine, dialect: Dialect, open_transaction: Opener) -> None:
        self._engine = engine
        self._dialect = dialect
        self._open = open_transaction
        self._turn = threading.Lock()
        self._queue: deque[Job[Any]] = deque()
        self._connection: PoolProxiedConnection | None = None

    def write(self, work: Callable[[SqlTransaction], T]) -> T:
        """Run `work`; when this returns, its changes are on disk."""
        job = Job(work)
        self._queue.append(job)
        with self._turn:
            while not job.over:
                self._commit(self._next_batch())
        return job.outcome()

    def close(self) -> None:
        """Give up the connection."""
        with self._turn:
            self._discard()

    def _next_batch(self) -> list[Job[Any]]:
        count = min(len(self._queue), _MOST_IN_A_BATCH)
        return [self._queue.popleft() for _ in range(count)]

    def _commit(self, batch: Sequence[Job[Any]]) -> None:
        try:
            with explained(self._dialect):
                self._run(batch)
        except (Conflict, Unavailable) as error:
            self._discard()
            for job in batch:
                job.fail(Unavailable(str(error)))
        except BaseException as error:
            self._discard()
            for job in batch:
                job.fail(error)
        for job in batch:
            job.over = True

    def _run(self, batch: Sequence[Job[Any]]) -> None:
        cursor = self._cursor()
        cursor.execute(self._dialect.begin_write)
        transaction = self._open(cursor)
        if len(batch) == 1:
            self._run_alone(batch[0], transaction)
        else:
            for job in batch:
                self._run_one(job, transaction, cursor)
        if all(job.failed for job in batch):
            cursor.execute("ROLLBACK")
            return
        transaction.log.flush()
        cursor.execute("COMMIT")

    @staticmethod
    def _run_alone(job: Job[Any], transaction: SqlTransaction) -> None:
        """Run the only job of a transaction: its failure undoes all there is."""
        try:
            job.run(transaction)
        except Broken:
            raise
        except BaseException as error:  # as below
            job.fail(error)

    def _run_one(self, job: Job[Any], transaction: SqlTransaction, cursor: Any) -> None:
        """Run a job in its own savepoint, so that its failure undoes nothing of the others."""
        mark = transaction.log.mark()
        cursor.execute("SAVEPOINT job")
        try:
            job.run(transaction)
        except Broken:
            raise
        except BaseException as error:  # whatever it is belongs to the caller of this job
            cursor.execute("ROLLBACK TO SAVEPOINT job")
            transaction.log.go_back(mark)
            job.fail(error)
        cursor.execute("RELEASE SAVEPOINT job")

    def _cursor(self) -> Any:
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        return self._connection.cursor()

    def _discard(self) -> None:
        """Close the connection for good: what was not committed is rolled back with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
