"""Steps that a store still has to take: it failed when they were due.

Owns a bounded list, in order, and tries it again from time to time. A step is safe to take twice: settlements and
releases are answered once per ticket, and what was let through without a reservation is booked under its ticket's own
name, in three steps of the store of which each may be taken and its answer lost.
"""

from __future__ import annotations

from collections import deque
from os import getpid
from typing import Any, Deque, List, Optional, Sequence, Tuple

from aicostguard import health
from aicostguard.guard import forks
from aicostguard.guard.store import LATE_MS, Counter, Store, StoreFailed

MAX_OWED = 10_000
#: how many are tried in one go: a call waits for them
AT_ONCE = 100


class Owed:
    """What one guard owes its store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = forks.lock_of(self)
        self._steps: Deque[Tuple[Any, ...]] = deque()

    def __len__(self) -> int:
        return len(self._steps)

    def settle(
        self, ticket: str, keys: Sequence[str], amounts: Sequence[Optional[int]], estimated: bool, now: int
    ) -> None:
        """A settlement that was not taken."""
        self._put(self._store.settle, ticket, keys, amounts, estimated, now)

    def release(self, ticket: str, keys: Sequence[str], now: int) -> None:
        """A release that was not taken, or may be needed."""
        self._put(self._store.release, ticket, keys, now)

    def book(
        self, ticket: str, counters: Sequence[Counter], amounts: Sequence[Optional[int]], estimated: bool, now: int
    ) -> None:
        """What a call has used that was let through without a reservation."""
        self._put(self._book, [], ticket, counters, amounts, estimated, now)

    def _book(
        self,
        tried: List[int],
        ticket: str,
        counters: Sequence[Counter],
        amounts: Sequence[Optional[int]],
        estimated: bool,
        now: int,
    ) -> None:
        """`tried` holds this process once it has begun, and again when it holds the room: a child begins anew."""
        name = ticket + "+"  # its own name may still be released, see `Guard._unheld`
        keys = [counter.key for counter in counters]
        process = getpid()
        if tried != [process, process]:  # held already: then only the settlement's answer was lost
            begun = tried == [process]
            tried[:] = [process]
            # Who has begun and is no longer the first was the first: its own answer was lost.
            if not self._store.once("booked/" + ticket, now + LATE_MS, now) and not begun:
                return
            if begun:  # and may hold it already
                self._store.release(name, keys, now)
            self._store.reserve(name, counters, [amount or 0 for amount in amounts], now, now + LATE_MS)
            tried.append(process)
        self._store.settle(name, keys, amounts, estimated, now)

    def _put(self, *step: Any) -> None:
        if len(self._steps) >= MAX_OWED:
            health.note("guard_steps_dropped")
            return
        self._steps.append(step)

    def tidy(self, now: int) -> None:
        """Take what is owed, as far as the store does, and let it book what has run out. Never raises."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            for _ in range(min(len(self._steps), AT_ONCE)):
                step = self._steps[0]
                step[0](*step[1:])
                self._steps.popleft()
            self._store.expire(now)
        except StoreFailed:
            health.note("guard_store_failures")
        except Exception as error:
            health.fault("guard.owed.tidy", error)
        finally:
            self._lock.release()
