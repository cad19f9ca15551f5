"""What stands in a guard's budgets, and how to set it right from another book.

Owns the figures that people look at. Reads and rebuilds through the store; takes no part in any decision.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Tuple

from aicostguard.guard import period
from aicostguard.guard.plan import Planner, Rule
from aicostguard.guard.store import Balance, Counter, Store
from aicostguard.guard.values import Spent, Status


def status(planner: Planner, store: Store, now: int) -> List[Status]:
    """Every budget for every scope that has been used in its present period, in the order of the rules."""
    store.expire(now)
    return [figures for rule in planner.rules for figures in _of(planner, store, rule, now)]


def _of(planner: Planner, store: Store, rule: Rule, now: int) -> List[Status]:
    budget = rule.budget
    common = (budget.unit, budget.period, budget.on_exceed, budget.limit)
    dimension = budget.dimension or budget.period
    if budget.period == "call":
        return [Status(budget.name, dimension, dict(rule.match), *common, remaining=budget.limit)]
    span = period.span(budget.period, rule.tz, now)
    balances = store.read(planner.prefix(rule, span), now)
    if not balances and not rule.per:
        balances = [Balance(planner.key(rule, span, {}))]
    found = []
    for balance in balances:
        entry = planner.entry(balance.key, now)
        if entry is not None:
            left = max(budget.limit - balance.spent - balance.reserved, 0)
            counts = (balance.spent, balance.reserved, left, balance.unpriced, balance.estimated)
            found.append(Status(budget.name, dimension, entry.scope, *common, *counts, entry.resets_at(now)))
    return found


def rebuild(planner: Planner, store: Store, spent: Iterable[Tuple[Mapping[str, str], int, Spent]], now: int) -> None:
    """Set what is spent in the present periods to the sums of `spent`; what is not among them was not spent."""
    sums: Dict[str, int] = {}
    counters: Dict[str, Counter] = {}
    for balance in store.read("", now):
        entry = planner.entry(balance.key, now)
        if entry is not None and not entry.counter.window and entry.current(now):
            counters[balance.key] = entry.counter
            sums[balance.key] = 0
    for labels, at, used in spent:
        amounts = (used.nanousd, used.tokens, used.requests)
        for entry in planner.plan(labels, now).entries:
            if not entry.counter.window and entry.current(at):
                counters[entry.counter.key] = entry.counter
                sums[entry.counter.key] = sums.get(entry.counter.key, 0) + (amounts[entry.rule.unit] or 0)
    store.rebuild(sums, tuple(counters.values()), now)
