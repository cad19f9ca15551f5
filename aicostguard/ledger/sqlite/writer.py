"""The one thread that writes: jobs in the order in which they came, several to a commit.

Owns the write connection and the lock between processes. SQLite lets whoever polls at the right moment
write next, so that under load one writer waited 4.6 s; here a queue keeps order inside the process and two
file locks keep it between processes: who wants to write takes the turn first, and whoever has just written
stands behind them. If this thread dies, nothing is stored and every request is told so.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Callable, Iterator, TypeVar

from aicostguard.ledger.errors import Busy, LedgerError, NotWritable
from aicostguard.ledger.sqlite.file import connect, explain

try:
    import fcntl
except ImportError:  # a platform without flock: SQLite's own lock is safe there, only not fair
    _FLOCK = False
else:
    _FLOCK = True

T = TypeVar("T")
#: what a job can get wrong by itself; the transaction lives on
_ITS_OWN = (
    *(LedgerError, ArithmeticError, ValueError, TypeError, LookupError),
    *(sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError),
)
Job = Callable[[sqlite3.Connection], Any]

#: jobs that share one commit at most
TOGETHER = 32
#: how long a caller waits before it is told to come again
PATIENCE_S = 20.0


class FairLock:
    """Lets processes write one at a time, in turn. A no-op where there is no flock."""

    def __init__(self, path: str) -> None:
        self._files: list[int] = []
        if not _FLOCK:
            return
        try:
            for name in ("-turn", "-write"):
                self._files.append(os.open(os.path.realpath(path) + name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            self.close()
            raise NotWritable(f"{path}-turn, the lock of the ledger, cannot be opened: {error.strerror}") from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        if not self._files:
            yield
            return
        turn, write = self._files
        # The turn is held only while waiting for the lock itself: who has just released it cannot pass
        # somebody who is already waiting.
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            fcntl.flock(write, fcntl.LOCK_EX)
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(write, fcntl.LOCK_UN)

    def close(self) -> None:
        for descriptor in self._files:
            os.close(descriptor)
        self._files = []


class Writer:
    """Runs jobs on the write connection. A job is all or nothing, and is answered only after its commit."""

    def __init__(self, path: str, connection: sqlite3.Connection, lock: FairLock) -> None:
        self._path = path
        self._connection = _prepared(connection)
        self._lock = lock
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="aicg-ledger-writer", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job and wait for its commit. Raises what the job raised, or `Full`, `Busy`, `Corrupt`."""
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise Busy(f"{self._path} is being closed; try again")
            self._jobs.put((job, future))
        try:
            return future.result(PATIENCE_S)
        except FutureTimeout:
            future.cancel()
            raise Busy(f"{self._path}: the write did not finish within {PATIENCE_S:.0f} s; try again") from None
        except sqlite3.Error as error:
            raise explain(self._path, error) from error

    def close(self) -> None:
        """Finish the jobs that were given, then close the connection."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        # Bounded: a stopped process that holds the lock between processes must not keep this one from ending.
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._connection.close()
            self._lock.close()

    def _work(self) -> None:
        going_on = True
        while going_on:
            taken = [self._jobs.get()]
            while len(taken) < TOGETHER and taken[-1] is not None:
                try:
                    taken.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            if taken[-1] is None:
                taken.pop()
                going_on = False
            jobs = [(job, future) for job, future in filter(None, taken) if future.set_running_or_notify_cancel()]
            if jobs:
                try:
                    with self._lock.held():
                        self._commit(jobs)
                except BaseException as error:  # whatever it was, nobody may be left waiting
                    _fail(jobs, error)

    def _commit(self, jobs: list[tuple[Job, Future[Any]]]) -> None:
        """Run jobs inside one transaction, each behind a savepoint, and answer them after the commit."""
        alone = len(jobs) == 1  # what undoes the transaction undoes the job
        answers: list[tuple[Future[Any], Any]] = []
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job, future in jobs:
                if alone:
                    answers.append((future, job(connection)))
                    break
                connection.execute("SAVEPOINT job")
                try:
                    answers.append((future, job(connection)))
                except _ITS_OWN as error:
                    # The job's own fault: the others go on.
                    connection.execute("ROLLBACK TO job")
                    future.set_exception(error)
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except BaseException as error:
            # SQLite's fault (full, damaged, busy), or that of a job that was alone: nothing of any job was kept.
            self._undo()
            _fail(jobs, error)
            return
        for future, answer in answers:
            future.set_result(answer)

    def _undo(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            # A connection that cannot even roll back is worth nothing; the next job gets a fresh one.
            self._connection.close()
            self._connection = _prepared(connect(self._path, write=True))


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    # What undoes a statement or a savepoint is a copy of each page that it changes. SQLite puts these into a temporary
    # file, beyond the first few: as many bytes once more as the WAL gets. A job changes few enough to hold them.
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _fail(jobs: list[tuple[Job, Future[Any]]], error: BaseException) -> None:
    for _, future in jobs:
        if not future.done():
            future.set_exception(error)
