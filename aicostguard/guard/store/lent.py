"""Counters of a budget that the ledger keeps for everybody: room is borrowed from it, and spent without asking.

Owns what this process has borrowed. A call costs no exchange as long as what was lent is enough; else one, in which
the ledger lends more than is needed while there is much. So all hosts together stay within the limit: what is lent is
reserved there, and the receipts of this process turn it into spent. Counters of the program's own rules stand in
another store, beside. One ticket may stand in both.

While the ledger does not answer, `closed` refuses; `open` goes on within what was left when it last answered. Then so
many processes may together spend at most so many times that.
"""

from __future__ import annotations

import threading
import time
from os import getpid
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple
from urllib.parse import parse_qsl

from aicostguard import health
from aicostguard.guard.store import REST, Answer, Balance, Busy, Counter, Held, Refusal, Store, StoreFailed
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.store.slices import Slice

#: seconds that an exchange may take while a call waits for it, and that one may not be tried again after it failed
SECONDS, PAUSE = 2.0, 5.0
#: of the ledger's time for a lease, this part is used: a request is on its way for some of it
USED = 0.8
#: counters remembered, and asked about in one exchange: the ledger takes no more
MOST, AT_ONCE = 10_000, 200
_ENDLESS = 2**62

#: (holder, what is asked for each counter, seconds) → the ledger's answer; raises when there is none
Ask = Callable[[str, List[Dict[str, Any]], float], Dict[str, Any]]


class LentStore:
    """A `Store` over the ledger. `holder` names this process as its receipts do."""

    waits = True

    def __init__(
        self,
        ask: Ask,
        holder: Callable[[], str],
        beside: Optional[Store] = None,
        clock: Callable[[], float] = time.monotonic,
        in_child: Optional[Callable[[], None]] = None,
    ) -> None:
        """`in_child` is called when a forked child first asks."""
        self._ask = ask
        self._in_child = in_child
        self._holder = holder
        self.beside: Store = MemoryStore() if beside is None else beside
        self._clock = clock
        self.closed = False
        #: quoted name of a rule, as keys begin with it → the ledger's name of the budget
        self._lent: Dict[str, str] = {}
        self._fresh()

    def _fresh(self) -> None:
        """Empty hands: a forked child has borrowed nothing, and its parent's receipts are not its own."""
        self._pid = getpid()
        self._inner = MemoryStore()
        self._slices: Dict[str, Slice] = {}
        self._asking = threading.Lock()
        #: held for a step of microseconds: what was lent is not given back between a look at it and its use
        self._step = threading.RLock()
        self._valid_until = 0.0
        self._retry_at = 0.0
        #: the ledger did not answer, and calls go on within what was left
        self.alone = False

    def serve(self, lent: Mapping[str, str], closed: bool) -> None:
        """Which rules are the ledger's from now on (`Rule.name` → its name there), and what a silent ledger means."""
        self._lent = dict(lent)
        self.closed = closed

    # -- Store

    def reserve(
        self, ticket: str, counters: Sequence[Counter], amounts: Sequence[int], now: int, lease: int, wait: bool = True
    ) -> Answer:
        lent, rest = self._split([counter.key for counter in counters])
        if not lent:
            return self.beside.reserve(ticket, counters, amounts, now, lease, wait)
        mine = [counters[at] for at in lent]
        answer = self._borrow(ticket, mine, [amounts[at] for at in lent], now, lease, wait)
        if isinstance(answer, Refusal):
            return answer._replace(at=lent[answer.at])
        if not rest:
            return answer
        try:
            other = self.beside.reserve(
                ticket, [counters[at] for at in rest], [amounts[at] for at in rest], now, lease, wait
            )
        except BaseException:
            self._inner.release(ticket, (), now)
            raise
        if isinstance(other, Refusal):
            self._inner.release(ticket, (), now)
            return other._replace(at=rest[other.at])
        held = dict(zip((*lent, *rest), (*answer.amounts, *other.amounts)))
        over = tuple((lent[at], *more) for at, *more in answer.over) + tuple(
            (rest[at], *more) for at, *more in other.over
        )
        return Held(tuple(held[at] for at in range(len(counters))), over)  # type: ignore[arg-type]

    def grow(
        self, ticket: str, counters: Sequence[Counter], more: Sequence[int], now: int, lease: int, wait: bool = True
    ) -> bool:
        lent, rest = self._split([counter.key for counter in counters])
        # What the other store holds too much, should we have no room, it gets back with the settlement.
        if rest and not self.beside.grow(
            ticket, [counters[at] for at in rest], [more[at] for at in rest], now, lease, wait
        ):
            return False
        if not lent:
            return True
        mine, amounts = [counters[at] for at in lent], [more[at] for at in lent]
        for _ in range(2):
            with self._step:
                if self._inner.grow(ticket, [self._limited(item, now) for item in mine], amounts, now, lease):
                    return True
            if not wait:
                raise Busy
            if self._more(mine, amounts, now) is not None:
                return False
        return False

    def settle(
        self,
        ticket: str,
        keys: Sequence[str],
        amounts: Sequence[Optional[int]],
        estimated: bool,
        now: int,
        wait: bool = True,
    ) -> Optional[Tuple[int, ...]]:
        lent, rest = self._split(keys)
        after: Dict[int, int] = {}
        # The second whatever the first says: of a step that is taken again, because an answer was lost, half is done.
        for places, store in ((rest, self.beside), (lent, self._inner)):
            if places:
                part = store.settle(
                    ticket, [keys[at] for at in places], [amounts[at] for at in places], estimated, now, wait
                )
                after.update(zip(places, part or ()))
        return tuple(after[at] for at in range(len(keys))) if len(after) == len(keys) else None

    def release(self, ticket: str, keys: Sequence[str], now: int, wait: bool = True) -> bool:
        lent, rest = self._split(keys)
        done = self.beside.release(ticket, [keys[at] for at in rest], now, wait) if rest else True
        return (self._inner.release(ticket, [keys[at] for at in lent], now) if lent else True) and done

    def expire(self, now: int, wait: bool = True) -> int:
        return self._inner.expire(now) + self.beside.expire(now, wait)

    def once(self, key: str, until: int, now: int, wait: bool = True) -> bool:
        return self.beside.once(key, until, now, wait)

    def read(self, prefix: str, now: int) -> List[Balance]:
        return sorted(self._inner.read(prefix, now) + self.beside.read(prefix, now))

    def rebuild(self, spent: Mapping[str, int], counters: Sequence[Counter], now: int) -> None:
        _, rest = self._split([counter.key for counter in counters])
        self.beside.rebuild(spent, [counters[at] for at in rest], now)

    def close(self) -> None:
        self.beside.close()

    # -- borrowing

    def _split(self, keys: Sequence[str]) -> Tuple[List[int], List[int]]:
        """The places of counters of the ledger's, and of the others."""
        if self._pid != getpid():
            self._fresh()
            if self._in_child is not None:
                self._in_child()
        lent: List[int] = []
        rest: List[int] = []
        for at, key in enumerate(keys):
            (lent if key.partition("/")[0] in self._lent or key in self._slices else rest).append(at)
        return lent, rest

    def _borrow(
        self, ticket: str, counters: List[Counter], amounts: List[int], now: int, lease: int, wait: bool
    ) -> Answer:
        for _ in range(4):
            with self._step:
                limited = [self._limited(item, now) for item in counters]
                answer = self._inner.reserve(ticket, limited, amounts, now, lease)
            if isinstance(answer, Held):
                return self._told(answer, counters)
            if not wait:
                raise Busy
            refusal = self._more(counters, amounts, now)
            if refusal is not None:
                return refusal
        raise StoreFailed("the ledger lends, and takes back at once")

    def _told(self, answer: Held, counters: List[Counter]) -> Held:
        """Rules that only warn never lack room here; whether they are passed is what the ledger last said."""
        over = []
        for at, (counter, amount) in enumerate(zip(counters, answer.amounts)):
            found = self._slices.get(counter.key)
            if not counter.hard and found is not None and found.spent + found.reserved + amount > counter.limit:
                over.append((at, found.spent, found.reserved))
        return answer._replace(over=tuple(over))

    def _limited(self, counter: Counter, now: int) -> Counter:
        """The counter with the room that this process has in it."""
        found = self._slice(counter)
        limit = found.base + found.granted
        if not counter.hard:
            limit = _ENDLESS
        elif self.alone and self._clock() < self._retry_at:
            limit += found.room
        elif self._clock() > self._valid_until:
            limit = 0
        return counter._replace(limit=limit, window=0)

    def _slice(self, counter: Counter) -> Slice:
        found = self._slices.get(counter.key)
        if found is None:
            name, _, rest = counter.key.partition("/")
            kept = rest.partition("/")[2]
            scope = [value for _, value in parse_qsl(kept, keep_blank_values=True)]
            if len(self._slices) >= MOST:
                raise StoreFailed("too many counters")
            found = self._slices[counter.key] = Slice(self._lent.get(name, name), scope, counter.limit, counter.until)
        found.limit = counter.limit
        return found

    def _used(self, key: str, now: int) -> Tuple[int, int]:
        """(spent, reserved) of this process."""
        found = self._inner.one(key, now)
        return found.spent, found.reserved

    def _more(self, counters: List[Counter], amounts: List[int], now: int) -> Optional[Refusal]:
        """Ask for what is missing. A refusal when there is no room; None when it is worth another try."""
        before = self.alone
        try:
            return self._ask_for(counters, amounts, now)
        finally:
            if self.alone and not before:  # outside the lock: the program's own log handlers are called
                health.warn(
                    "guard-alone",
                    "The ledger does not answer: budgets go on within what was left when it last did. Each process can "
                    "spend that much, so several may pass a limit together (on_store_failure: closed refuses instead)",
                )

    def _ask_for(self, counters: List[Counter], amounts: List[int], now: int) -> Optional[Refusal]:
        with self._asking:  # one exchange at a time: what it brings may be enough for those who wait
            lacking: Dict[str, Tuple[int, int]] = {}
            asked: List[Dict[str, Any]] = []
            for at, (counter, amount) in enumerate(zip(counters, amounts)):
                spent, reserved = self._used(counter.key, now)
                used = spent + reserved + (1 if amount == REST else amount)
                if not counter.hard or used <= self._limited(counter, now).limit:
                    continue
                lacking[counter.key] = at, used
                found = self._slice(counter)
                asked.append(self._question(found, at_least=max(0, used - found.base)))
            if not asked:
                return None
            if self._clock() < self._retry_at or not self._exchange(asked, list(lacking)):
                return self._without(counters, lacking)
            for question, (key, (at, _)) in zip(asked, lacking.items()):
                if question.get("refused"):
                    return Refusal(at, self._slices[key].spent, self._slices[key].reserved)
            return None

    @staticmethod
    def _question(found: Slice, **wish: int) -> Dict[str, Any]:
        return {"budget": found.budget, "scope": found.scope, "turn": found.turn, "have": found.granted, **wish}

    def _without(self, counters: List[Counter], lacking: Mapping[str, Tuple[int, int]]) -> Optional[Refusal]:
        """The ledger does not answer."""
        if self.closed:
            raise StoreFailed("the ledger does not answer")
        self.alone = True
        for key, (at, used) in lacking.items():
            if used > self._limited(counters[at], 0).limit:
                health.note("guard_alone_refused")
                found = self._slices[key]
                return Refusal(at, found.spent + sum(self._used(key, 0)) - found.base, found.reserved)
        return None

    def _exchange(self, asked: List[Dict[str, Any]], keys: Sequence[str], seconds: float = SECONDS) -> bool:
        """Ask, and enter the answers. False when there is none. Marks questions that were `refused`."""
        sent = self._clock()
        try:
            answer = self._ask(self._holder(), asked, seconds)
            rows = answer["leases"]
            valid = sent + float(answer["lease_s"]) * USED
            if len(rows) != len(asked):
                raise ValueError("as many answers as questions")
        except Exception as error:
            health.note("guard_ledger_failures")
            health.debug("guard: the ledger did not lend: %s", type(error).__name__)
            self._retry_at = self._clock() + PAUSE
            return False
        self.alone = False
        self._valid_until = valid
        for key, question, row in zip(keys, asked, rows):
            self._enter(self._slices[key], key, question, row)
        return True

    def _enter(self, found: Slice, key: str, question: Dict[str, Any], row: Mapping[str, Any]) -> None:
        if row.get("gone"):  # nobody limits it any more
            found.granted = _ENDLESS - found.base
            return
        if row.get("lost"):
            # What was spent is the ledger's to know by receipts; what is under way has to be borrowed again.
            found.turn += 1
            found.base = self._used(key, 0)[0]
            found.granted = 0
            question["lost"] = True
            return
        more = row["granted"] - found.granted
        found.granted = row["granted"]
        found.spent = row["spent"]
        found.reserved = row["reserved"] + max(more, 0)
        if row.get("refused"):
            question["refused"] = True

    # -- beside the calls

    def renew(self, now: int, seconds: float = SECONDS) -> bool:
        """Tell the ledger that this process lives, give back what is not used, forget what has ended.

        False when the ledger does not answer. Not for a thread that a call waits on.
        """
        if self._pid != getpid():
            return False  # the child has its own thread, or none
        with self._asking:
            asked: List[Dict[str, Any]] = []
            keys: List[str] = []
            for key, found in list(self._slices.items()):
                if 0 < found.until <= now:
                    del self._slices[key]
                    continue
                with self._step:
                    spent, reserved = self._used(key, now)
                    used = max(0, spent + reserved - found.base)
                    idle = spent == found.seen and not reserved
                    found.seen = spent
                    if found.granted >= _ENDLESS - found.base:
                        continue
                    question = self._question(found, **{"exactly" if idle else "at_least": used})
                    if idle:  # before it is told: from now on nobody here counts on it
                        found.granted = min(used, found.granted)
                asked.append(question)
                keys.append(key)
            return self._exchanged(asked, keys, seconds)

    def give_back(self, now: int, seconds: float) -> None:
        """The end of this process: what it has and does not use is free for others. What is under way stays held."""
        if self._pid != getpid() or not self._slices:
            return
        with self._asking:
            asked = []
            keys = list(self._slices)
            for key in keys:
                spent, reserved = self._used(key, now)
                found = self._slices[key]
                asked.append(self._question(found, exactly=max(0, spent + reserved - found.base)))
            self._exchanged(asked, keys, seconds)

    def _exchanged(self, asked: List[Dict[str, Any]], keys: List[str], seconds: float) -> bool:
        """All of these, in as many exchanges as it takes, which begin within so many seconds. Always one: it says that
        this process lives."""
        until = self._clock() + seconds
        for at in range(0, max(1, len(asked)), AT_ONCE):
            left = until - self._clock()
            if left <= 0 or not self._exchange(asked[at : at + AT_ONCE], keys[at : at + AT_ONCE], left):
                return False
        return True

    def answers(self) -> bool:
        """Has the ledger answered lately?"""
        return not self.alone and self._clock() < self._valid_until

    def borrowed(self) -> Set[str]:
        """The ledger's budgets of which this process holds anything."""
        return {found.budget for found in self._slices.values()}
