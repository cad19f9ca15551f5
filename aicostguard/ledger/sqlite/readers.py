"""Connections that only read: a few that are kept open, and one more for whoever has waited too long.

Owns how many there are. Not one per thread: a server's threads come and go, and each connection holds a megabyte and
more of pages and of statements made ready, which stays. If this never gave one out, nothing could be read.
"""

from __future__ import annotations

import queue
import sqlite3
from typing import Callable, TypeVar

from aicostguard.ledger.sqlite import file

T = TypeVar("T")

#: connections that are kept
KEPT = 8
#: seconds that somebody waits for one of them. Short, because what holds all of them may be questions that take long,
#: and because who is inside one may ask for another.
PATIENCE_S = 0.05


class Readers:
    """Runs jobs on connections to one file. Safe from many threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        # The last one used is the next: it knows most. None is the place of one that is not open yet.
        self._idle: queue.LifoQueue[sqlite3.Connection | None] = queue.LifoQueue()
        for _ in range(KEPT):
            self._idle.put(None)

    def do(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job and return what it gives. Raises what it raises, SQLite's errors as the ledger's."""
        with file.explained(self._path):
            try:
                connection = self._idle.get(timeout=PATIENCE_S)
            except queue.Empty:
                return self._apart(job)
            kept = None
            try:
                connection = connection or file.connect(self._path, write=False)
                answer = job(connection)
                kept = connection
            finally:
                if kept is None and connection is not None:
                    connection.close()
                self._idle.put(kept)
            return answer

    def _apart(self, job: Callable[[sqlite3.Connection], T]) -> T:
        connection = file.connect(self._path, write=False)
        try:
            return job(connection)
        finally:
            connection.close()

    def close(self) -> None:
        """Close those that nobody uses."""
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return
            if connection is not None:
                connection.close()
