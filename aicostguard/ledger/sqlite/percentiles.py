"""Percentiles of latency and time to first token, from spreads or from the receipts themselves.

Owns which of the two answers a query. Spreads answer what is grouped and filtered by one dimension, within the bound of
`ledger.spread`; whatever they do not cover, an hour's edge or another grouping, is read from receipts and put into the
same bins. Asked for exactly, everything is read from receipts.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Sequence

from aicostguard.ledger import spread
from aicostguard.ledger.model import SPREAD, TIMED, Query
from aicostguard.ledger.sqlite import sums

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
#: key of a receipt → what its percentiles are called
PREFIXES = {"latency_ms": "latency", "ttft_ms": "ttft"}
_TABLES = {"hourly": "hourly_spreads", "daily": "daily_spreads"}

Group = tuple[Any, ...]


def of(connection: sqlite3.Connection, query: Query, rows: Sequence[Group]) -> list[dict[str, float | None]]:
    """`{latency_p50_ms: …, ttft_p99_ms: …}` for each of these groups, and last for all of the query."""
    wanted = [*rows, ()]
    exact = query.latency == "exact"
    columns = [_exact(connection, query, key) if exact else _spread(connection, query, key) for key in TIMED]
    out = []
    for group in wanted:
        told: dict[str, float | None] = {}
        for key, column in zip(TIMED, columns):
            found = column.get(group)
            for name, share in SHARES.items():
                value = None
                if found:
                    value = spread.exact(found, share) if isinstance(found, list) else spread.percentile(found, share)
                told[f"{PREFIXES[key]}_{name}_ms"] = value
        out.append(told)
    return out


def segments(query: Query) -> list[sums.Segment]:
    """What a query's approximate percentiles are read from."""
    dimension = sums.rolled_up(query)
    kept = (SPREAD[dimension], True) if dimension is not None and dimension in SPREAD else (False, False)
    return sums.segments(query, kept)


def _spread(connection: sqlite3.Connection, query: Query, key: str) -> dict[Group, Any]:
    dimension = sums.rolled_up(query)
    cells: dict[Group, list[bytes]] = {}
    width = len(query.group_by)
    for segment in segments(query):
        if segment[0] in sums.RAW:
            for group, counts in _counted(connection, query, segment, key).items():
                cells.setdefault(group, []).append(spread.of_counts(_binned(counts)))
            continue
        sql, values = sums.select(query, segment, dimension, key, _TABLES[segment[0]])
        for row in connection.execute(sql, values):
            if row[width]:
                cells.setdefault(tuple(row[:width]), []).append(row[width])
    merged = {group: spread.total(found) for group, found in cells.items()}
    if width:
        merged[()] = spread.total(list(merged.values()))
    return merged


def _binned(counts: Sequence[tuple[int, int]]) -> dict[int, int]:
    bins: dict[int, int] = {}
    for ms, count in counts:
        number = spread.bin_of(ms)
        bins[number] = bins.get(number, 0) + count
    return bins


def _exact(connection: sqlite3.Connection, query: Query, key: str) -> dict[Group, Any]:
    segment = ("receipts", query.since_ms, query.until_ms)
    found = _counted(connection, query, segment, key)
    if query.group_by:
        every: dict[int, int] = {}
        for counts in found.values():
            for ms, count in counts:
                every[ms] = every.get(ms, 0) + count
        found[()] = sorted(every.items())
    return {**found}


def _counted(
    connection: sqlite3.Connection, query: Query, segment: tuple[str, int, int], key: str
) -> dict[Group, list[tuple[int, int]]]:
    """group → `(milliseconds, how often)`, rising."""
    width = len(query.group_by)
    sql, values = sums.select(query, segment, None, f"{key} AS ms")
    names = "".join(f"g{place}, " for place in range(width))
    out: dict[Group, list[tuple[int, int]]] = {}
    for row in connection.execute(
        f"SELECT {names}ms, COUNT(*) FROM ({sql}) WHERE ms IS NOT NULL GROUP BY {names}ms ORDER BY {names}ms", values
    ):
        out.setdefault(tuple(row[:width]), []).append((row[width], row[width + 1]))
    return out
