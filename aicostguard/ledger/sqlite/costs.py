"""What calls cost: rows, totals, the period compared with and percentiles, in one read transaction.

Owns the order of rows and where a limit cuts. All speak of the same moment; rows and what is cut off add up to totals.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from aicostguard.ledger.model import MEASURES, TIMES, Costs, Query
from aicostguard.ledger.sqlite import percentiles, room, sums, tallies


def costs(connection: sqlite3.Connection, query: Query) -> Costs:
    connection.execute("BEGIN")
    try:
        query, full = room.seen(connection, query)
        totals, before = _totals(connection, query)
        rows: list[tuple[tuple[Any, ...], dict[str, int]]] = []
        befores: list[dict[str, int]] = []
        groups = 0
        if query.group_by:
            rows, befores, groups = _grouped(connection, query)
        if query.before is not None:
            befores.append(before)
        spreads = percentiles.of(connection, query, [values for values, _ in rows]) if query.latency else []
    finally:
        connection.execute("COMMIT")
    return Costs(rows, totals, groups, befores, spreads, full)


#: answers with at most so many rows find out first which rows these are: of many thousands of names, of some hundred
_FEW, _FEWER = 200, 20


def _grouped(
    connection: sqlite3.Connection, query: Query
) -> tuple[list[tuple[tuple[Any, ...], dict[str, int]]], list[dict[str, int]], int]:
    named = [name for name in query.group_by if name not in TIMES]
    groups = 0
    if len(query.group_by) == len(named) == 1 and _chooses(query, named[0]):
        # Of many names a few: all sums of all names would take four times as long.
        chosen, groups = tallies.first(connection, query) or _first(connection, query)
        if not chosen:
            return [], [], groups
        kept = query.filters.get(named[0])
        assert kept is None or set(chosen) <= set(kept)
        query = query._replace(filters={**query.filters, named[0]: chosen})
    source, values, summed = sums.both(query)
    names = ", ".join(f"g{place}" for place in range(len(query.group_by)))
    found = connection.execute(
        f"SELECT {names}, {', '.join(summed)}, COUNT(*) OVER () FROM ({source}) GROUP BY {names} HAVING SUM(calls) "
        f"ORDER BY {_order(query)} LIMIT ?",
        [*values, query.limit],
    ).fetchall()
    width, count = len(query.group_by), len(MEASURES)
    rows = [(tuple(row[:width]), dict(zip(MEASURES, row[width:]))) for row in found]
    before = [dict(zip(MEASURES, row[width + count :])) for row in found] if query.before is not None else []
    return rows, before, groups or (found[0][-1] if found else 0)


def _chooses(query: Query, name: str) -> bool:
    if not sums.kept_of(name)[0]:
        return query.limit <= _FEW
    # From receipts, which would be read twice, everything is taken at once.
    asked = (query, query._replace(since_ms=query.before[0], until_ms=query.before[1])) if query.before else (query,)
    return query.limit <= _FEWER and not any(part[0] in sums.RAW for one in asked for part in sums.cover_of(one))


def _first(connection: sqlite3.Connection, query: Query) -> tuple[tuple[str, ...], int]:
    by = {"tokens": ("input_tokens", "output_tokens")}.get(query.order, (query.order,))
    source, values, _ = sums.both(query, [name for name in MEASURES if name in (*by, "cost_nanousd", "calls")])
    found = connection.execute(
        f"SELECT g0, COUNT(*) OVER () FROM ({source}) GROUP BY g0 HAVING SUM(calls) ORDER BY {_order(query)} LIMIT ?",
        [*values, query.limit],
    ).fetchall()
    return tuple(name for name, _ in found), found[0][1] if found else 0


def _order(query: Query) -> str:
    """The terms of ORDER BY; the last make it total, so that a limit always cuts at the same place."""
    direction = "DESC" if query.descending else "ASC"
    now = " * now" if query.before is not None else ""
    if query.order in query.group_by:
        by = f"g{query.group_by.index(query.order)}"
    elif query.order == "change":
        by = "SUM(cost_nanousd * (2 * now - 1))"
    elif query.order == "tokens":
        by = f"SUM((input_tokens + output_tokens){now})"
    else:
        by = f"SUM({query.order}{now})"
    groups = ", ".join(f"g{place}" for place in range(len(query.group_by)))
    return f"{by} {direction}, SUM(cost_nanousd{now}) DESC, {groups}"


def _totals(connection: sqlite3.Connection, query: Query) -> tuple[dict[str, int], dict[str, int]]:
    # Of what is not grouped, sums may tell more: nothing stands under `OTHER` of a total.
    query, _ = room.seen(connection, query._replace(group_by=(), unsummed=()))
    source, values, summed = sums.both(query)
    row = [
        amount or 0 for amount in connection.execute(f"SELECT {', '.join(summed)} FROM ({source})", values).fetchone()
    ]
    return dict(zip(MEASURES, row)), dict(zip(MEASURES, row[len(MEASURES) :]))
