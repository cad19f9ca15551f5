"""Calls that were let through: what each may use at most, until it is known what it did use.

Owns the table `tickets` and the exactly-once of a call that is told of twice, by `settle` and by a receipt whose label
`request` is the ticket: the first of the two counts. A ticket stands in every counter that its labels and its time
lead to; which those are follows from the rules, so a rule that changes takes its tickets along (`recount`).

    open ──► settled      by its holder: what it says is booked
         ├─► released     by its holder: nothing was billed
         ├─► receipt      its receipt came first: the receipt is what counts
         └─► unsettled    nobody said anything until the lease ended: all that was held is booked, as an estimate,
                          until a settlement, a release or the receipt says better
"""

from __future__ import annotations

import json
import sqlite3
from typing import Iterator, Mapping, NamedTuple

from aicostguard.ledger.budgets import book, counters, gather, owner, rule
from aicostguard.ledger.budgets.book import Kept
from aicostguard.ledger.budgets.counters import Amount
from aicostguard.ledger.budgets.rule import Counter

#: tickets are remembered this long after their call: a receipt from a spool may be that late
REMEMBERED_MS = 40 * 86_400_000
#: tickets whose lease has ended that are booked by one transaction
LAPSE_AT_ONCE = 500


class Ticket(NamedTuple):
    """One call. `nanousd` and `tokens` are what it was settled with; None: not known, then the bound stands."""

    id: str
    project_id: int
    at_ms: int
    expires_ms: int
    state: str
    labels: Mapping[str, str]
    bound_nanousd: int
    bound_tokens: int
    nanousd: int | None
    tokens: int | None
    body_hash: str | None
    answer: str

    def bound(self, unit: str) -> int:
        return {"nanousd": self.bound_nanousd, "tokens": self.bound_tokens, "requests": 1}[unit]

    def booked(self, unit: str) -> Amount:
        """What stands in a counter for it in its present state."""
        if self.state == "open":
            return Amount(reserved=self.bound(unit))
        if self.state == "unsettled":
            return Amount(spent=self.bound(unit), calls=1, estimated=1)
        if self.state != "settled":
            return Amount()
        used = {"nanousd": self.nanousd, "tokens": self.tokens, "requests": 1}[unit]
        if used is None:
            return Amount(spent=self.bound(unit), calls=1, estimated=1, unknown=int(unit == "nanousd"))
        return Amount(spent=used, calls=1)


_COLUMNS = (
    "tickets.id, tickets.project_id, tickets.at_ms, expires_ms, state, labels, bound_nanousd, bound_tokens, "
    "nanousd, tokens, body_hash, answer"
)


def _ticket(row: tuple[object, ...]) -> Ticket:
    return Ticket._make((*row[:5], json.loads(str(row[5])), *row[6:]))


def find(connection: sqlite3.Connection, project_id: int, number: str) -> Ticket | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM tickets WHERE id = ? AND project_id = ?", (number, project_id)
    ).fetchone()
    return None if row is None else _ticket(row)


def by_key(connection: sqlite3.Connection, project_id: int, key_hash: str) -> Ticket | None:
    """The ticket that was given for this Idempotency-Key."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM tickets WHERE key_hash = ? AND project_id = ?", (key_hash, project_id)
    ).fetchone()
    return None if row is None else _ticket(row)


def add(connection: sqlite3.Connection, ticket: Ticket, key_hash: str | None, now_ms: int) -> None:
    """Keep a new ticket and let it hold what it may use."""
    connection.execute(
        "INSERT INTO tickets (id, project_id, at_ms, expires_ms, state, labels, bound_nanousd, bound_tokens, nanousd, "
        "tokens, body_hash, answer, key_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*ticket[:5], json.dumps(ticket.labels, separators=(",", ":")), *ticket[6:], key_hash),
    )
    _change(connection, book.over(connection, ticket.project_id), ticket, 1, now_ms)


def move(
    connection: sqlite3.Connection,
    ticket: Ticket,
    state: str,
    now_ms: int,
    nanousd: int | None = None,
    tokens: int | None = None,
) -> Ticket:
    """Bring a ticket into another state, and its counters with it."""
    kept = book.over(connection, ticket.project_id)
    _change(connection, kept, ticket, -1, now_ms)
    moved = ticket._replace(state=state, nanousd=nanousd, tokens=tokens)
    _change(connection, kept, moved, 1, now_ms)
    connection.execute(
        "UPDATE tickets SET state = ?, nanousd = ?, tokens = ? WHERE id = ?", (state, nanousd, tokens, ticket.id)
    )
    return moved


def _change(connection: sqlite3.Connection, kept: list[Kept], ticket: Ticket, sign: int, now_ms: int) -> None:
    for item, counter in places(kept, ticket):
        amount = ticket.booked(item.budget.unit)
        if any(amount) and not item.stale:
            at_ms = ticket.at_ms if sign > 0 else None
            counters.add(connection, item, counter, Amount(*(sign * part for part in amount)), now_ms, at_ms)


def places(kept: list[Kept], ticket: Ticket) -> Iterator[tuple[Kept, Counter]]:
    """The counters that a ticket stands in."""
    for item in kept:
        if item.budget.period != "call" and rule.matches(item.budget, ticket.labels):
            yield item, rule.counter(item.budget, ticket.labels, ticket.at_ms)


def told(connection: sqlite3.Connection, run: gather.Run, now_ms: int) -> list[int]:
    """Match a run of receipts with tickets; gives the seqs that must not count, because their ticket has.

    The same run may come again, and gives the same.
    """
    found = connection.execute(
        f"SELECT {_COLUMNS}, seq FROM receipts JOIN tickets ON tickets.id = request "
        "WHERE receipts.project_id = ? AND epoch = ? AND seq BETWEEN ? AND ? AND request IS NOT NULL "
        "AND tickets.project_id = receipts.project_id ORDER BY seq",
        run[1:],
    ).fetchall()
    return [seq for *row, seq in found if _met(connection, tuple(row), run.epoch, seq, now_ms)]


def search(connection: sqlite3.Connection, now_ms: int) -> None:
    """Match all receipts with tickets, when it is not known which have been: reads receipts since the oldest ticket."""
    found = connection.execute(
        f"SELECT {_COLUMNS}, epoch, seq FROM tickets JOIN receipts ON receipts.project_id = tickets.project_id "
        "AND receipts.at_ms >= (SELECT min(at_ms) FROM tickets) AND request = tickets.id"
    ).fetchall()
    for *row, epoch, seq in found:
        _met(connection, tuple(row), epoch, seq, now_ms)


def _met(connection: sqlite3.Connection, row: tuple[object, ...], epoch: str, seq: int, now_ms: int) -> bool:
    """A receipt of this ticket has come. True when the ticket has been settled already."""
    ticket = find(connection, int(str(row[1])), str(row[0]))  # again: an earlier receipt of the run may have moved it
    if ticket is None:
        return False
    connection.execute(
        "INSERT INTO ticket_receipts VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (ticket.id, ticket.project_id, epoch, seq),
    )
    if ticket.state not in ("settled", "receipt"):
        move(connection, ticket, "receipt", now_ms)
    return ticket.state == "settled"


def lapse(connection: sqlite3.Connection, now_ms: int) -> int:
    """Book the tickets whose lease has ended, and forget very old ones; how many were booked."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM tickets WHERE state = 'open' AND expires_ms <= ? LIMIT ?", (now_ms, LAPSE_AT_ONCE)
    ).fetchall()
    for row in found:
        move(connection, _ticket(row), "unsettled", now_ms)
    if found:
        old = now_ms - REMEMBERED_MS
        connection.execute(
            "DELETE FROM ticket_receipts WHERE ticket IN (SELECT id FROM tickets WHERE at_ms < ? AND state != 'open')",
            (old,),
        )
        connection.execute("DELETE FROM tickets WHERE at_ms < ? AND state != 'open'", (old,))
    return len(found)


def recount(connection: sqlite3.Connection, kept: Kept, since_ms: int, amounts: dict[Counter, Amount]) -> None:
    """Add what tickets say to what receipts say, without counting a call twice."""
    members = owner.members(connection, kept.owner)
    for row in connection.execute(
        f"SELECT {_COLUMNS} FROM tickets WHERE project_id IN ({', '.join('?' * len(members))}) AND at_ms >= ?",
        (*members, since_ms),
    ).fetchall():
        ticket = _ticket(row)
        for _, counter in places([kept], ticket):
            gather.add(amounts, counter, ticket.booked(kept.budget.unit))
        if ticket.state == "settled":
            for epoch, seq in connection.execute(
                "SELECT epoch, seq FROM ticket_receipts WHERE ticket = ?", (ticket.id,)
            ).fetchall():
                run = gather.Run(0, ticket.project_id, epoch, seq, seq)
                for _, counter, group in gather.of_run(connection, [kept], run, ()):
                    if group.at_ms >= since_ms:
                        gather.add(amounts, counter, group.amount(kept.budget.unit), -1)
