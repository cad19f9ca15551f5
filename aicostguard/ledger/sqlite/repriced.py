"""The statements of repricing: costs, their sums and the record of the act change together, or not at all.

Owns the one way in which a stored cost may change; the file itself refuses every other (a trigger of `schema`).
If a sum is not corrected with its receipt, totals are wrong while every receipt is right.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Iterator, Sequence

from aicostguard.ledger.errors import Busy
from aicostguard.ledger.model import DAY_MS, DIMENSIONS, HOUR_MS, JOINT, OF_ENVELOPE, PAIRS, SPARSE
from aicostguard.ledger.repricing import Change, Scope, Stored
from aicostguard.ledger.rollup import Cell, RollUp
from aicostguard.ledger.sqlite import archived, write
from aicostguard.ledger.sqlite.read import receipt_of
from aicostguard.ledger.sqlite.sums import passing
from aicostguard.ledger.sqlite.write import COLUMNS, quoted
from aicostguard.receipt import FIELDS

Place = tuple[int, str, int]
_CORRECTED = ("cost_nanousd", "unpriced_calls", "cache_savings_nanousd")


def page(connection: sqlite3.Connection, scope: Scope, after: Place | None, limit: int) -> list[Stored]:
    """The next receipts of a scope behind a place, by time."""
    wanted, values = passing(scope.filters)
    if scope.unpriced_only:
        wanted += " AND cost_nanousd IS NULL"
    found = connection.execute(
        f"SELECT {quoted(COLUMNS)} FROM receipts WHERE project_id = ? AND at_ms >= ? AND at_ms < ? "
        f"AND (at_ms, epoch, seq) > (?, ?, ?){wanted} ORDER BY at_ms, epoch, seq LIMIT ?",
        [
            scope.project_id,
            after[0] if after else scope.since_ms,
            scope.until_ms,
            *(after or (scope.since_ms - 1, "", 0)),
            *values,
            limit,
        ],
    ).fetchall()
    return [_stored(receipt_of(dict(zip(COLUMNS, row)))) for row in found]


def _stored(row: dict[str, Any]) -> Stored:
    return Stored(
        (row["at_ms"], row["epoch"], row["seq"]),
        {name: row[name] for name in FIELDS if name in row},
        {name: row[name] for name in OF_ENVELOPE if name in row},
        row["cost_nanousd"],
        row.get("price_row"),
        row.get("unpriced_reason"),
        row.get("cache_savings_nanousd"),
    )


def begin(connection: sqlite3.Connection, scope: Scope, source: str, now_ms: int) -> int:
    """Open the record of an act; returns its number."""
    asked = {"since_ms": scope.since_ms, "until_ms": scope.until_ms, "filters": dict(scope.filters)}
    asked["unpriced_only"] = scope.unpriced_only
    added = connection.execute(
        "INSERT INTO repricings (project_id, at_ms, source, scope, changed, before_nanousd, after_nanousd) "
        "VALUES (?, ?, ?, ?, 0, 0, 0)",
        (scope.project_id, now_ms, source, json.dumps(asked, sort_keys=True)),
    )
    return int(added.lastrowid or 0)


def apply(connection: sqlite3.Connection, number: int, project_id: int, changes: Sequence[Change]) -> None:
    """Change costs that are as they were read, with their sums and the record. Raises `Busy` when one is not."""
    times = [change.stored.place[0] for change in changes]
    if times and archived.being_archived(connection, project_id, min(times), max(times)):
        raise Busy("some of these receipts are being archived or restored; `aicg archive list` says which: try again")
    sums: dict[str, dict[tuple[str, int, str], Sequence[int]]] = {"hourly": {}, "daily": {}}
    before = after = 0
    for change in changes:
        stored = change.stored
        at_ms, epoch, seq = stored.place
        was = stored.cost_nanousd
        connection.execute(
            "INSERT INTO repriced VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (project_id, epoch, seq, number, was, stored.price_row, stored.unpriced_reason, change.cost_nanousd,
             change.price_row),
        )  # fmt: skip
        done = connection.execute(
            "UPDATE receipts SET cost_nanousd = ?, price_row = ?, unpriced_reason = NULL, cache_savings_nanousd = ? "
            "WHERE project_id = ? AND epoch = ? AND seq = ? AND cost_nanousd IS ?",
            (change.cost_nanousd, change.price_row, change.cache_savings_nanousd, project_id, epoch, seq, was),
        ).rowcount
        if done != 1:
            raise Busy("a receipt is not what it was when it was read: another act is at work; run it again")
        before, after = before + (was or 0), after + change.cost_nanousd
        added = change.cost_nanousd - (was or 0)
        saved = (change.cache_savings_nanousd or 0) - (stored.cache_savings_nanousd or 0)
        for table, key in _cells(stored, at_ms):
            cost, unpriced, savings = sums[table].get(key, (0, 0, 0))
            sums[table][key] = (cost + added, unpriced - (was is None), savings + saved)
    write.add_up(connection, project_id, RollUp(_CORRECTED, **sums))
    # Budgets hold what receipts cost: the project's and its organisation's count anew.
    connection.execute(
        "UPDATE budgets SET stale = 1 WHERE project_id = ?1 "
        "OR organisation_id = (SELECT organisation_id FROM projects WHERE id = ?1)",
        (project_id,),
    )
    connection.execute(
        "UPDATE repricings SET changed = changed + ?, before_nanousd = before_nanousd + ?, "
        "after_nanousd = after_nanousd + ? WHERE id = ?",
        (len(changes), before, after, number),
    )


def adopt(connection: sqlite3.Connection, act: dict[str, Any]) -> int:
    """An act of another file, unless it is known here; its number here, which is its own where that is free."""
    same = ("project_id", "at_ms", "source", "scope")
    known = connection.execute(
        "SELECT id FROM repricings WHERE project_id = ? AND at_ms = ? AND source = ? AND scope = ?",
        [act[name] for name in same],
    ).fetchone()
    if known:
        return int(known[0])
    taken = connection.execute("SELECT 1 FROM repricings WHERE id = ?", (act["id"],)).fetchone()
    added = connection.execute(
        "INSERT INTO repricings (id, project_id, at_ms, source, scope, changed, before_nanousd, after_nanousd) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (None if taken else act["id"], *(act[name] for name in same), act["changed"], act["before_nanousd"],
         act["after_nanousd"]),
    )  # fmt: skip
    return int(added.lastrowid or 0)


def remember_changes(connection: sqlite3.Connection, chains: Sequence[Sequence[dict[str, Any]]]) -> None:
    """What acts of another file have changed, receipt by receipt, where the receipt costs here what it did after it."""
    for rows in chains:
        last = max(rows, key=lambda row: row["repricing_id"])
        costs = connection.execute(
            "SELECT 1 FROM receipts WHERE project_id = ? AND epoch = ? AND seq = ? "
            "AND cost_nanousd = ? AND price_row = ?",
            [last[name] for name in ("project_id", "epoch", "seq", "cost_after", "row_after")],
        ).fetchone()
        for row in rows if costs else ():
            connection.execute(
                f"INSERT OR IGNORE INTO repriced ({quoted(list(row))}) VALUES ({', '.join('?' * len(row))})",
                list(row.values()),
            )


def _cells(stored: Stored, at_ms: int) -> Iterator[tuple[str, Cell]]:
    """Every sum that a receipt is in."""
    values = {
        name: stored.origin.get(name, "") if name in OF_ENVELOPE else stored.receipt.get(name, "")
        for name in DIMENSIONS
    }
    for name, dimension in DIMENSIONS.items():
        for table, kept, span in (("hourly", dimension.hourly, HOUR_MS), ("daily", dimension.daily, DAY_MS)):
            if kept:
                yield table, (name, at_ms - at_ms % span, values[name])
    for one, other in PAIRS:
        name, value = f"{one},{other}", values[one] + JOINT + values[other]
        if name not in SPARSE:
            yield "daily", (name, at_ms - at_ms % DAY_MS, value)
        elif value != JOINT:
            yield "daily", (name, at_ms - at_ms % DAY_MS, value)
            yield "hourly", (name, at_ms - at_ms % HOUR_MS, value)


def history(connection: sqlite3.Connection, project_id: int) -> list[dict[str, Any]]:
    """The acts there were, the latest first."""
    names = ("id", "at_ms", "source", "scope", "changed", "before_nanousd", "after_nanousd")
    found = connection.execute(
        f"SELECT {', '.join(names)} FROM repricings WHERE project_id = ? ORDER BY at_ms DESC, id DESC", (project_id,)
    ).fetchall()
    return [{**dict(zip(names, row)), "scope": json.loads(row[3])} for row in found]


def reported(connection: sqlite3.Connection, scope: Scope) -> list[tuple[Any, ...]]:
    """`(provider, model, calls, unpriced, reported, ours, calls that differ, reported of the others)`, by model.

    Of calls whose provider told a cost. `reported` and `ours` are of the priced ones alone, so that they can be
    compared; last stands what was told of those without a price.
    """
    wanted, values = passing(scope.filters)
    return connection.execute(
        "SELECT provider, model, COUNT(*), SUM(cost_nanousd IS NULL), "
        "SUM(CASE WHEN cost_nanousd IS NULL THEN 0 ELSE reported_cost_nanousd END), COALESCE(SUM(cost_nanousd), 0), "
        "SUM(cost_nanousd IS NOT NULL AND cost_nanousd <> reported_cost_nanousd), "
        "SUM(CASE WHEN cost_nanousd IS NULL THEN reported_cost_nanousd ELSE 0 END) "
        "FROM receipts WHERE project_id = ? AND at_ms >= ? AND at_ms < ? AND reported_cost_nanousd IS NOT NULL"
        f"{wanted} GROUP BY provider, model ORDER BY 5 DESC, 8 DESC, provider, model",
        [scope.project_id, scope.since_ms, scope.until_ms, *values],
    ).fetchall()


def setting(connection: sqlite3.Connection, name: str) -> str | None:
    """What the ledger remembers under a name."""
    found = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return None if found is None else str(found[0])


def remember(connection: sqlite3.Connection, name: str, value: str | None) -> None:
    """Keep a setting, or forget it (None)."""
    connection.execute("DELETE FROM settings WHERE name = ?", (name,))
    if value is not None:
        connection.execute("INSERT INTO settings (name, value) VALUES (?, ?)", (name, value))
