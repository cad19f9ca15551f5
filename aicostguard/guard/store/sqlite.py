"""Counters in one file, for all processes of a machine.

Owns the file: WAL, 0600, small pages, for a step rewrites two or three of them. The usual step is a single statement: a
temporary view takes the rows and its triggers do the work in C, so the file is locked for as little time as there is.
What that statement cannot do (a counter that is full, `REST`, a limit that is only told) is decided in a transaction,
exactly. Nobody queues for the file: who finds it locked sleeps a random moment of 0.1 to 1 ms and tries again.

What is committed survives `kill -9`; a power cut may take the last moments (`synchronous=NORMAL`), but never tears a
step. A connection is not used beyond a fork. A damaged file is put aside (`….damaged-<time>`), counted and said; then
counters begin anew. WAL needs a local disk.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from os import getpid
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar

from aicostguard import health
from aicostguard.guard.store import LATE_MS, REST, Answer, Balance, Busy, Counter, Held, Refusal, StoreFailed
from aicostguard.guard.store.file import File

#: seconds that a step waits for the file
PATIENCE = 5.0
#: how often what has ended is looked for
SWEEP_MS = 60_000
_SUM = "SELECT coalesce(sum(spent), 0), coalesce(sum(reserved), 0) FROM counters WHERE key = ? AND slot >= ?"

T = TypeVar("T")
_hold: Dict[int, str] = {}
_answer: Dict[int, str] = {}


def _holding(rows: int) -> str:
    if rows not in _hold:
        _hold[rows] = "INSERT INTO hold VALUES " + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return _hold[rows]


def _answering(rows: int) -> str:
    if rows not in _answer:
        cases = " ".join(["WHEN %d THEN ?" % n for n in range(rows)]) or "WHEN 0 THEN 0"
        _answer[rows] = (
            "INSERT INTO answer SELECT ticket, n, key, slot, amount, look, until, booked, CASE n %s END, ?, ? "
            "FROM held WHERE ticket = ?" % cases
        )
    return _answer[rows]


class SqliteStore:
    """The store of one file. See `Store` for what its methods promise."""

    waits = True

    def __init__(self, path: str, patience: float = PATIENCE) -> None:
        self.path = os.path.abspath(path)
        self._patience = patience
        self._fresh()

    def _fresh(self) -> None:
        # Reentrant, so that a finaliser which settles within a step of its own thread is turned away instead of waiting
        # for itself.
        self._lock = threading.RLock()
        self._busy = False
        self._open: Optional[File] = None
        self._pid = getpid()
        self._sweep = 0

    # -- steps

    def reserve(
        self, ticket: str, counters: Sequence[Counter], amounts: Sequence[int], now: int, lease: int, wait: bool = True
    ) -> Answer:
        rows: List[Any] = []
        usual = True
        for n, ((key, limit, _, look, until), amount) in enumerate(zip(counters, amounts)):
            usual = usual and amount != REST
            second = now // 1000
            if look:
                rows += (ticket, n, key, second, second - look, amount, limit, look, lease, until)
            else:
                rows += (ticket, n, key, 0, 0, amount, limit, 0, lease, until)

        def step(file: File) -> Answer:
            if usual:
                try:
                    file.execute(_holding(len(counters)), rows)
                    return Held(tuple(amounts))
                except sqlite3.IntegrityError:  # no room in one of them, at that moment
                    pass
            return file.transaction(lambda: self._decide(file, counters, amounts, rows))

        return self._step(step, wait)

    @staticmethod
    def _decide(file: File, counters: Sequence[Counter], amounts: Sequence[int], rows: List[Any]) -> Answer:
        held: List[int] = []
        over: List[Tuple[int, int, int]] = []
        for n, counter in enumerate(counters):
            spent, reserved = file.execute(_SUM, (counter.key, rows[10 * n + 4])).fetchone()
            left = counter.limit - spent - reserved
            amount = amounts[n]
            if amount == REST:
                amount = max(left, 0)
                if counter.hard and not amount:
                    return Refusal(n, spent, reserved)
            if amount > left:
                if counter.hard:
                    return Refusal(n, spent, reserved)
                over.append((n, spent, reserved))
                rows[10 * n + 6] = 2**62
            rows[10 * n + 5] = amount
            held.append(amount)
        file.execute(_holding(len(counters)), rows)
        return Held(tuple(held), tuple(over))

    def grow(
        self, ticket: str, counters: Sequence[Counter], more: Sequence[int], now: int, lease: int, wait: bool = True
    ) -> bool:
        def step(file: File) -> bool:
            return file.transaction(lambda: self._grow(file, ticket, counters, more, now, lease))

        return self._step(step, wait)

    @staticmethod
    def _grow(file: File, ticket: str, counters: Sequence[Counter], more: Sequence[int], now: int, lease: int) -> bool:
        rows = file.execute("SELECT n, key, slot FROM held WHERE ticket = ? AND booked = 0 ORDER BY n", (ticket,))
        found = rows.fetchall()
        if not found:
            return False
        for counter, amount in zip(counters, more):
            if amount and counter.hard:
                since = now // 1000 - counter.window if counter.window else 0
                if amount > counter.limit - sum(file.execute(_SUM, (counter.key, since)).fetchone()):
                    return False
        for (n, key, slot), amount in zip(found, more):
            file.execute("UPDATE counters SET reserved = reserved + ? WHERE key = ? AND slot = ?", (amount, key, slot))
            file.execute(
                "UPDATE held SET amount = amount + ?, lease = max(lease, ?) WHERE ticket = ? AND n = ?",
                (amount, lease, ticket, n),
            )
        return True

    def settle(
        self,
        ticket: str,
        keys: Sequence[str],
        amounts: Sequence[Optional[int]],
        estimated: bool,
        now: int,
        wait: bool = True,
    ) -> Optional[Tuple[int, ...]]:
        def step(file: File) -> Optional[Tuple[int, ...]]:
            file.told.clear()
            file.execute(_answering(len(amounts)), (*amounts, 1 if estimated else 0, now, ticket))
            return tuple([file.told[n] for n in sorted(file.told)]) if file.told else None

        return self._step(step, wait)

    def release(self, ticket: str, keys: Sequence[str], now: int, wait: bool = True) -> bool:
        # A call that has used nothing, and about which that is known.
        return self.settle(ticket, keys, [0] * len(keys), False, now, wait) is not None

    def expire(self, now: int, wait: bool = True) -> int:
        def step(file: File) -> int:
            if file.moved():  # somebody has put the file aside
                self._let_go()
                file = self._connection()
            due = file.execute("SELECT 1 FROM held WHERE lease <= ? LIMIT 1", (now,)).fetchone()
            booked = file.transaction(lambda: self._expire(file, now)) if due else 0
            if now >= self._sweep:
                self._sweep = now + SWEEP_MS
                for table in ("counters", "told"):
                    ended = "FROM %s WHERE until > 0 AND until <= ?" % table
                    if file.execute("SELECT 1 %s LIMIT 1" % ended, (now,)).fetchone():
                        file.execute("DELETE %s" % ended, (now,))
            return booked

        return self._step(step, wait)

    @staticmethod
    def _expire(file: File, now: int) -> int:
        rows = file.execute(
            "SELECT ticket, key, slot, amount, look, until FROM held WHERE booked = 0 AND lease <= ?", (now,)
        ).fetchall()
        for _, key, slot, amount, look, until in rows:
            file.execute(
                "UPDATE counters SET spent = spent + ?, reserved = reserved - ? WHERE key = ? AND slot = ?",
                (amount, amount, key, slot),
            )
            file.execute(
                "INSERT INTO counters (key, slot, look, estimated, until) VALUES (?, 0, ?, 1, ?) "
                "ON CONFLICT (key, slot) DO UPDATE SET estimated = estimated + 1",
                (key, look, until),
            )
        file.execute("UPDATE held SET booked = 1 WHERE booked = 0 AND lease <= ?", (now,))
        file.execute("DELETE FROM held WHERE booked = 1 AND lease <= ?", (now - LATE_MS,))
        return len({row[0] for row in rows})

    def once(self, key: str, until: int, now: int, wait: bool = True) -> bool:
        def step(file: File) -> bool:
            done = file.execute(
                "INSERT INTO told (key, until) VALUES (?, ?) "
                "ON CONFLICT (key) DO UPDATE SET until = excluded.until WHERE until > 0 AND until <= ?",
                (key, until, now),
            )
            return done.rowcount > 0

        return self._step(step, wait)

    def read(self, prefix: str, now: int) -> List[Balance]:
        def step(file: File) -> List[Balance]:
            rows = file.execute(
                "SELECT key, sum(spent), sum(reserved), sum(unpriced), sum(estimated) FROM counters "
                "WHERE key >= ? AND key < ? AND (slot = 0 OR slot >= ? - look) GROUP BY key ORDER BY key",
                (prefix, prefix + "\U0010ffff", now // 1000),
            )
            return [Balance(*row) for row in rows.fetchall()]

        return self._step(step, True)

    def rebuild(self, spent: Mapping[str, int], counters: Sequence[Counter], now: int) -> None:
        def rebuilt(file: File) -> None:
            for counter in counters:
                file.execute(
                    "INSERT INTO counters (key, slot, spent, until) VALUES (?, 0, ?, ?) "
                    "ON CONFLICT (key, slot) DO UPDATE SET spent = excluded.spent, estimated = 0",
                    (counter.key, spent[counter.key], counter.until),
                )
                file.execute(
                    "DELETE FROM held WHERE booked = 1 AND ticket IN (SELECT ticket FROM held WHERE key = ?)",
                    (counter.key,),
                )

        self._step(lambda file: file.transaction(lambda: rebuilt(file)), True)

    # -- the file

    def _step(self, work: Callable[[File], T], wait: bool) -> T:
        if self._pid != getpid():
            self._forked()
        end = time.monotonic() + self._patience
        if not self._lock.acquire(timeout=self._patience if wait else 0):
            raise StoreFailed("busy") if wait else Busy
        try:
            if self._busy:
                raise Busy
            self._busy = True
            try:
                while True:
                    try:
                        return work(self._connection())
                    except sqlite3.OperationalError as error:
                        if "locked" not in str(error):
                            raise
                    if not wait:
                        raise Busy
                    if time.monotonic() > end:
                        raise StoreFailed("the file is busy")
                    time.sleep(random.uniform(0.0001, 0.001))
            except sqlite3.Error as error:
                raise self._trouble(error) from None
            except OSError as error:
                raise StoreFailed(os.strerror(error.errno) if error.errno else "no file") from None
            finally:
                self._busy = False
        finally:
            self._lock.release()

    def _connection(self) -> File:
        if self._open is not None and not self._open.whole():
            self._open = None
            health.note("descriptor_closed")
            health.warn(
                "guard-store-closed",
                "The program has closed the file of budgets with all its descriptors: for the rest of this process the "
                "store counts as failed. Make the guard after that, or keep the budgets in memory or in Redis",
            )
        if self._open is None:
            self._open = File(self.path, self._lock)
        return self._open

    def _trouble(self, error: sqlite3.Error) -> StoreFailed:
        """What went wrong, in words without contents. A file that is none is put aside."""
        text = str(error)
        if not isinstance(error, sqlite3.OperationalError) and ("not a database" in text or "malformed" in text):
            moved = self._open is not None and self._open.moved()
            self._let_go()
            if not moved:  # else somebody was here before us
                aside = "%s.damaged-%d" % (self.path, time.time())
                for end in ("", "-wal", "-shm"):
                    try:
                        os.replace(self.path + end, aside + end)
                    except OSError:
                        continue
                health.note("guard_store_damaged")
                health.warn("guard-store-damaged", "The file of budgets was damaged; it lies in %s now" % aside)
            return StoreFailed("damaged")
        self._let_go()
        return StoreFailed(text if isinstance(error, sqlite3.OperationalError) else type(error).__name__)

    def _let_go(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _forked(self) -> None:
        """In a child: the parent's connection must be neither used nor closed here."""
        if self._open is not None and self._open.whole():
            self._open.abandon()
        self._fresh()

    def close(self) -> None:
        if self._pid != getpid():
            self._forked()
        with self._lock:
            if not self._busy:
                self._let_go()
