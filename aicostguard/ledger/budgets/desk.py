"""The desk at which calls are let through: one question, one transaction, one answer.

Owns the order of steps: first what has arrived is counted and what has lapsed is booked, then the question is decided,
then the answer is kept. Whoever asks twice gets the same answer. Everything else is in `tickets`, `leases`, `counters`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import secrets
import sqlite3
from typing import Any, Callable, Mapping, NamedTuple, Sequence, TypeVar

from aicostguard.guard.policy import Budget
from aicostguard.ledger import drain
from aicostguard.ledger.budgets import book, counted, counters, gather, leases, rule, tickets
from aicostguard.ledger.budgets.ask import Asking, Used
from aicostguard.ledger.budgets.book import Kept
from aicostguard.ledger.budgets.tickets import Ticket
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.query import usd
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.pricing import PriceBook
from aicostguard.pricing.registry import ModelPricing

T = TypeVar("T")
BLOCKED = "Budget limit reached. Inference blocked."


class Exceeded(NamedTuple):
    """Why a call has no room: the rule, its scope, what stands there, and what the call was counted with.

    Of a `shared` one the figures are those of other projects, too: no sentence has them.
    """

    budget: Budget
    scope: str
    spent: int
    reserved: int
    estimate: int | None
    resets_ms: int | None
    shared: bool = False

    def reason(self) -> str:
        """One sentence, with the figures where whoever asks may know them."""
        at = rule.named(self.budget, self.scope)
        of = f" of {', '.join(f'{name} {value!r}' for name, value in at.items())}" if at else ""
        if self.shared:
            return f"Budget {self.budget.name}{of}: the whole organisation shares it, and the call would exceed it"
        if self.estimate is None:
            return f"Budget {self.budget.name}{of}: nothing is known of what the call may use"
        total = self.spent + self.reserved + self.estimate
        held = f" ({rule.short(self.budget, self.reserved)} of it promised to calls)" if self.reserved else ""
        return (
            f"Budget {self.budget.name}{of}: {rule.short(self.budget, total)}{held} would exceed the limit "
            f"{rule.short(self.budget, self.budget.limit)}"
        )


class Granted(NamedTuple):
    """A call that was let through. `again`: the same request came before."""

    ticket: Ticket
    again: bool


class Desk:
    """Budgets over one ledger file. `now` is the ledger's clock in ms."""

    def __init__(self, store: SqliteStore, now: Callable[[], int]) -> None:
        self._store = store
        self._now = now
        self._prices: tuple[PriceBook | None, ModelPricing] | None = None

    @property
    def prices(self) -> ModelPricing:
        """The ledger's prices, own terms included, as they are now."""
        known, book = self._prices, self._store.book
        if known is None or known[0] is not book:  # read when needed; own terms may change while this runs
            known = self._prices = (book, ModelPricing(book))
        return known[1]

    # What keeps counters up to date.

    def catch_up(self) -> None:
        """Count what has arrived, also in the file's inbox, book what has lapsed, make anew what is stale. Cheap when
        there is nothing to do."""
        drain(self._store)
        if not self._store.look(_waits(self._now())):
            return
        while self._store.change(lambda connection: counted.advance(connection, self._now())):
            pass
        self._store.change(lambda connection: _lapse(connection, self._now()))
        for kept in self._store.look(book.everybody):
            if kept.stale:
                self._rebuild(kept)

    def _rebuild(self, kept: Kept) -> None:
        """Beside whoever writes: the receipts are read first, then the result is put in place in one step."""
        for _ in range(5):
            found = self._store.look(lambda connection: _in_transaction(connection, kept, self._now()))
            if self._store.change(functools.partial(_settle, found=found, now_ms=self._now())):
                return
        self._store.change(
            lambda connection: _settle(connection, counted.scan(connection, kept, self._now()), self._now())
        )

    def rebuild(self, place: int, names: Sequence[str], who: str, shared: bool = True) -> list[Kept]:
        """Make the counters of these budgets (all, or but the `shared`, if none is named) anew; harmless how often."""
        self.catch_up()
        every = self._store.look(lambda connection: book.over(connection, place))
        for name in names:
            self._store.look(functools.partial(book.need, place=place, name=name))
        kept = [item for item in every if (item.name in names if names else shared or not item.shared)]
        for item in kept:
            self._rebuild(item)
            self._store.change(functools.partial(_note_rebuilt, kept=item, who=who, now_ms=self._now()))
        return kept

    def _decide(self, job: Callable[[sqlite3.Connection, int], T]) -> T:
        """Run a job on counters that are up to date."""
        self.catch_up()

        def in_order(connection: sqlite3.Connection) -> T:
            now_ms = self._now()
            while counted.advance(connection, now_ms):
                pass
            _lapse(connection, now_ms)
            return job(connection, now_ms)

        return self._store.change(in_order)

    # Rules.

    def put(self, owner: int, budget: Budget, who: str, spent: int | None = None, adjust: bool = False) -> bool:
        """Keep an owner's rule; True when it is new. With `spent` that is what stands in it from now on.

        Of a budget that there is already, `spent` may only be what it is, unless `adjust` says that it is meant; that
        is written down. Raises `Refused` (422).
        """
        self.catch_up()

        def job(connection: sqlite3.Connection) -> bool:
            now_ms = self._now()
            while spent is not None and counted.advance(connection, now_ms):
                pass
            new = book.find(connection, owner, budget.name) is None
            kept, stale = book.put(connection, owner, budget, who, now_ms)
            if not stale:  # a lower limit may be passed already
                for scope in counters.scopes(connection, kept, now_ms, book.MOST):
                    counters.alert(connection, kept, rule.Counter(scope, rule.start(budget, now_ms)), now_ms)
            if spent is not None:
                if stale:
                    counted.settle(connection, counted.scan(connection, kept, now_ms), now_ms)
                _set_spent(connection, kept, spent, new or adjust, None if new else who, now_ms)
            return new

        new = self._store.change(job)
        self.catch_up()
        return new

    def remove(self, place: int, name: str, who: str) -> None:
        """Forget a budget. Raises `Refused` (404)."""
        self._store.change(lambda connection: book.remove(connection, place, name, who, self._now()))

    def set_policy(self, project_id: int, values: Mapping[str, Any], who: str) -> None:
        """Change what of the policy is no budget; None takes a word back."""

        def job(connection: sqlite3.Connection) -> None:
            merged = {**book.settings(connection, project_id), **values}
            kept = {name: value for name, value in merged.items() if value is not None}
            book.put_settings(connection, project_id, kept, who, self._now())

        self._store.change(job)

    # Calls.

    def authorize(self, project_id: int, asking: Asking, key: str | None, body_hash: str) -> Granted | Exceeded:
        """Let a call through, holding what it may use, or say which rule has no room. Raises `Refused` (422)."""
        key_hash = None if key is None else _hash(key)

        def job(connection: sqlite3.Connection, now_ms: int) -> Granted | Exceeded:
            if key_hash is not None:
                before = tickets.by_key(connection, project_id, key_hash)
                if before is not None:
                    if before.body_hash != body_hash:
                        raise Refused(422, "was used before with another body", "Idempotency-Key")
                    return Granted(before, True)
            labels = dict(asking.labels)
            of = gather.organisation(connection, project_id)
            if of:
                labels["organisation"] = of
            kept = [item for item in book.over(connection, project_id) if rule.matches(item.budget, labels)]
            policy = {**POLICY, **book.settings(connection, project_id)}
            bound, warnings = _bound(connection, kept, asking, labels, policy, now_ms)
            refused = _first_without_room(connection, kept, labels, bound, warnings, now_ms)
            if refused is not None:
                return refused
            ticket = Ticket(
                id=f"t{now_ms:012x}{secrets.token_hex(10)}",
                project_id=project_id,
                at_ms=now_ms,
                expires_ms=now_ms + asking.lease_s * 1000,
                state="open",
                labels=labels,
                bound_nanousd=bound["nanousd"] or 0,
                bound_tokens=bound["tokens"] or 0,
                nanousd=None,
                tokens=None,
                body_hash=body_hash,
                answer=json.dumps({"warnings": warnings}),
            )
            tickets.add(connection, ticket, key_hash, now_ms)
            return Granted(ticket, False)

        return self._decide(job)

    def settle(self, project_id: int, number: str, used: Used) -> tuple[Ticket, bool]:
        """Book what a call has used, or give back what it held. Gives the ticket, and whether this was news.

        What a ticket was settled with first stays; a receipt counts as a settlement. Raises `Refused` (404).
        """

        def job(connection: sqlite3.Connection, now_ms: int) -> tuple[Ticket, bool]:
            ticket = tickets.find(connection, project_id, number)
            if ticket is None:
                raise Refused(404, "this ticket is not known here; POST /v1/authorize gives one", "ticket")
            if ticket.state not in ("open", "unsettled"):
                return ticket, False
            if used.release:
                return tickets.move(connection, ticket, "released", now_ms), True
            cost = used.cost(ticket.labels, ticket.at_ms, self.prices)
            return tickets.move(connection, ticket, "settled", now_ms, cost, used.tokens), True

        return self._decide(job)

    # Processes that spend by themselves.

    def lend(
        self, project_id: int, holder: str, asked: Sequence[tuple[str, leases.Asked]]
    ) -> list[tuple[Kept | None, leases.Lent | None]]:
        """Lend to a process; one answer for each question, None for a budget that there is not (any more)."""

        def job(connection: sqlite3.Connection, now_ms: int) -> list[tuple[Kept | None, leases.Lent | None]]:
            kept = {item.name: item for item in book.over(connection, project_id)}
            leases.renew(connection, holder, now_ms)
            out: list[tuple[Kept | None, leases.Lent | None]] = []
            for name, item in asked:
                found = kept.get(name)
                out.append((found, None if found is None else leases.ask(connection, found, holder, item, now_ms)))
            return out

        return self._decide(job)


def _set_spent(connection: sqlite3.Connection, kept: Kept, spent: int, may: bool, who: str | None, now_ms: int) -> None:
    budget = kept.budget
    if budget.per or budget.period in ("call", "session", "minute"):
        raise Refused(422, "is one amount, but this budget has one for each of many", "spent")
    counter = rule.counter(budget, {}, now_ms)
    change = spent - counters.balance(connection, kept, counter.scope, now_ms).spent
    if not change:
        return
    if not may:
        now_there = rule.short(budget, spent - change)
        raise Refused(
            422,
            f"is the opening balance, given once; now {now_there} stand there, counted from receipts. To set it all "
            "the same, send adjust: true, which is written down",
            "spent",
        )
    connection.execute(
        "INSERT INTO budget_openings VALUES (?, ?, ?, ?) ON CONFLICT (budget_id, scope, start_ms) "
        "DO UPDATE SET amount = amount + excluded.amount",
        (kept.id, *counter, change),
    )
    counters.add(connection, kept, counter, counters.Amount(spent=change), now_ms)
    if who is not None:
        told = {**rule.written(budget), rule.keyed(budget, "spent"): rule.told(budget, spent)}
        book.note(connection, kept.owner, kept.name, who, "adjusted", told, now_ms)
        book.audited(connection, kept.owner, kept.name, who, "adjusted", now_ms, None, told)


#: what a policy says besides budgets when nobody has set it
POLICY: Mapping[str, Any] = {"on_unpriced": "warn", "on_unknown_bound": "observed"}


def _in_transaction(connection: sqlite3.Connection, kept: Kept, now_ms: int) -> counted.Snapshot:
    connection.execute("BEGIN")
    try:
        return counted.scan(connection, kept, now_ms)
    finally:
        connection.execute("COMMIT")


def _settle(connection: sqlite3.Connection, found: counted.Snapshot, now_ms: int) -> bool:
    return counted.settle(connection, found, now_ms)


def _note_rebuilt(connection: sqlite3.Connection, kept: Kept, who: str, now_ms: int) -> None:
    book.note(connection, kept.owner, kept.name, who, "rebuilt", rule.written(kept.budget), now_ms)


def _waits(now_ms: int) -> Callable[[sqlite3.Connection], bool]:
    """Is there anything that counters have to catch up with?"""

    def look(connection: sqlite3.Connection) -> bool:
        row = connection.execute(
            "SELECT (SELECT min(counted_to) FROM budgets) < (SELECT max(id) FROM arrivals) "
            "OR EXISTS (SELECT 1 FROM budgets WHERE stale = 1) "
            "OR EXISTS (SELECT 1 FROM tickets WHERE state = 'open' AND expires_ms <= ?) "
            "OR EXISTS (SELECT 1 FROM leases WHERE expires_ms <= ?)",
            (now_ms, now_ms),
        ).fetchone()
        return bool(row[0])

    return look


def _lapse(connection: sqlite3.Connection, now_ms: int) -> None:
    tickets.lapse(connection, now_ms)
    leases.lapse(connection, now_ms)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _bound(
    connection: sqlite3.Connection,
    kept: Sequence[Kept],
    asking: Asking,
    labels: Mapping[str, str],
    policy: Mapping[str, Any],
    now_ms: int,
) -> tuple[dict[str, int | None], list[str]]:
    """The most that a call may use, by unit, and what has to be said of it. Raises `Refused` when rules want more."""
    warnings: list[str] = []
    bound: dict[str, int | None] = {"nanousd": asking.nanousd, "tokens": asking.tokens, "requests": 1}
    wanted = {item.budget.unit for item in kept}
    if "nanousd" in wanted and bound["nanousd"] is None and asking.unpriced:
        text = f"No pricing configured for model: {labels.get('model', '')}"
        if policy["on_unpriced"] == "block":
            raise Refused(422, f"{text}. Send estimate_usd, or set a price; on_unpriced is block here", "model")
        if policy["on_unpriced"] == "warn":
            warnings.append(f"{text}; it counts as 0 in budgets of money until its receipt is priced")
        bound["nanousd"] = 0
    for unit in ("nanousd", "tokens"):
        if unit not in wanted or bound[unit] is not None:
            continue
        if policy["on_unknown_bound"] != "observed":
            raise Refused(
                422,
                "nothing says how much the call may use at most. Send estimate_usd, or input_tokens and "
                f"max_output_tokens; on_unknown_bound is {policy['on_unknown_bound']} here",
                "max_output_tokens",
            )
        bound[unit] = _observed(connection, [item for item in kept if item.budget.unit == unit], labels, now_ms)
        told = f"${usd(bound[unit] or 0)}" if unit == "nanousd" else f"{bound[unit]:,} tokens"
        warnings.append(f"The request has no upper bound: it is counted with {told}, the mean of the calls so far")
    return bound, warnings


def _observed(connection: sqlite3.Connection, kept: Sequence[Kept], labels: Mapping[str, str], now_ms: int) -> int:
    """What calls in these budgets have used on the mean, the largest of the means."""
    means = [0]
    for item in kept:
        balance = counters.balance(connection, item, rule.scope(item.budget, labels), now_ms)
        if balance.calls:
            means.append(-(-balance.spent // balance.calls))
    return max(means)


def _first_without_room(
    connection: sqlite3.Connection,
    kept: Sequence[Kept],
    labels: Mapping[str, str],
    bound: Mapping[str, int | None],
    warnings: list[str],
    now_ms: int,
) -> Exceeded | None:
    """The first rule that has no room and blocks; what rules that only warn have to say is added to `warnings`."""
    for item in kept:
        budget = item.budget
        scope = rule.scope(budget, labels)
        need = bound[budget.unit] or 0
        found = counters.Balance()
        if budget.period != "call":
            found = counters.balance(connection, item, scope, now_ms)
        if found.spent + found.reserved + need <= budget.limit:
            continue
        resets = None if budget.period == "call" else rule.resets(budget, now_ms)
        refused = Exceeded(budget, scope, found.spent, found.reserved, need, resets, item.shared)
        if budget.on_exceed == "block":
            return refused
        if budget.on_exceed == "warn":
            warnings.append(refused.reason())
    return None
