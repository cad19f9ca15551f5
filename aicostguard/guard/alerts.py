"""Soft thresholds: each is told once per period and scope, by one of all that share a store.

Owns what has been told here, so that the usual settlement costs one comparison; who tells it of several processes is
for the store to say. The callback is the user's: it runs outside every lock, and what it raises goes to the caller
here.
"""

from __future__ import annotations

from typing import Callable, Optional, Sequence

from aicostguard.guard import words
from aicostguard.guard.plan import Entry, Planner, Told
from aicostguard.guard.store import Store
from aicostguard.guard.values import Alert

_MINUTE_MS = 60_000


class Alerts:
    """The thresholds of one guard."""

    def __init__(self, planner: Planner, store: Store, tell: Optional[Callable[[Alert], None]]) -> None:
        self._planner = planner
        self._store = store
        self._tell = tell

    @staticmethod
    def due(counters: Sequence[Told], after: Sequence[int]) -> bool:
        """Does what is spent of any counter now reach a threshold that was not told here?"""
        for told, spent in zip(counters, after):  # noqa: SIM110 -- `any` would make a generator for each call
            if spent >= told.mark:
                return True
        return False

    def look(self, keys: Sequence[str], after: Sequence[int], now: int) -> None:
        """Tell what is due."""
        for key, spent in zip(keys, after):
            entry = self._planner.entry(key, now)
            if entry is not None and spent >= entry.told.mark:
                self._reached(entry, spent, now)

    def _reached(self, entry: Entry, spent: int, now: int) -> None:
        """Each threshold that is reached, lowest first."""
        for amount, line in entry.rule.alerts:
            if spent < amount:
                break
            if entry.counter.window:  # a rolling minute has no beginning: it is told once in a minute of the clock
                minute = now // _MINUTE_MS
                if minute <= entry.told.at.get(line, 0):
                    continue
                key, until = "%s/%d/%d" % (entry.counter.key, line, minute), (minute + 1) * _MINUTE_MS
            else:
                if line in entry.told.at:
                    continue
                minute = 1
                key, until = "%s/%d" % (entry.counter.key, line), entry.counter.until
            first = self._store.once(key, until, now)
            entry.told.at[line] = minute
            entry.set_mark()
            if first and self._tell is not None:
                self._tell(self._alert(entry, spent, line, now))

    @staticmethod
    def _alert(entry: Entry, spent: int, line: int, now: int) -> Alert:
        budget = entry.rule.budget
        return Alert(
            words.alert(entry.scope, spent, budget.limit, line),
            budget.name,
            budget.dimension or budget.period,
            entry.scope,
            budget.unit,
            line,
            budget.limit,
            spent,
            now,
            entry.resets_at(now),
        )
