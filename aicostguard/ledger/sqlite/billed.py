"""Sums for an export of bills: by day and whatever else is asked, read from the receipts themselves.

Owns one statement. A question of costs may be grouped by three names, which sums are kept for; a bill has more columns.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Sequence

from aicostguard.ledger.model import Query
from aicostguard.ledger.sqlite import read
from aicostguard.ledger.sqlite.sums import MEASURED, select

#: `(values of the query's groups, sums)`
Row = tuple[tuple[Any, ...], dict[str, int]]


def billed(
    connection: sqlite3.Connection, query: Query, measures: Sequence[str], most: int
) -> tuple[list[Row], list[tuple[int, int]]]:
    """Rows in the order of their groups, no more than `most`; and the days, with how many receipts, that they lack.

    Both of one moment: retention may be at work.
    """
    every = ", ".join(f"{MEASURED[name]} AS {name}" for name in measures)
    source, values = select(query, ("receipts", query.since_ms, query.until_ms), None, every)
    groups = ", ".join(f"g{place}" for place in range(len(query.group_by)))
    connection.execute("BEGIN")
    try:
        gone = read.missing(connection, query, raw=True)
        found = connection.execute(
            f"SELECT {groups}, {', '.join(f'SUM({name})' for name in measures)} FROM ({source}) GROUP BY {groups} "
            f"ORDER BY {groups} LIMIT ?",
            [*values, 0 if gone else most],
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    width = len(query.group_by)
    return [(row[:width], dict(zip(measures, row[width:]))) for row in found], gone
