"""What stands in a budget's counters, one row for each scope and period. Statements of the ledger's file.

Owns `budget_counters` and `budget_alerts`: amounts only come in here, and each that takes a counter past a threshold
leaves one alert. A question is answered from one row, however many calls there were; for `minute` from at most 61.
"""

from __future__ import annotations

import math
import sqlite3
from typing import Any, NamedTuple

from aicostguard.ledger.budgets import rule
from aicostguard.ledger.budgets.book import Kept
from aicostguard.ledger.budgets.rule import MINUTE_MS, Counter

#: the burn rate looks back about this long: what was spent an hour ago counts for a third
MEMORY_MS = 3_600_000
#: seconds of a minute's counter are forgotten after this, other periods after that
KEPT_MINUTE_MS, KEPT_MS = 10 * MINUTE_MS, 70 * 86_400_000


class Amount(NamedTuple):
    """What is added to a counter; of its unit, but for the counts of calls."""

    spent: int = 0
    reserved: int = 0
    calls: int = 0
    #: calls that are in no sum of the unit: of money those without a price, of tokens those without usage
    unknown: int = 0
    estimated: int = 0
    #: was held by somebody who never came back, and given to others
    lapsed: int = 0


class Balance(NamedTuple):
    """What stands in a counter. `rate` is what is spent in an hour, in the unit, as of now."""

    spent: int = 0
    reserved: int = 0
    calls: int = 0
    #: calls that are in no sum of the unit: of money those without a price, of tokens those without usage
    unknown: int = 0
    estimated: int = 0
    lapsed: int = 0
    rate: float = 0.0


_ADD = """INSERT INTO budget_counters
(budget_id, scope, start_ms, spent, reserved, calls, unpriced, estimated, lapsed, rate, rate_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0.0, ?)
ON CONFLICT (budget_id, scope, start_ms) DO UPDATE SET
spent = spent + excluded.spent, reserved = reserved + excluded.reserved, calls = calls + excluded.calls,
unpriced = unpriced + excluded.unpriced, estimated = estimated + excluded.estimated,
lapsed = lapsed + excluded.lapsed"""


def add(
    connection: sqlite3.Connection,
    kept: Kept,
    counter: Counter,
    amount: Amount,
    now_ms: int,
    at_ms: int | None = None,
) -> None:
    """Add to a counter, and to its burn rate where `at_ms` says when the money went."""
    connection.execute(_ADD, (kept.id, *counter, *amount, now_ms))
    if amount.spent > 0:
        if at_ms is not None:
            _burn(connection, kept, counter, amount.spent, at_ms, now_ms)
        alert(connection, kept, counter, now_ms)


def _burn(connection: sqlite3.Connection, kept: Kept, counter: Counter, spent: int, at_ms: int, now_ms: int) -> None:
    """An hourly rate in which the past fades: constant work, whatever the traffic."""
    where = (kept.id, *counter)
    rate, since = connection.execute(
        "SELECT rate, rate_ms FROM budget_counters WHERE budget_id = ? AND scope = ? AND start_ms = ?", where
    ).fetchone()
    faded = rate * _fading(now_ms - since) + spent * _fading(now_ms - at_ms)
    connection.execute(
        "UPDATE budget_counters SET rate = ?, rate_ms = ? WHERE budget_id = ? AND scope = ? AND start_ms = ?",
        (faded, max(now_ms, since), *where),
    )


def rates(connection: sqlite3.Connection, kept: Kept) -> list[tuple[Any, ...]]:
    """What a rebuild cannot know from receipts, for `put_rates`."""
    return connection.execute(
        "SELECT rate, rate_ms, lapsed, scope, start_ms FROM budget_counters WHERE budget_id = ?", (kept.id,)
    ).fetchall()


def put_rates(connection: sqlite3.Connection, kept: Kept, found: list[tuple[Any, ...]]) -> None:
    connection.executemany(
        "UPDATE budget_counters SET rate = ?, rate_ms = ?, lapsed = ? "
        "WHERE scope = ? AND start_ms = ? AND budget_id = ?",
        [(*row, kept.id) for row in found],
    )


def _fading(age_ms: int) -> float:
    return math.exp(-max(0, age_ms) / MEMORY_MS)


def balance(connection: sqlite3.Connection, kept: Kept, scope: str, now_ms: int) -> Balance:
    """What stands in the counter of the present period."""
    if kept.budget.period == "minute":
        row = connection.execute(
            "SELECT COALESCE(sum(spent), 0), COALESCE(sum(reserved), 0), COALESCE(sum(calls), 0), "
            "COALESCE(sum(unpriced), 0), COALESCE(sum(estimated), 0), COALESCE(sum(lapsed), 0), 0, 0 "
            "FROM budget_counters WHERE budget_id = ? AND scope = ? AND (start_ms > ? OR start_ms = 0)",
            (kept.id, scope, now_ms - now_ms % 1000 - MINUTE_MS),
        ).fetchone()
    else:
        row = connection.execute(
            "SELECT spent, reserved, calls, unpriced, estimated, lapsed, rate, rate_ms "
            "FROM budget_counters WHERE budget_id = ? AND scope = ? AND start_ms = ?",
            (kept.id, scope, rule.start(kept.budget, now_ms)),
        ).fetchone()
    if row is None:
        return Balance()
    *counts, rate, since = row
    return Balance._make((*counts, rate * _fading(now_ms - since)))


def scopes(connection: sqlite3.Connection, kept: Kept, now_ms: int, limit: int) -> list[str]:
    """The scopes in which something stands now, the fullest first."""
    if kept.budget.period == "minute":
        where, since = "(start_ms > ? OR start_ms = 0)", now_ms - now_ms % 1000 - MINUTE_MS
    else:
        where, since = "start_ms = ?", rule.start(kept.budget, now_ms)
    found = connection.execute(
        f"SELECT scope FROM budget_counters WHERE budget_id = ? AND {where} GROUP BY scope "
        "ORDER BY sum(spent + reserved) DESC, scope LIMIT ?",
        (kept.id, since, limit),
    )
    return [scope for (scope,) in found]


def utilization(spent: int, limit: int) -> int:
    """Per mille of the limit; of a limit of nothing, whatever is spent is all of it."""
    return spent * 1000 // limit if limit else (1000 if spent else 0)


def alert(connection: sqlite3.Connection, kept: Kept, counter: Counter, now_ms: int) -> None:
    """Leave an alert for each threshold that is passed for the first time in this period and scope."""
    budget = kept.budget
    if not budget.alert_at:
        return
    if budget.period == "minute":
        spent, start = balance(connection, kept, counter.scope, now_ms).spent, now_ms - now_ms % MINUTE_MS
    else:
        row = connection.execute(
            "SELECT spent FROM budget_counters WHERE budget_id = ? AND scope = ? AND start_ms = ?", (kept.id, *counter)
        ).fetchone()
        spent = row[0] if row else 0
        start = counter.start_ms
    used = utilization(spent, budget.limit)
    for threshold in budget.alert_at:
        if used < threshold:
            continue
        text = f"Budget utilization {used / 10:g}% exceeds alert threshold {threshold / 10:g}%"
        connection.execute(
            "INSERT INTO budget_alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                *(kept.owner, budget.name, counter.scope, start, threshold),
                *(now_ms, spent, budget.limit, budget.unit, text),
            ),
        )


def forget(connection: sqlite3.Connection, kept: Kept, now_ms: int) -> None:
    """Let go of periods that nobody asks for any more."""
    before = now_ms - (KEPT_MINUTE_MS if kept.budget.period == "minute" else KEPT_MS)
    connection.execute(
        "DELETE FROM budget_counters WHERE budget_id = ? AND start_ms BETWEEN 1 AND ?", (kept.id, before)
    )
