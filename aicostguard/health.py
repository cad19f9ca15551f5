"""What went wrong inside us, counted: so that it never reaches the host program and never stays silent.

Owns the counters that travel in every envelope, the list of recent faults, and the warnings a user sees
once. Never raises, except under our own tests (`AICG_TEST_RAISE=1`), so that "never raises" cannot hide
a bug. If this breaks, faults vanish.
"""

from __future__ import annotations

import os
import sys
import threading
from itertools import count as counting
from typing import Any, Dict, Iterable, Iterator, List, Optional, TypeVar

#: the counters of an envelope; a closed list, like the receipt's keys
COUNTERS = ("generated", "sent", "spooled", "dropped", "unmetered", "unrecognised", "faults")

#: how many distinct faults, warnings and notes are kept; the rest is only counted
MAX_KINDS = 64

T = TypeVar("T")

_raise = os.environ.get("AICG_TEST_RAISE") == "1"
_debug = os.environ.get("AICG_DEBUG") == "1"


class Health:
    """One process's counters, faults (`where: ExceptionType` → times), warnings and notes.

    `notes` are further named counts that are shown by diagnose but not sent (`replaced`, `mismatch`,
    `usage_missing`, …).
    """

    # No `__dict__`: eventlet, patched after us, searches the program's objects for locks and puts its own in their
    # place, and the sender's real thread would then wait on a green one.
    __slots__ = ("_lock", "_counters", "_numbers", "notes", "faults", "warnings")

    def __init__(self) -> None:
        # An RLock: a garbage collection inside `count` may end an abandoned stream, which counts too.
        self._lock = threading.RLock()
        self._counters: Dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self._numbers: List[Iterator[int]] = []
        self.notes: Dict[str, int] = {}
        self.faults: Dict[str, int] = {}
        self.warnings: Dict[str, str] = {}

    def numbers(self) -> Iterator[int]:
        """0, 1, 2, …, one for each receipt that is made: how many were taken is `generated`.

        Taking one is a single step of C, for which no receipt has to take the lock; without a GIL, too, where all other
        iterators of Python's may give one number to two threads (https://github.com/python/cpython/issues/120496).
        """
        numbers = counting()
        with self._lock:
            self._numbers.append(numbers)
        return numbers

    @property
    def counters(self) -> Dict[str, int]:
        """The counters of the envelope as they are now; a copy."""
        return {**self._counters, "generated": sum(map(_taken, tuple(self._numbers)))}

    def counters_of(self, numbers: Iterator[int]) -> Dict[str, int]:
        """The same, with the receipts that were made under these numbers alone: what one ledger can have of them."""
        return {**self._counters, "generated": _taken(numbers)}

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter of the envelope. Not to `generated`, which `numbers` counts."""
        with self._lock:
            self._counters[name] += by

    def note(self, name: str, by: int = 1) -> None:
        """Add to a named count that stays in this process (and in its status file)."""
        with self._lock:
            # What is noted by host, setting or type leaves room for what is not.
            if name in self.notes or len(self.notes) < (MAX_KINDS // 2 if ":" in name else MAX_KINDS):
                self.notes[name] = self.notes.get(name, 0) + by

    def fault(self, where: str, error: BaseException) -> None:
        """Record a fault of ours. Only the exception's type is kept: its text may hold anything."""
        if _raise:
            raise error
        with self._lock:
            self._counters["faults"] += 1
            kind = "%s: %s" % (where, type(error).__name__)
            if kind in self.faults or len(self.faults) < MAX_KINDS:
                self.faults[kind] = self.faults.get(kind, 0) + 1
        debug("fault in %s", kind)

    def warn(self, code: str, text: str) -> None:
        """Tell the user once per `code`, through the `aicostguard` logger (stderr when logging is not set up)."""
        with self._lock:
            if code in self.warnings or len(self.warnings) >= MAX_KINDS:
                return
            self.warnings[code] = text
        try:
            import logging

            logging.getLogger("aicostguard").warning("%s", text)
        except Exception as error:  # a user's logging handler may raise
            self.fault("health.warn", error)

    def snapshot(self) -> Dict[str, Any]:
        """A copy of everything, for the status file and `stats()`."""
        with self._lock:
            return {
                "counters": self.counters,
                "notes": dict(self.notes),
                "faults": dict(self.faults),
                "warnings": dict(self.warnings),
            }

    def reset(self) -> None:
        """Start at zero: in a forked child, whose parent reports its own counts, and in tests."""
        self.__init__()  # type: ignore[misc]


def _taken(numbers: Iterator[int]) -> int:
    return int(repr(numbers)[6:-1])  # `count(3)`: nothing else tells without taking one


def oldest(kept: Iterable[T]) -> Optional[T]:
    """What was put first into a dictionary that other threads use, too; None when it is empty, or they are at it."""
    try:
        return next(iter(kept), None)
    except RuntimeError:  # changed since `iter`
        return None


health = Health()
count = health.count
note = health.note
fault = health.fault
warn = health.warn


def debug(text: str, *values: object) -> None:
    """One line on stderr under `AICG_DEBUG=1`. Never pass text of a request or a response."""
    global _debug
    if _debug:
        try:
            sys.stderr.write("aicostguard: %s\n" % (text % values))
        except Exception:
            _debug = False  # nobody reads it: stderr is closed, or there is none
