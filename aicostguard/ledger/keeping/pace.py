"""Small steps beside ingest: one at a time for the whole file, each short, with rests between.

Owns how long a step may hold the writer, and the lock that keeps two acts of keeping apart. If a step is too long,
agents wait for it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import Any, Callable, Iterator, TypeVar

from aicostguard.ledger.errors import Busy, NotWritable
from aicostguard.ledger.sqlite import SqliteStore

try:
    import fcntl
except ImportError:  # without flock two acts at once are stopped by the state of their records
    _FLOCK = False
else:
    _FLOCK = True

T = TypeVar("T")
#: what a step should take on the writer, in seconds; twice that is too much
AIM_S = 0.02
#: a rest is so many times as long as the step before it: ingest has the rest of the writer
REST = 3.0
LEAST, MOST = 20, 2_000


class Stopped(Exception):
    """Whoever runs the act wants it to stop; it goes on another time."""


class Pace:
    """Runs steps on the writer. `size` is how many rows the next step should take."""

    def __init__(self, store: SqliteStore, stop: Callable[[], bool] = lambda: False) -> None:
        self.store = store
        self.size = 200
        self.steps = 0
        self.longest_s = 0.0
        self._stop = stop

    def do(self, step: Callable[..., T], *given: Any) -> T:
        """One step, `step(connection, *given)`, then a rest. Raises `Stopped` between steps."""
        self.look()
        took = 0.0

        def timed(connection: sqlite3.Connection) -> T:
            nonlocal took
            began = time.monotonic()
            try:
                return step(connection, *given)
            finally:
                took = time.monotonic() - began

        answer = self.store.change(timed)
        self.steps += 1
        self.longest_s = max(self.longest_s, took)
        if took > AIM_S:
            self.size = max(LEAST, int(self.size * AIM_S / took))
        elif took < AIM_S / 2:
            self.size = min(MOST, self.size * 2)
        time.sleep(min(1.0, REST * took))
        return answer

    def look(self) -> None:
        """Raise `Stopped` if that is wanted."""
        if self._stop():
            raise Stopped


@contextlib.contextmanager
def alone(path: str) -> Iterator[None]:
    """One act of keeping at a time, whatever process it runs in. Raises `Busy`."""
    if not _FLOCK:
        yield
        return
    name = os.path.realpath(path) + "-keep"
    try:
        lock: Any = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotWritable(f"{name}, the lock of retention, cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Busy(f"{path}: retention, an archive or a forgetting is under way here already; try again") from None
        yield
    finally:
        os.close(lock)
