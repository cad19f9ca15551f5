"""What a migration has to work out for receipts that were stored before it, in the migration's own transaction.

Owns the sums and spreads that came later than the receipts they are made of. All or nothing, like the step it belongs
to: a file is never half filled. If this differs from what ingest adds, old months and new ones do not compare.
"""

from __future__ import annotations

import sqlite3
from typing import Callable, Mapping, Sequence

from aicostguard import pricing
from aicostguard.ledger import ingest, prices
from aicostguard.ledger.model import (
    DAY_MS,
    DIMENSIONS,
    HOUR_MS,
    JOINT,
    MEASURES,
    PAIRS,
    TIMED,
)
from aicostguard.ledger.sqlite import spreads
from aicostguard.ledger.sqlite.queried import QUERIES
from aicostguard.ledger.sqlite.sums import MEASURED
from aicostguard.ledger.sqlite.write import quoted
from aicostguard.receipt import FIELDS

#: receipts valued between two looks at the file
_AT_ONCE = 2_000


def _queries(connection: sqlite3.Connection, path: str) -> None:
    if connection.execute("SELECT 1 FROM receipts LIMIT 1").fetchone() is None:
        return
    _value_caches(connection, path)
    for name, dimension in DIMENSIONS.items():
        for table, kept, span in (("hourly", dimension.hourly, HOUR_MS), ("daily", dimension.daily, DAY_MS)):
            if kept:
                _later_sums(connection, name, table, span)
    for one, other in PAIRS:
        _pair(connection, one, other)
    spreads.rebuild(connection)


def _value_caches(connection: sqlite3.Connection, path: str) -> None:
    """What caches saved, by the prices of now for the time of the call: those of then are not kept."""
    found = connection.execute("SELECT value FROM settings WHERE name = ?", (prices.SETTING,)).fetchone()
    price = (prices.special(path, found[0] if found else None) or pricing.default_book()).cost
    (trigger,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'receipts_are_immutable'").fetchone()
    connection.execute("DROP TRIGGER receipts_are_immutable")
    names = [name for name in FIELDS if name != "tags"]
    cached = " OR ".join(f"{name} IS NOT NULL" for name in sorted(ingest.CACHED))
    rows = connection.execute(
        f"SELECT rowid, at_ms, {quoted(names)} FROM receipts WHERE cost_nanousd IS NOT NULL AND ({cached})"
    )
    while some := rows.fetchmany(_AT_ONCE):
        valued = []
        for number, at_ms, *values in some:
            receipt = {name: value for name, value in zip(names, values) if value is not None}
            cost = price(receipt, at_ms).cost_nanousd
            if cost is not None:
                valued.append((ingest.savings(receipt, cost, at_ms, price), number))
        connection.executemany("UPDATE receipts SET cache_savings_nanousd = ? WHERE rowid = ?", valued)
    connection.execute(trigger)


def _later_sums(connection: sqlite3.Connection, name: str, table: str, span: int) -> None:
    sums = {
        "cache_savings_nanousd": "COALESCE(SUM(cache_savings_nanousd), 0)",
        **{key: f"COALESCE(SUM({key}), 0)" for key in TIMED},
        **{calls: f"COUNT({key})" for key, calls in TIMED.items()},
    }
    assigned = ", ".join(f"{column} = found.{column}" for column in sums)
    connection.execute(
        f"UPDATE {table} SET {assigned} FROM (SELECT project_id AS p, at_ms - at_ms % {span} AS s, "
        f"COALESCE(\"{name}\", '') AS v, {', '.join(f'{sql} AS {column}' for column, sql in sums.items())} "
        "FROM receipts GROUP BY 1, 2, 3) AS found "
        f"WHERE {table}.project_id = found.p AND {table}.dimension = ? AND {table}.start_ms = found.s "
        f"AND {table}.value = found.v",
        (name,),
    )


def _pair(connection: sqlite3.Connection, one: str, other: str) -> None:
    connection.execute(
        f"INSERT INTO daily (project_id, dimension, start_ms, value, {', '.join(MEASURES)}) "
        f"SELECT project_id, ?, at_ms - at_ms % {DAY_MS}, COALESCE(\"{one}\", '') || ? || COALESCE(\"{other}\", ''), "
        f"{', '.join(f'SUM({MEASURED[name]})' for name in MEASURES)} FROM receipts GROUP BY 1, 3, 4",
        (f"{one},{other}", JOINT),
    )


#: a step of `schema` → what comes after its statements
AFTER: Mapping[Sequence[str], Callable[[sqlite3.Connection, str], None]] = {QUERIES: _queries}
