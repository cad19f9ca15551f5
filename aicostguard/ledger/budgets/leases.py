"""Room lent to a process, which then lets its calls through without asking for each.

Owns the table `leases`. A holder (the epoch of an agent) and the ledger speak of one number for each counter:
`granted`, how much the holder was given since it began. The holder asks to have *at least* so much, or says that it
makes do with *exactly* so much; both may be said twice, so a lost answer does no harm. What is lent is reserved; the
holder's receipts turn it into spent, one by the other. A holder that falls silent loses what is left when its lease
ends: what it may have used of that without a receipt is added up as `lapsed`, the most by which a limit can be passed
so. It begins anew with another `turn`; so does one that says it has what the ledger no longer knows of.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from aicostguard.ledger.budgets import book, counters, rule
from aicostguard.ledger.budgets.book import Kept
from aicostguard.ledger.budgets.counters import Amount, Balance
from aicostguard.ledger.budgets.rule import Counter

#: seconds; an agent renews every thirty
LEASE_S = 300
#: of the room that is left after a request, this part is lent on top, so that the next calls need not ask
SHARE = 16


class Asked(NamedTuple):
    """What a holder says of one counter: its turn, what it believes it was granted, and what it wants."""

    scope: str
    turn: int
    have: int
    at_least: int | None = None
    exactly: int | None = None


class Lent(NamedTuple):
    """The answer for one counter. `refused`: there was no room for what was asked, `granted` is as before. `lost`: what
    the holder has is not known here any more, and it has to begin another turn."""

    counter: Counter
    granted: int
    balance: Balance
    refused: bool = False
    lost: bool = False


_KEY = "budget_id = ? AND scope = ? AND start_ms = ? AND holder = ?"


def place(kept: Kept, scope: str, now_ms: int) -> Counter:
    """The counter of a lease. A minute's window moves, so what is held in it stands in none of its seconds."""
    return Counter(scope, 0 if kept.budget.period == "minute" else rule.start(kept.budget, now_ms))


def of(connection: sqlite3.Connection, holder: str) -> bool:
    """Does this process hold anything?"""
    return connection.execute("SELECT 1 FROM leases WHERE holder = ? LIMIT 1", (holder,)).fetchone() is not None


def ask(
    connection: sqlite3.Connection, kept: Kept, holder: str, asked: Asked, now_ms: int, lease_s: int = LEASE_S
) -> Lent:
    """Let a holder have what it asks for, if there is room; more than that when there is much of it."""
    counter = place(kept, asked.scope, now_ms)
    key = (kept.id, *counter, holder)
    row = connection.execute(f"SELECT turn, granted, held FROM leases WHERE {_KEY}", key).fetchone()
    if row is not None and row[0] != asked.turn:
        _end(connection, kept, counter, holder, row[2], now_ms)
        row = None
    balance = counters.balance(connection, kept, asked.scope, now_ms)
    if row is None and asked.have:
        return Lent(counter, 0, balance, lost=True)
    _, granted, held = row or (asked.turn, 0, 0)
    need = max(0, (asked.at_least or 0) - granted)
    room = kept.budget.limit - balance.spent - balance.reserved
    refused = need > room and kept.budget.on_exceed == "block"
    change = need + max(0, room - need) // SHARE if need and not refused else 0
    if asked.exactly is not None:
        change = -min(held, max(0, granted - asked.exactly))
        granted = min(granted, asked.exactly) - change  # what it gives up is no longer granted, held or not
    connection.execute(
        "INSERT INTO leases (budget_id, scope, start_ms, holder, turn, granted, held, expires_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (budget_id, scope, start_ms, holder) DO UPDATE SET "
        "granted = excluded.granted, held = excluded.held, expires_ms = excluded.expires_ms",
        (*key, asked.turn, granted + change, held + change, now_ms + lease_s * 1000),
    )
    if change:
        counters.add(connection, kept, counter, Amount(reserved=change), now_ms)
    return Lent(counter, granted + change, balance, refused)


def renew(connection: sqlite3.Connection, holder: str, now_ms: int, lease_s: int = LEASE_S) -> None:
    """The holder lives."""
    connection.execute("UPDATE leases SET expires_ms = ? WHERE holder = ?", (now_ms + lease_s * 1000, holder))


def used(connection: sqlite3.Connection, kept: Kept, counter: Counter, holder: str, spent: int, now_ms: int) -> None:
    """A receipt of the holder has been counted: so much is no longer held."""
    at = counter._replace(start_ms=0) if kept.budget.period == "minute" else counter
    row = connection.execute(
        "SELECT held FROM leases WHERE budget_id = ? AND scope = ? AND start_ms = ? AND holder = ?",
        (kept.id, *at, holder),
    ).fetchone()
    taken = min(row[0], spent) if row else 0
    if taken:
        connection.execute(
            "UPDATE leases SET held = held - ? WHERE budget_id = ? AND scope = ? AND start_ms = ? AND holder = ?",
            (taken, kept.id, *at, holder),
        )
        counters.add(connection, kept, at, Amount(reserved=-taken), now_ms)


def lapse(connection: sqlite3.Connection, now_ms: int) -> int:
    """Take back what silent holders have; how many leases ended."""
    found = connection.execute(
        "SELECT budget_id, scope, start_ms, holder, held FROM leases WHERE expires_ms <= ? LIMIT 500", (now_ms,)
    ).fetchall()
    kept = {item.id: item for item in book.everybody(connection)} if found else {}
    for number, scope, start_ms, holder, held in found:
        if number in kept:
            _end(connection, kept[number], Counter(scope, start_ms), holder, held, now_ms)
    return len(found)


def _end(connection: sqlite3.Connection, kept: Kept, counter: Counter, holder: str, held: int, now_ms: int) -> None:
    connection.execute(f"DELETE FROM leases WHERE {_KEY}", (kept.id, *counter, holder))
    if held:
        counters.add(connection, kept, counter, Amount(reserved=-held, lapsed=held), now_ms)


def recount(connection: sqlite3.Connection, kept: Kept, since_ms: int, amounts: dict[Counter, Amount]) -> None:
    """Add what is lent to what receipts say."""
    for scope, start_ms, held in connection.execute(
        "SELECT scope, start_ms, sum(held) FROM leases WHERE budget_id = ? AND (start_ms >= ? OR start_ms = 0) "
        "GROUP BY scope, start_ms",
        (kept.id, since_ms),
    ):
        old = amounts.get(Counter(scope, start_ms), Amount())
        amounts[Counter(scope, start_ms)] = old._replace(reserved=old.reserved + held)
