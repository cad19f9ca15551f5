"""Pricing stored receipts again: an explicit act, recorded, and by default only where there was no price.

Owns what a new price changes and what it leaves alone. A stored cost is otherwise immutable: last week's total must not
move because a price did. Each change is kept with the cost and the row before it. If this goes beyond what was asked
for, closed books change.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Protocol, Sequence

from aicostguard.ledger.ingest import MAX_COST_NANOUSD, Pricer, savings

#: receipts looked at, and at most changed, by one step
STEP = 2_000


class Scope(NamedTuple):
    """Which receipts: `[since_ms, until_ms)`, `filters` as those of a query, by default only the unpriced."""

    project_id: int
    since_ms: int
    until_ms: int
    filters: Mapping[str, tuple[str, ...]] = {}
    unpriced_only: bool = True


class Stored(NamedTuple):
    """A receipt as it is stored. `place` is where it stands in the order in which they are looked at."""

    place: tuple[int, str, int]
    receipt: Mapping[str, Any]
    origin: Mapping[str, str]
    cost_nanousd: int | None
    price_row: str | None
    unpriced_reason: str | None
    cache_savings_nanousd: int | None = None


class Change(NamedTuple):
    """A receipt and what it costs from now on."""

    stored: Stored
    cost_nanousd: int
    price_row: str
    cache_savings_nanousd: int | None = None


class Report(NamedTuple):
    """What an act looked at and what it changed, or would change.

    `still_unpriced` had no price and have none now; `kept` are priced, and the book has no price for them any more:
    their cost stays. `models` is `(provider, model, calls, before, after)` of the changes, in nano-dollars.
    """

    number: int | None
    seen: int
    changed: int
    still_unpriced: int
    kept: int
    before_nanousd: int
    after_nanousd: int
    models: list[tuple[str, str, int, int, int]]


class Books(Protocol):
    """What is asked of a store."""

    def priced(self, scope: Scope, after: tuple[int, str, int] | None, limit: int) -> list[Stored]:
        """The next receipts of a scope behind a place, in the order of their places."""

    def begin_repricing(self, scope: Scope, source: str, now_ms: int) -> int:
        """Open the record of an act; returns its number."""

    def apply_repricing(self, number: int, project_id: int, changes: Sequence[Change]) -> None:
        """Change costs, sums and record in one transaction. Raises `Busy` when one is not as it was read."""


def reprice(books: Books, scope: Scope, price: Pricer, source: str, now_ms: int, *, apply: bool) -> Report:
    """Price the receipts of a scope by `price`, and store what differs if `apply`. `source` names the prices."""
    number = books.begin_repricing(scope, source, now_ms) if apply else None
    seen = changed = still = kept = before = after = 0
    models: dict[tuple[str, str], list[int]] = {}
    place: tuple[int, str, int] | None = None
    while rows := books.priced(scope, place, STEP):
        place = rows[-1].place
        seen += len(rows)
        changes: list[Change] = []
        for row in rows:
            found = price(row.receipt, row.place[0])
            cost = found.cost_nanousd
            if cost is None or not 0 <= cost <= MAX_COST_NANOUSD:
                still += row.cost_nanousd is None
                kept += row.cost_nanousd is not None
            elif (cost, found.row) != (row.cost_nanousd, row.price_row):
                saved = savings(row.receipt, cost, row.place[0], price)
                changes.append(Change(row, cost, found.row or "", saved))
        if changes and number is not None:
            books.apply_repricing(number, scope.project_id, changes)
        for change in changes:
            was = change.stored.cost_nanousd or 0
            changed, before, after = changed + 1, before + was, after + change.cost_nanousd
            sums = models.setdefault((change.stored.receipt["provider"], change.stored.receipt["model"]), [0, 0, 0])
            sums[:] = sums[0] + 1, sums[1] + was, sums[2] + change.cost_nanousd
    ordered = sorted(models.items(), key=lambda item: (-abs(item[1][2] - item[1][1]), item[0]))
    table = [(provider, model, calls, was, now) for (provider, model), (calls, was, now) in ordered]
    return Report(number, seen, changed, still, kept, before, after, table)
