"""The file that the SQLite store writes to: its tables, its connection, and the views that steps are written to.

Owns what a connection needs before its first step, and how it is let go of: closed once, never in a forked child. Knows
nothing of what a step means.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from typing import Any, Callable, Dict, Optional, Set, Tuple, TypeVar

from aicostguard.delivery import seats
from aicostguard.guard.store import StoreFailed

VERSION = 1

_SCHEMA = """
PRAGMA page_size = 1024;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS counters (
    key TEXT NOT NULL, slot INTEGER NOT NULL, spent INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,
    unpriced INTEGER NOT NULL DEFAULT 0, estimated INTEGER NOT NULL DEFAULT 0,
    look INTEGER NOT NULL DEFAULT 0, until INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (key, slot)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (
    ticket TEXT NOT NULL, n INTEGER NOT NULL, key TEXT NOT NULL, slot INTEGER NOT NULL, amount INTEGER NOT NULL,
    look INTEGER NOT NULL, until INTEGER NOT NULL, lease INTEGER NOT NULL, booked INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (ticket, n)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (key TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
"""

# A rolling counter (`look` seconds) has a row for each second, and one at 0 for its counts of calls; others only that.
_STEPS = """
CREATE TEMP VIEW hold AS SELECT ticket, n, key, slot, 0 AS since, amount, 0 AS most, look, lease, until FROM held;
CREATE TEMP TRIGGER holding INSTEAD OF INSERT ON hold BEGIN
    SELECT RAISE(ABORT, 'no room') WHERE NEW.amount > NEW.most - coalesce(
        (SELECT sum(spent + reserved) FROM counters WHERE key = NEW.key AND slot >= NEW.since), 0);
    INSERT INTO counters (key, slot, reserved, look, until) VALUES (NEW.key, NEW.slot, NEW.amount, NEW.look,
        CASE WHEN NEW.look THEN (NEW.slot + NEW.look + 60) * 1000 ELSE NEW.until END)
        ON CONFLICT (key, slot) DO UPDATE SET reserved = reserved + excluded.reserved, until = max(until,
        excluded.until);
    INSERT INTO held (ticket, n, key, slot, amount, look, until, lease)
        VALUES (NEW.ticket, NEW.n, NEW.key, NEW.slot, NEW.amount, NEW.look, NEW.until, NEW.lease);
END;
CREATE TEMP VIEW answer AS
    SELECT ticket, n, key, slot, amount AS held, look, until, booked, amount AS used, 0 AS counted, 0 AS now FROM held;
CREATE TEMP TRIGGER answering INSTEAD OF INSERT ON answer BEGIN
    UPDATE counters SET
        reserved = reserved - (1 - NEW.booked) * NEW.held,
        spent = spent + coalesce(NEW.used, NEW.held) - NEW.booked * NEW.held
        WHERE key = NEW.key AND slot = NEW.slot;
    INSERT INTO counters (key, slot, look, unpriced, estimated, until)
        SELECT NEW.key, 0, NEW.look, NEW.used IS NULL AND NEW.held = 0,
               (NEW.counted AND NEW.used IS NOT NULL OR NEW.used IS NULL AND NEW.held > 0) - NEW.booked,
               NEW.until
        WHERE NEW.used IS NULL OR NEW.counted OR NEW.booked
        ON CONFLICT (key, slot) DO UPDATE SET
            unpriced = unpriced + excluded.unpriced, estimated = estimated + excluded.estimated;
    DELETE FROM held WHERE ticket = NEW.ticket AND n = NEW.n;
    SELECT tell(NEW.n, coalesce((SELECT sum(spent) FROM counters
        WHERE key = NEW.key AND slot >= CASE WHEN NEW.look THEN NEW.now / 1000 - NEW.look ELSE 0 END), 0));
END;
"""

T = TypeVar("T")
#: descriptor → what stands behind it
Seats = Dict[int, Optional[seats.Identity]]

#: what is said of a file that was closed under us
LOST = "the program has closed it"
#: files that were; SQLite keeps what it knows of a file for a whole process
_lost: Set[Tuple[int, int]] = set()
_opening = threading.Lock()


class File:
    """One connection, with the views that steps are written to."""

    def __init__(self, path: str, lock: Any) -> None:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            pass
        self.path = path
        found = os.stat(path)
        self.identity = (found.st_dev, found.st_ino)
        if self.identity in _lost:
            raise StoreFailed(LOST)
        #: n → what is spent of that counter after an answer
        self.told: Dict[int, int] = {}
        #: where SQLite has the file, its log and its index open
        self._seats: Seats = {}
        # One at a time, so that no other's numbers are taken for ours; not for long, for a fork may have left it held.
        alone = _opening.acquire(timeout=1.0)
        try:
            before = _seats(path) if alone else {}
            self.connection = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            self.closing = weakref.finalize(self, _close, self.connection, lock, self._seats, self.identity)
            self.execute = self.connection.execute
            try:
                self._set_up()
            except BaseException:
                self.close()
                raise
            if alone:
                self._seats.update((at, known) for at, known in _seats(path).items() if before.get(at) != known)
        finally:
            if alone:
                _opening.release()

    def _set_up(self) -> None:
        version = self.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StoreFailed("the file is of a newer release")
        if version < VERSION:
            for statement in _SCHEMA.split(";\n"):
                self.execute(statement)
        self.execute("PRAGMA synchronous = NORMAL")
        self.execute("PRAGMA wal_autocheckpoint = 4000")
        self.execute("PRAGMA temp_store = MEMORY")
        self.connection.create_function("tell", 2, self.told.__setitem__)
        self.connection.executescript(_STEPS)

    def transaction(self, work: Callable[[], T]) -> T:
        """All of it or nothing, and nobody else meanwhile."""
        self.execute("BEGIN IMMEDIATE")
        try:
            answer = work()
            self.execute("COMMIT")
            return answer
        finally:
            if self.connection.in_transaction:
                self.execute("ROLLBACK")

    def moved(self) -> bool:
        """Is another file, or none, where ours was?"""
        try:
            found = os.stat(self.path)
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self.identity

    def whole(self) -> bool:
        """Is the file open where SQLite has it, or has the program closed it under us?

        When it has, the numbers may be the program's own files by now, and what SQLite knows of this file is wrong for
        the rest of the process: nothing of it is used, or closed, any more.
        """
        if _whole(self._seats):
            return True
        _lost.add(self.identity)
        self.abandon()
        return False

    def close(self) -> None:
        self.closing()

    def abandon(self) -> None:
        """Never close it."""
        if self.closing.detach() is not None:
            immortal(self.connection)


def _seats(path: str) -> Seats:
    """The descriptors of this process that lead to a database, its log and its index. None where none are listed."""
    wanted = set()
    for end in ("", "-wal", "-shm"):
        try:
            found = os.stat(path + end)
        except OSError:
            continue
        wanted.add((found.st_ino, found.st_dev))
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except (OSError, ValueError):
        return {}
    seen = {number: seats.identity(number) for number in numbers}
    return {number: known for number, known in seen.items() if known in wanted}


def _whole(taken: Seats) -> bool:
    return all(seats.identity(number) == known for number, known in taken.items())


def _close(connection: sqlite3.Connection, lock: Any, taken: Seats, identity: Tuple[int, int]) -> None:
    """Also at the end of the program, when a thread may be in the middle of a step."""
    if lock.acquire(timeout=1.0):
        try:
            if _whole(taken):
                connection.close()
            else:
                _lost.add(identity)
                immortal(connection)
        finally:
            lock.release()


def immortal(connection: sqlite3.Connection) -> None:
    """Closing it would be the parent's business: nobody here ever does, not even the end of this process."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
