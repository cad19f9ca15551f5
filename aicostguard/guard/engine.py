"""The budget engine: reserve the most that a call can use before it is sent, settle what it did use after.

Owns the decision. Every call stands in the counters of all budgets that match it, in all of them or in none, and a
`block` budget has room for it or it is refused, by one atomic step of the store: so no number of threads, tasks,
processes or machines passes a limit by calls whose most is known. A call that reaches the limit exactly is allowed.
Where the counters are kept is not known here. Nothing that goes wrong in a store reaches the host: `on_store_failure`
decides instead.

If this is wrong, money is spent that should not be, or a program stops that should not.
"""

from __future__ import annotations

import itertools
import os
import time
from os import getpid
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple, Union

from aicostguard import health
from aicostguard.guard import aside, standing, words
from aicostguard.guard.alerts import Alerts
from aicostguard.guard.asking import Asking, Want, passed
from aicostguard.guard.errors import BudgetExhausted
from aicostguard.guard.owed import Owed
from aicostguard.guard.plan import Entry, Planner
from aicostguard.guard.policy import Policy
from aicostguard.guard.store import MOST, Answer, Busy, Counter, Refusal, Store, StoreFailed
from aicostguard.guard.values import Alert, Facts, Spent, Status, Ticket

#: how long a reservation stands without being renewed: longer than the timeouts of SDKs
LEASE_MS = 15 * 60_000
#: how often leases are looked at and what the store owes is tried again
HOUSE_MS = 5_000
#: streams under a limit on one call whose growth is remembered
MAX_GROWN = 10_000


def _now() -> int:
    return time.time_ns() // 1_000_000


class Guard:
    """One policy over one store. All methods may be called from any thread; those that begin with `a` wait without
    blocking the running loop. `tell` gets each `Alert` once per threshold, period and scope, from among all that share
    the store.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        *,
        clock: Callable[[], int] = _now,
        tell: Optional[Callable[[Alert], None]] = None,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self.policy = policy
        self._store = store
        self._clock = clock
        self._lease = lease_ms
        self._planner = Planner(policy)
        self._asking = Asking(policy, self._planner)
        self._owed = Owed(store)
        self._alerts = Alerts(self._planner, store, tell)
        #: what streams were given beyond their reservation, for limits on one call
        self._grown: Dict[str, Tuple[int, int]] = {}
        self._house_at = 0
        #: process, prefix and numbers of the tickets, in one: of two threads that begin at once each keeps to its own
        self._names: Tuple[int, str, Iterator[int]] = (0, "", itertools.count())

    # -- before a call

    def ask(self, facts: Facts) -> Ticket:
        """Let a call through, or raise BudgetExceeded."""
        want = self._asking.want(facts)
        ident = self._id(want.now)
        if not want.amounts:
            return Ticket(ident, want.now, (), (), want.reasons, want.kind, want.plan.single)
        try:
            answer = self._store.reserve(ident, want.plan.counters, want.amounts, want.now, want.now + self._lease)
        except Exception as error:
            return self._unheld(ident, want, facts, error)
        if want.now >= self._house_at:
            self._house_at = want.now + HOUSE_MS
            self._owed.tidy(want.now)
        return self._answered(ident, want, facts, answer)

    async def aask(self, facts: Facts) -> Ticket:
        """As `ask`."""
        if not self._store.waits:
            return self.ask(facts)
        want = self._asking.want(facts)
        ident = self._id(want.now)
        if not want.amounts:
            return Ticket(ident, want.now, (), (), want.reasons, want.kind, want.plan.single)
        try:
            answer = await aside.run(
                self._store.reserve,
                (ident, want.plan.counters, want.amounts, want.now, want.now + self._lease),
                undo=lambda: self._give_back(ident, want.plan.keys),
            )
        except Exception as error:
            return self._unheld(ident, want, facts, error)
        if want.now >= self._house_at:
            self._house_at = want.now + HOUSE_MS
            try:
                await aside.run(self._owed.tidy, (want.now,), at_once=False)
            except BaseException:  # cancelled: nobody takes the ticket
                aside.later(self._give_back, ident, want.plan.keys)
                raise
        return self._answered(ident, want, facts, answer)

    def _id(self, now: int) -> str:
        """Time-ordered, and nobody else's: a child that was forked has a prefix of its own."""
        pid, names = getpid(), self._names
        if names[0] != pid:
            names = self._names = (pid, os.urandom(6).hex(), itertools.count())
        return "%011x%s%x" % (now, names[1], next(names[2]))

    def _answered(self, ident: str, want: Want, facts: Facts, answer: Answer) -> Ticket:
        if isinstance(answer, Refusal):
            self._refused(want, facts, answer)
        reasons = want.reasons
        for index, spent, reserved in answer.over:
            entry = want.plan.entries[index]
            text = words.exceeds(entry.rule.budget, entry.scope, spent + reserved, answer.amounts[index])
            reasons += (passed(entry.rule, text),)
        return Ticket(ident, want.now, want.plan.keys, answer.amounts, reasons, want.kind, want.plan.single)

    def _refused(self, want: Want, facts: Facts, answer: Refusal) -> NoReturn:
        entry = want.plan.entries[answer.at]
        rule = entry.rule
        estimate = (facts.bound.nanousd, facts.bound.tokens, 1)[rule.unit]
        if estimate is None and want.amounts[answer.at] > 1:  # the dearest seen
            estimate = want.amounts[answer.at]
        self._asking.refuse(
            rule,
            facts.labels,
            words.exceeds(rule.budget, entry.scope, answer.spent + answer.reserved, estimate),
            spent=answer.spent,
            reserved=answer.reserved,
            estimate=estimate,
            resets_at=entry.resets_at(want.now),
        )

    def _unheld(self, ident: str, want: Want, facts: Facts, error: Exception) -> Ticket:
        """The store failed: `on_store_failure` decides. What a call let through uses is booked when it is back."""
        self._failed(error)
        self._owed.release(ident, want.plan.keys, want.now)  # it may have been held before the answer was lost
        if self.policy.on_store_failure == "closed":
            for entry in want.plan.entries:
                if entry.rule.hard:
                    self._asking.refuse(entry.rule, facts.labels, words.no_store(self.policy.name))
        return Ticket(ident, want.now, want.plan.keys, (), want.reasons, want.kind, want.plan.single)

    @staticmethod
    def _failed(error: Exception) -> None:
        if isinstance(error, Busy):  # a finaliser within a step of its own thread: what it wants is owed, that is all
            return
        if not isinstance(error, StoreFailed):
            health.fault("guard.store", error)
        health.note("guard_store_failures")
        health.warn(
            "guard-store",
            "The store of budgets failed (%s); on_store_failure decides about calls until it is back"
            % (error if isinstance(error, StoreFailed) else type(error).__name__),
        )

    # -- after a call

    def settle(self, ticket: Ticket, spent: Spent) -> None:
        """Book what a call has used, and give back the rest of what it held. A second answer to a ticket is ignored."""
        if not ticket.keys:
            return
        now = self._clock()
        settling = self._planner.settling(ticket.keys, ticket.at_ms)
        amounts = self._used(ticket, spent, settling.units)
        if not ticket.held:  # let through while the store was away
            self._owed.book(ticket.id, self._soft(ticket, now), amounts, spent.estimated, now)
            return
        try:
            after = self._store.settle(ticket.id, ticket.keys, amounts, spent.estimated, now)
        except Exception as error:
            self._failed(error)
            self._owed.settle(ticket.id, ticket.keys, amounts, spent.estimated, now)
            return
        if after and self._alerts.due(settling.told, after):
            self._alert(ticket, after, now)

    async def asettle(self, ticket: Ticket, spent: Spent) -> None:
        """As `settle`. Once begun it is carried out, even when the task is cancelled."""
        if not self._store.waits or not ticket.held:
            self.settle(ticket, spent)
            return
        now = self._clock()
        settling = self._planner.settling(ticket.keys, ticket.at_ms)
        amounts = self._used(ticket, spent, settling.units)
        try:
            after = await aside.run(self._store.settle, (ticket.id, ticket.keys, amounts, spent.estimated, now))
        except Exception as error:
            self._failed(error)
            self._owed.settle(ticket.id, ticket.keys, amounts, spent.estimated, now)
            return
        if after and self._alerts.due(settling.told, after):
            await aside.run(self._alert, (ticket, after, now), at_once=False)

    def _alert(self, ticket: Ticket, after: Sequence[int], now: int) -> None:
        try:
            self._alerts.look(ticket.keys, after, now)
        except StoreFailed as error:
            self._failed(error)
        except Exception as error:  # a callback of the user's may raise
            health.fault("guard.engine.alert", error)

    def book(self, facts: Facts, spent: Spent) -> None:
        """Count what nobody was asked about in all budgets that it matches, whatever their limits."""
        now = self._clock()
        self.settle(Ticket(self._id(now), facts.at_ms, self._planner.plan(facts.labels, facts.at_ms).keys), spent)
        self._owed.tidy(now)

    def lost(self, ticket: Ticket) -> None:
        """Something may have been billed and nobody knows how much: all that is held is booked, as an estimate."""
        self.settle(ticket, Spent(estimated=True))

    def release(self, ticket: Ticket) -> None:
        """Certain that nothing is billed: all that is held is given back."""
        if ticket.keys and ticket.held:
            self._give_back(ticket.id, ticket.keys)

    async def arelease(self, ticket: Ticket) -> None:
        """As `release`. Once begun it is carried out, even when the task is cancelled."""
        if not self._store.waits or not ticket.held:
            self.release(ticket)
            return
        now = self._clock()
        self._grown.pop(ticket.id, None)
        try:
            await aside.run(self._store.release, (ticket.id, ticket.keys, now))
        except Exception as error:
            self._failed(error)
            self._owed.release(ticket.id, ticket.keys, now)

    def _give_back(self, ident: str, keys: Tuple[str, ...]) -> None:
        self._grown.pop(ident, None)
        now = self._clock()
        try:
            self._store.release(ident, keys, now)
        except Exception as error:
            self._failed(error)
            self._owed.release(ident, keys, now)

    def _used(self, ticket: Ticket, spent: Spent, units: Sequence[int]) -> Tuple[Optional[int], ...]:
        """What to book of each counter."""
        if self._grown:
            self._grown.pop(ticket.id, None)
        self._asking.learn(ticket.kind, spent)
        nanousd, tokens, requests, _ = spent
        if nanousd is not None and not 0 <= nanousd <= MOST:
            nanousd = min(max(nanousd, 0), MOST)
        if tokens is not None and not 0 <= tokens <= MOST:
            tokens = min(max(tokens, 0), MOST)
        if not 0 <= requests <= MOST:
            requests = min(max(requests, 0), MOST)
        used = (nanousd, tokens, requests, None)  # the last of a rule that is no more
        return tuple([used[unit] for unit in units])

    def _soft(self, ticket: Ticket, now: int) -> Tuple[Counter, ...]:
        """Its counters, to book on whatever their limit."""
        entries = [self._planner.entry(key, now) for key in ticket.keys]
        return tuple([_counter(key, entry)._replace(hard=False) for key, entry in zip(ticket.keys, entries)])

    # -- what others decide, for who keeps a record of it

    def decided(self, facts: Facts, error: BudgetExhausted, blocked: bool) -> None:
        """A loop was found in a call that is about to be asked for: it is refused, or only told of."""

    def cut(self, ticket: Ticket, error: BudgetExhausted) -> None:
        """The stream of a call that was let through is ended, because nothing more could be held for it."""

    # -- while a stream runs

    def holds(self, ticket: Ticket) -> Tuple[Optional[int], Optional[int]]:
        """The nanousd and the tokens that a call may use before it has to `grow`, as it was let through. None: any."""
        most: List[Optional[int]] = list(ticket.single)
        for key, held in zip(ticket.keys, ticket.held):
            entry = self._planner.entry(key, ticket.at_ms)
            if entry is not None and entry.rule.hard and entry.rule.unit < 2:
                unit = entry.rule.unit
                most[unit] = held if most[unit] is None else min(held, most[unit] or 0)
        return most[0], most[1]

    def grow(self, ticket: Ticket, nanousd: int, tokens: int) -> bool:
        """Hold more for a call that is under way, and renew its lease: True when there was room in all its budgets.

        With nothing more it only renews. When it is False nothing has changed.
        """
        step = self._growing(ticket, nanousd, tokens)
        if isinstance(step, bool):
            return step
        try:
            return self._grew(ticket, nanousd, tokens, self._store.grow(*step))
        except Exception as error:
            self._failed(error)
            return self.policy.on_store_failure == "open"

    async def agrow(self, ticket: Ticket, nanousd: int, tokens: int) -> bool:
        """As `grow`."""
        if not self._store.waits:
            return self.grow(ticket, nanousd, tokens)
        step = self._growing(ticket, nanousd, tokens)
        if isinstance(step, bool):
            return step
        try:
            return self._grew(ticket, nanousd, tokens, await aside.run(self._store.grow, step))
        except Exception as error:
            self._failed(error)
            return self.policy.on_store_failure == "open"

    def _growing(self, ticket: Ticket, nanousd: int, tokens: int) -> Union[bool, Tuple[Any, ...]]:
        """The step of the store, or the answer where none is needed."""
        more = (max(nanousd, 0), max(tokens, 0), 0)
        if ticket.single != (None, None):
            grown = self._grown.get(ticket.id, (0, 0))
            for unit, first in enumerate(self.holds(ticket)):
                most = ticket.single[unit]
                if most is not None and more[unit] and (first or 0) + grown[unit] + more[unit] > most:
                    return False
        if not ticket.held:
            return True
        entries = [self._planner.entry(key, ticket.at_ms) for key in ticket.keys]
        counters = tuple([_counter(key, entry) for key, entry in zip(ticket.keys, entries)])
        amounts = tuple([more[entry.rule.unit] if entry is not None else 0 for entry in entries])
        now = self._clock()
        return ticket.id, counters, amounts, now, now + self._lease

    def _grew(self, ticket: Ticket, nanousd: int, tokens: int, room: bool) -> bool:
        if room and ticket.single != (None, None):
            if len(self._grown) >= MAX_GROWN:
                self._grown.pop(health.oldest(self._grown) or "", None)
            before = self._grown.get(ticket.id, (0, 0))
            self._grown[ticket.id] = (before[0] + nanousd, before[1] + tokens)
        return room

    # -- what stands where

    def status(self, now: Optional[int] = None) -> List[Status]:
        """Every budget for every scope that has been used in its present period. Raises `StoreFailed`."""
        return standing.status(self._planner, self._store, self._clock() if now is None else now)

    def rebuild(self, spent: Iterable[Tuple[Mapping[str, str], int, Spent]]) -> None:
        """Set what is spent in the present periods to what another book says: (labels, Unix milliseconds, use) of
        calls or sums of calls. Doing it twice is doing it once. Rolling minutes are left alone. Raises `StoreFailed`.
        """
        standing.rebuild(self._planner, self._store, spent, self._clock())

    def close(self) -> None:
        """Let go of the store's files and connections, after what it is owed."""
        self._owed.tidy(self._clock())
        self._store.close()


def _counter(key: str, entry: Optional[Entry]) -> Counter:
    """The counter of a key; of a rule that is no more, one without a limit."""
    return entry.counter if entry is not None else Counter(key, 0, hard=False)
