"""Counters in this process.

Owns nothing but dictionaries, and never waits for anything but other threads' few microseconds. Time and memory of a
step do not depend on what came before: no call leaves a record behind, a rolling window is sixty-one sums, what has
ended is forgotten, and the number of counters and tickets is bounded. A forked child goes on with what was spent.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from aicostguard.guard.store import LATE_MS, REST, Answer, Balance, Counter, Held, Refusal, StoreFailed

#: further counters are refused: a label with ever new values would else take all memory
MAX_COUNTERS = 100_000
#: and further calls at the same moment
MAX_TICKETS = 100_000
#: events that were told once; the oldest are forgotten first
MAX_TOLD = 10_000
#: how often what has ended is looked for
SWEEP_MS = 60_000
NEVER = 2**63


class Cell:
    """One counter that only grows."""

    __slots__ = ("spent", "reserved", "unpriced", "estimated", "until")

    #: the second that amounts stand under
    window = 0

    def __init__(self, until: int) -> None:
        self.spent = 0
        self.reserved = 0
        self.unpriced = 0
        self.estimated = 0
        self.until = until

    def at(self, now: int) -> int:
        """Where an amount that is added now stands."""
        return 0

    def hold(self, slot: int, amount: int) -> None:
        """Reserve it, where a new call stands."""
        self.reserved += amount

    def add(self, slot: int, reserved: int, spent: int) -> None:
        """Change what stands there."""
        self.reserved += reserved
        self.spent += spent


class Rolling(Cell):
    """A counter that looks back: its sums, and by second what they are made of.

    An amount stands under the second in which its call was asked about, and is forgotten when no part of that second
    lies in the window any more.
    """

    __slots__ = ("window", "slots", "_looked", "_slot")

    def __init__(self, until: int, window: int) -> None:
        super().__init__(until)
        self.window = window
        self.slots: Dict[int, List[int]] = {}
        #: the second in which `at` was asked last, and what it said
        self._looked = self._slot = -1

    def at(self, now: int) -> int:
        second = now // 1000
        if second == self._looked:  # nothing leaves the window within a second, and what is added stands there
            return self._slot
        slots = self.slots
        while slots:
            oldest = next(iter(slots))
            if oldest >= second - self.window:
                break
            reserved, spent = slots.pop(oldest)
            self.reserved -= reserved
            self.spent -= spent
        # A clock that was put back does not make time run twice.
        self._looked = second
        self._slot = max(second, next(reversed(slots))) if slots else second
        return self._slot

    def hold(self, slot: int, amount: int) -> None:
        sums = self.slots.get(slot)
        if sums is None:
            self.slots[slot] = [amount, 0]
        else:
            sums[0] += amount
        self.reserved += amount

    def add(self, slot: int, reserved: int, spent: int) -> None:
        sums = self.slots.get(slot)
        if sums is None:  # it has left the window
            return
        sums[0] += reserved
        sums[1] += spent
        self.reserved += reserved
        self.spent += spent


class _Ticket:
    """What is held: amounts and where they stand, parallel to the cells."""

    __slots__ = ("cells", "amounts", "slots", "lease")

    def __init__(self, cells: List[Cell], amounts: List[int], slots: List[int], lease: int) -> None:
        self.cells = cells
        self.amounts = amounts
        self.slots = slots
        self.lease = lease


class MemoryStore:
    """The store of one process. See `Store` for what its methods promise."""

    waits = False

    def __init__(self) -> None:
        # An RLock, and `_busy`: a garbage collection within a step may end an abandoned stream, whose settlement then
        # waits in `_later` until the step is over.
        self._lock = threading.RLock()
        self._busy = False
        self._later: List[Tuple[Any, ...]] = []
        self._cells: Dict[str, Cell] = {}
        self._tickets: Dict[str, _Ticket] = {}
        #: whose lease ran out
        self._booked: Dict[str, _Ticket] = {}
        #: before then no lease runs out
        self._due = NEVER
        self._told: Dict[str, int] = {}
        self._sweep = 0
        _stores.add(self)

    def reserve(
        self, ticket: str, counters: Sequence[Counter], amounts: Sequence[int], now: int, lease: int, wait: bool = True
    ) -> Answer:
        with self._lock:
            self._busy = True
            try:
                return self._reserve(ticket, counters, amounts, now, lease)
            finally:
                self._busy = False
                if self._later:
                    self._catch_up()

    def _reserve(
        self, ticket: str, counters: Sequence[Counter], amounts: Sequence[int], now: int, lease: int
    ) -> Answer:
        cells: List[Cell] = []
        slots: List[int] = []
        over: Tuple[Tuple[int, int, int], ...] = ()
        found = self._cells
        for counter, amount in zip(counters, amounts):
            cell = found.get(counter[0]) or self._make(counter)
            slots.append(cell.at(now) if cell.window else 0)
            if amount == REST or cell.spent + cell.reserved + amount > counter[1]:  # not the usual case
                decided = self._decide(cells, counters, amounts, now)
                if isinstance(decided, Refusal):
                    return decided
                amounts, over = decided
                slots = [cell.at(now) if cell.window else 0 for cell in cells]
                break
            cells.append(cell)
        held = list(amounts)
        if len(self._tickets) + len(self._booked) >= MAX_TICKETS:
            raise StoreFailed("too many calls at once")
        for cell, amount, slot in zip(cells, held, slots):
            if slot:
                cell.hold(slot, amount)
            else:
                cell.reserved += amount
        self._tickets[ticket] = _Ticket(cells, held, slots, lease)
        if lease < self._due:
            self._due = lease
        return Held(tuple(held), over)

    def _decide(
        self, cells: List[Cell], counters: Sequence[Counter], amounts: Sequence[int], now: int
    ) -> Union[Held, Refusal]:
        """What each counter is to hold, where not all have room, or all that is left is wanted of one. Fills `cells`
        with those that are not in it yet."""
        held = list(amounts)
        over: Tuple[Tuple[int, int, int], ...] = ()
        for index in range(len(cells), len(held)):
            counter = counters[index]
            cell = self._cells.get(counter.key) or self._make(counter)
            cell.at(now)
            left = counter.limit - cell.spent - cell.reserved
            if held[index] == REST:
                held[index] = max(left, 0)
                if counter.hard and not held[index]:
                    return Refusal(index, cell.spent, cell.reserved)
            if held[index] > left:
                if counter.hard:
                    return Refusal(index, cell.spent, cell.reserved)
                over += ((index, cell.spent, cell.reserved),)
            cells.append(cell)
        return Held(tuple(held), over)

    def _make(self, counter: Counter) -> Cell:
        if len(self._cells) >= MAX_COUNTERS:
            raise StoreFailed("too many counters")
        cell = Rolling(counter.until, counter.window) if counter.window else Cell(counter.until)
        self._cells[counter.key] = cell
        return cell

    def grow(
        self, ticket: str, counters: Sequence[Counter], more: Sequence[int], now: int, lease: int, wait: bool = True
    ) -> bool:
        with self._lock:
            open_ticket = self._tickets.get(ticket)
            if open_ticket is None:
                return False
            for counter, cell, amount in zip(counters, open_ticket.cells, more):
                cell.at(now)
                if amount and counter.hard and cell.spent + cell.reserved + amount > counter.limit:
                    return False
            for index, cell in enumerate(open_ticket.cells):
                cell.add(open_ticket.slots[index], more[index], 0)
                open_ticket.amounts[index] += more[index]
            open_ticket.lease = max(open_ticket.lease, lease)
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
        with self._lock:
            if self._busy:  # within a step of this very thread
                self._later.append((ticket, amounts, estimated, now))
                return None
            return self._settle(ticket, amounts, estimated, now)

    def _settle(
        self, ticket: str, amounts: Sequence[Optional[int]], estimated: bool, now: int
    ) -> Optional[Tuple[int, ...]]:
        closed = self._tickets.pop(ticket, None) or self._reopened(ticket)
        if closed is None:
            return None
        spent: List[int] = []
        for cell, held, slot, amount in zip(closed.cells, closed.amounts, closed.slots, amounts):
            if amount is None:
                if held:
                    cell.estimated += 1
                else:
                    cell.unpriced += 1
                amount = held
            elif estimated:
                cell.estimated += 1
            if slot:
                cell.at(now)
                cell.add(slot, -held, amount)
            else:
                cell.reserved -= held
                cell.spent += amount
            spent.append(cell.spent)
        return tuple(spent)

    def _reopened(self, ticket: str) -> Optional[_Ticket]:
        """A ticket that was booked, as if it never had been."""
        late = self._booked.pop(ticket, None)
        if late is not None:
            self._book(late, -1)
        return late

    def _book(self, ticket: _Ticket, sign: int) -> None:
        for cell, held, slot in zip(ticket.cells, ticket.amounts, ticket.slots):
            cell.add(slot, -held * sign, held * sign)
            cell.estimated += sign

    def release(self, ticket: str, keys: Sequence[str], now: int, wait: bool = True) -> bool:
        with self._lock:
            if self._busy:
                self._later.append((ticket, None, False, now))
                return False
            return self._release(ticket)

    def _release(self, ticket: str) -> bool:
        closed = self._tickets.pop(ticket, None) or self._reopened(ticket)
        if closed is None:
            return False
        for cell, held, slot in zip(closed.cells, closed.amounts, closed.slots):
            cell.add(slot, -held, 0)
        return True

    def _catch_up(self) -> None:
        while self._later:
            ticket, amounts, estimated, now = self._later.pop(0)
            if amounts is None:
                self._release(ticket)
            else:
                self._settle(ticket, amounts, estimated, now)

    def expire(self, now: int, wait: bool = True) -> int:
        booked = 0
        with self._lock:
            if now >= self._due:
                for name in [name for name, ticket in self._tickets.items() if ticket.lease <= now]:
                    ticket = self._booked[name] = self._tickets.pop(name)
                    self._book(ticket, 1)
                    booked += 1
                for name in [name for name, ticket in self._booked.items() if ticket.lease + LATE_MS <= now]:
                    del self._booked[name]
                dues = [ticket.lease for ticket in self._tickets.values()]
                dues += [ticket.lease + LATE_MS for ticket in self._booked.values()]
                self._due = min(dues, default=NEVER)
            if now >= self._sweep:
                self._sweep = now + SWEEP_MS
                for key in [key for key, cell in self._cells.items() if 0 < cell.until <= now]:
                    del self._cells[key]
                for key in [key for key, until in self._told.items() if 0 < until <= now]:
                    del self._told[key]
        return booked

    def once(self, key: str, until: int, now: int, wait: bool = True) -> bool:
        with self._lock:
            if key in self._told and not 0 < self._told[key] <= now:
                return False
            while len(self._told) >= MAX_TOLD:
                del self._told[next(iter(self._told))]
            self._told[key] = until
            return True

    def one(self, key: str, now: int) -> Balance:
        """What stands in one counter, without a look at the others."""
        with self._lock:
            cell = self._cells.get(key)
            if cell is None:
                return Balance(key)
            cell.at(now)
            return Balance(key, cell.spent, cell.reserved, cell.unpriced, cell.estimated)

    def read(self, prefix: str, now: int) -> List[Balance]:
        with self._lock:
            found = sorted((key, cell) for key, cell in self._cells.items() if key.startswith(prefix))
            for _, cell in found:
                cell.at(now)
            return [Balance(key, cell.spent, cell.reserved, cell.unpriced, cell.estimated) for key, cell in found]

    def rebuild(self, spent: Mapping[str, int], counters: Sequence[Counter], now: int) -> None:
        with self._lock:
            rebuilt = []
            for counter in counters:
                cell = self._cells.get(counter.key) or self._make(counter)
                cell.add(cell.at(now), 0, spent[counter.key] - cell.spent)
                cell.estimated = 0
                rebuilt.append(cell)
            for name, ticket in list(self._booked.items()):
                if any(cell in rebuilt for cell in ticket.cells):
                    del self._booked[name]

    def close(self) -> None:
        """Nothing is open."""


#: of this process, for forks
_stores: weakref.WeakSet[MemoryStore] = weakref.WeakSet()
_held: List[MemoryStore] = []


def _before_fork() -> None:
    """No step is half done in the child. A step takes microseconds; a thread that was stopped within one is not waited
    for."""
    _held[:] = [store for store in list(_stores) if store._lock.acquire(timeout=1.0)]


def _after_fork() -> None:
    while _held:
        _held.pop()._lock.release()


def _in_child() -> None:
    for store in list(_stores):
        if store not in _held:
            store._lock = threading.RLock()
            store._busy = False
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
