"""Receipts into counters: each exactly once, in the order in which they were stored.

Owns `counted_to`, the point in `arrivals` up to which a budget has counted. Ingest knows nothing of budgets: it notes
what came, in the transaction that stores it; here that note is read and the counters move on, in one transaction,
before anything is decided and once a second. So a receipt is in a counter or still to come, never twice, whatever is
killed. `rebuild` makes counters anew from the receipts themselves, as often as one likes.
"""

from __future__ import annotations

import sqlite3
from typing import Iterator, Mapping, NamedTuple, Sequence

from aicostguard.guard.policy import Budget
from aicostguard.ledger.budgets import book, counters, gather, leases, owner, rule, tickets
from aicostguard.ledger.budgets.book import Kept
from aicostguard.ledger.budgets.counters import Amount
from aicostguard.ledger.budgets.gather import Group
from aicostguard.ledger.budgets.rule import Counter
from aicostguard.ledger.model import DIMENSIONS, Query
from aicostguard.ledger.sqlite import room, sums

#: runs of arrivals taken in by one transaction: other writers wait no longer than that
RUNS_AT_ONCE = 200


def advance(connection: sqlite3.Connection, now_ms: int) -> bool:
    """Count what has arrived since the last time, as far as fits one transaction; True when there is more."""
    before, oldest, newest = connection.execute(
        "SELECT (SELECT min(counted_to) FROM budgets), (SELECT min(id) FROM arrivals), (SELECT max(id) FROM arrivals)"
    ).fetchone()
    if before is None or newest is None or before >= newest:
        return False
    if before < oldest - 1:
        # Some were forgotten before they were counted: budgets count anew, from the receipts.
        tickets.search(connection, now_ms)
        connection.execute("UPDATE budgets SET stale = 1, counted_to = ?", (newest,))
        return False
    kept = book.everybody(connection)
    over = owner.organisations(connection)
    runs = gather.runs(connection, before, RUNS_AT_ONCE)
    for run in runs:
        left_out = tickets.told(connection, run, now_ms)
        owners = (run.project_id, over.get(run.project_id))
        mine = [item for item in kept if item.owner in owners and not item.stale]
        lent = leases.of(connection, run.epoch)
        for item, counter, group in gather.of_run(connection, mine, run, left_out):
            amount = group.amount(item.budget.unit)
            counters.add(connection, item, counter, amount, now_ms, group.last_ms)
            if lent:
                leases.used(connection, item, counter, run.epoch, amount.spent, now_ms)
    connection.execute("UPDATE budgets SET counted_to = ?", (runs[-1].id,))
    for item in kept:
        counters.forget(connection, item, now_ms)
    return bool(runs[-1].id < newest)


class Snapshot(NamedTuple):
    """What receipts say of a budget's present period, up to the arrival `counted_to`."""

    kept: Kept
    since_ms: int
    counted_to: int
    amounts: Mapping[Counter, Amount]


def scan(connection: sqlite3.Connection, kept: Kept, now_ms: int) -> Snapshot:
    """Read what the receipts of the present period come to. Takes one transaction, which may be a reading one."""
    counted_to = book.counted_to(connection)
    if kept.budget.period == "minute":
        since = now_ms - now_ms % 1000 - rule.MINUTE_MS
    else:
        since = rule.start(kept.budget, now_ms)
    amounts: dict[Counter, Amount] = {}
    if kept.budget.period != "call":
        members = owner.members(connection, kept.owner)
        for group in (group for project_id in members for group in _since(connection, kept, project_id, since)):
            if rule.matches(kept.budget, group.labels):
                counter = rule.counter(kept.budget, group.labels, max(group.at_ms, since))
                gather.add(amounts, counter, group.amount(kept.budget.unit))
        # Stored, but not counted by the others yet: it will come to this one, too, when they count it.
        for run in gather.runs(connection, counted_to, gather.LATEST_MS):
            if run.project_id in members:
                for _, counter, group in gather.of_run(connection, [kept], run, ()):
                    if group.at_ms >= since:
                        gather.add(amounts, counter, group.amount(kept.budget.unit), -1)
    return Snapshot(kept, since, counted_to, amounts)


def _since(connection: sqlite3.Connection, kept: Kept, project_id: int, since: int) -> Iterator[Group]:
    """All receipts of a project from `since` on in groups: from sums where they tell enough, else from the receipts."""
    names = rule.labels_of(kept.budget)
    listed = _listed(names)
    if reads_receipts(kept.budget):
        step = gather.SECOND_MS if kept.budget.period == "minute" else gather.STEP_MS
        where = "project_id = ? AND at_ms >= ?"
        yield from gather.groups(connection, names, step, where, [project_id, since])
        return
    filters = {name: (kept.budget.match[name],) for name in listed if name in kept.budget.match}
    asked = Query(project_id, since, gather.LATEST_MS, tuple(listed), filters, limit=10**9, named=True)
    asked, _ = room.seen(connection, asked)
    shared = {"organisation": gather.organisation(connection, project_id)} if "organisation" in names else {}
    source, values = sums.union(asked)
    amounts_of = (
        "SUM(cost_nanousd), SUM(input_tokens + output_tokens), SUM(calls), SUM(unpriced_calls), "
        "SUM(usage_missing_calls), SUM(estimated_calls)"
    )
    by = " GROUP BY g0" if listed else ""
    for row in connection.execute(f"SELECT {'g0, ' if listed else ''}{amounts_of} FROM ({source}){by}", values):
        labels = {listed[0]: row[0]} if listed else {}
        amounts = row[len(listed) :]
        if amounts[2]:
            yield Group({**labels, **shared}, since, *amounts)


def _listed(names: Sequence[str]) -> list[str]:
    return [name for name in names if name in DIMENSIONS and DIMENSIONS[name].daily]


def needs(connection: sqlite3.Connection, kept: Kept, project_id: int, day_ms: int) -> bool:
    """Would it have to be made anew from the project's receipts of that day?"""
    listed = _listed(rule.labels_of(kept.budget))
    return reads_receipts(kept.budget) or room.full_on(connection, project_id, day_ms, listed)


def reads_receipts(budget: Budget) -> bool:
    """Has it to be made anew from the receipts, because sums tell too little?"""
    names = rule.labels_of(budget)
    listed = _listed(names)
    summed = len(listed) <= 1 and all(name in listed or name == "organisation" for name in names)
    return not summed or budget.period == "minute"


def settle(connection: sqlite3.Connection, found: Snapshot, now_ms: int) -> bool:
    """Put what a scan found in place of what the counters say. False when it has to be made again.

    What no receipt tells is added: opening balances, calls settled by ticket, what open tickets and leases hold.
    """
    kept = book.find(connection, found.kept.owner, found.kept.name)
    if kept is None or kept.id != found.kept.id or not rule.same_counters(kept.budget, found.kept.budget):
        return kept is None
    oldest = connection.execute("SELECT min(id) FROM arrivals").fetchone()[0]
    if oldest is not None and found.counted_to < oldest - 1 and found.counted_to < kept.counted_to:
        return False
    amounts = dict(found.amounts)
    members = owner.members(connection, kept.owner)
    for run in gather.runs(connection, found.counted_to, gather.LATEST_MS, kept.counted_to):  # counted since the scan
        if run.project_id in members:
            for _, counter, group in gather.of_run(connection, [kept], run, ()):
                gather.add(amounts, counter, group.amount(kept.budget.unit))
    faded = counters.rates(connection, kept)
    connection.execute(
        "DELETE FROM budget_counters WHERE budget_id = ? AND (start_ms >= ? OR start_ms = 0)", (kept.id, found.since_ms)
    )
    for scope, start_ms, amount in connection.execute(
        "SELECT scope, start_ms, amount FROM budget_openings WHERE budget_id = ? AND start_ms >= ?",
        (kept.id, found.since_ms),
    ):
        gather.add(amounts, Counter(scope, start_ms), Amount(spent=amount))
    tickets.recount(connection, kept, found.since_ms, amounts)
    leases.recount(connection, kept, found.since_ms, amounts)
    for counter, amount in amounts.items():
        if any(amount):
            counters.add(connection, kept, counter, amount, now_ms)
    counters.put_rates(connection, kept, faded)
    connection.execute("UPDATE budgets SET stale = 0 WHERE id = ?", (kept.id,))
    return True
