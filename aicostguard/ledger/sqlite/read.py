"""Queries. Each runs in one read transaction, so that rows and totals speak of the same moment.

Owns the choice between daily sums, hourly sums and raw receipts. A period is covered exactly: whole days from
`daily`, whole hours at its edges from `hourly`, and only what is left of an hour, if anything, from raw rows.
If the cover overlaps or leaves a gap, totals are wrong while every row is right: a property test holds it.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Mapping, Sequence

from aicostguard.health import COUNTERS
from aicostguard.ledger.model import (
    DAY_MS,
    DIMENSIONS,
    FLAGGED,
    HOUR_MS,
    MEASURES,
    OF_ENVELOPE,
    SMALLEST,
    TIMES,
    UNITS,
    Arrivals,
    Costs,
    Key,
    Query,
    Source,
)
from aicostguard.ledger.sqlite import archived
from aicostguard.ledger.sqlite.write import COLUMNS, quoted
from aicostguard.receipt import FIELDS

_SUM = ", ".join(f"SUM({name}) AS {name}" for name in MEASURES)
#: measure → what one receipt adds to it, as SQL
MEASURED: Mapping[str, str] = {
    "cost_nanousd": "COALESCE(cost_nanousd, 0)",
    "calls": "1",
    "unpriced_calls": "(cost_nanousd IS NULL)",
    **{name: f"COALESCE({flag}, 0)" for flag, name in FLAGGED.items()},
    "clock_adjusted_calls": "clock_adjusted",
    **{name: f"COALESCE({name}, 0)" for name in UNITS},
}
_RAW = ", ".join(f"{MEASURED[name]} AS {name}" for name in MEASURES)

Segment = tuple[str, int, int]


def cover(since: int, until: int, *, hours: bool, days: bool) -> list[Segment]:
    """Cut `[since, until)` into `(table, from, to)` with no overlap and no gap, whole days first."""
    if since >= until:
        return []
    if days:
        first, last = -(-since // DAY_MS) * DAY_MS, until // DAY_MS * DAY_MS
        if first < last:
            inner: list[Segment] = [("daily", first, last)]
            edges = {"hours": hours, "days": False}
            return inner + cover(since, first, **edges) + cover(last, until, **edges)
    if hours:
        first, last = -(-since // HOUR_MS) * HOUR_MS, until // HOUR_MS * HOUR_MS
        if first < last:
            raw = [("receipts", a, b) for a, b in ((since, first), (last, until)) if a < b]
            return [("hourly", first, last), *raw]
    return [("receipts", since, until)]


def _rolled_up(query: Query) -> str | None:
    """The one dimension whose sums answer the query, or None when only raw receipts can."""
    asked = {name for name in query.group_by if name not in TIMES} | set(query.filters)
    if len(asked) > 1:
        return None
    return asked.pop() if asked else SMALLEST


def _local(query: Query, column: str) -> str:
    """SQL for the local time of `column` (ms): the zone's offset is constant between its changes."""
    *earlier, (_, last) = query.offsets
    if not earlier:
        return f"({column} + {last:d})" if last else column
    cases = " ".join(
        f"WHEN {column} < {until:d} THEN {offset:d}" for (_, offset), (until, _) in zip(earlier, query.offsets[1:])
    )
    return f"({column} + CASE {cases} ELSE {last:d} END)"


def _time(query: Query, name: str, column: str) -> str:
    """SQL for the start of the local hour or day, as UTC ms for hours and as local ms for days."""
    local = _local(query, column)
    if name == "day":
        return f"({local} - {local} % {DAY_MS})"
    return f"({column} - {local} % {HOUR_MS})"


def _segments(query: Query, dimension: str | None) -> list[Segment]:
    if dimension is None:
        return cover(query.since_ms, query.until_ms, hours=False, days=False)
    offsets = [offset for _, offset in query.offsets]
    hours, days = DIMENSIONS[dimension].hourly, DIMENSIONS[dimension].daily
    if "hour" in query.group_by:
        days = False
    if "hour" in query.group_by or "day" in query.group_by:
        hours = hours and not any(offset % HOUR_MS for offset in offsets)
        days = days and not any(offsets)
    return cover(query.since_ms, query.until_ms, hours=hours, days=days)


def _union(query: Query) -> tuple[str, list[Any]]:
    """A subquery with the groups g0, g1, … and the measures of everything the query asks for."""
    dimension = _rolled_up(query)
    parts: list[str] = []
    values: list[Any] = []
    for table, start, end in _segments(query, dimension):
        raw = table == "receipts"
        at = "at_ms" if raw else "start_ms"
        groups = [_group(query, name, raw, at) + f" AS g{place}" for place, name in enumerate(query.group_by)]
        where = ["project_id = ?", f"{at} >= ?", f"{at} < ?"]
        values += [query.project_id, start, end]
        if not raw:
            where.append("dimension = ?")
            values.append(dimension)
        for name, wanted in query.filters.items():
            column = f"COALESCE(\"{name}\", '')" if raw else "value"
            where.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += wanted
        measures = _RAW if raw else ", ".join(MEASURES)
        parts.append(f"SELECT {', '.join([*groups, measures])} FROM {table} WHERE {' AND '.join(where)}")
    return " UNION ALL ".join(parts), values


def _group(query: Query, name: str, raw: bool, at: str) -> str:
    if name in TIMES:
        return _time(query, name, at)
    return f"COALESCE(\"{name}\", '')" if raw else "value"


def costs(connection: sqlite3.Connection, query: Query) -> Costs:
    if query.since_ms >= query.until_ms:
        return Costs([], dict.fromkeys(MEASURES, 0), 0)
    connection.execute("BEGIN")
    try:
        totals = _totals(connection, query)
        if not query.group_by:
            return Costs([], totals, 0)
        source, values = _union(query)
        groups = [f"g{place}" for place in range(len(query.group_by))]
        by = _order(query)
        direction = "DESC" if query.descending else "ASC"
        found = connection.execute(
            f"SELECT {', '.join(groups)}, {_SUM}, COUNT(*) OVER () FROM ({source}) GROUP BY {', '.join(groups)} "
            f"ORDER BY {by} {direction}, SUM(cost_nanousd) DESC, {', '.join(groups)} LIMIT ?",
            [*values, query.limit],
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    width = len(groups)
    rows = [(tuple(row[:width]), dict(zip(MEASURES, row[width:-1]))) for row in found]
    return Costs(rows, totals, found[0][-1] if found else 0)


def _order(query: Query) -> str:
    if query.order in query.group_by:
        return f"g{query.group_by.index(query.order)}"
    return "SUM(input_tokens + output_tokens)" if query.order == "tokens" else f"SUM({query.order})"


def _totals(connection: sqlite3.Connection, query: Query) -> dict[str, int]:
    source, values = _union(query._replace(group_by=()))
    row = connection.execute(f"SELECT {_SUM} FROM ({source})", values).fetchone()
    return {name: amount or 0 for name, amount in zip(MEASURES, row)}


def missing(connection: sqlite3.Connection, query: Query, *, raw: bool) -> list[tuple[int, int]]:
    """Days, and receipts of them, that a query (or the list of its receipts, `raw`) lacks: they are archived."""
    spans = [(query.since_ms, query.until_ms)]
    if not raw:
        segments = _segments(query, _rolled_up(query))
        spans = [(start, end) for table, start, end in segments if table == "receipts"]
    return archived.missing(connection, query.project_id, spans)


def receipts(connection: sqlite3.Connection, query: Query) -> list[dict[str, Any]]:
    wanted, values = passing(query.filters)
    found = connection.execute(
        f"SELECT {quoted(COLUMNS)} FROM receipts WHERE project_id = ? AND at_ms >= ? AND at_ms < ?{wanted} "
        "ORDER BY at_ms DESC, epoch DESC, seq DESC LIMIT ?",
        [query.project_id, query.since_ms, query.until_ms, *values, query.limit],
    )
    return [receipt_of(dict(zip(COLUMNS, row))) for row in found]


def receipt_of(row: dict[str, Any]) -> dict[str, Any]:
    row.pop("project_id")
    out = {name: value for name, value in row.items() if value is not None or name == "cost_nanousd"}
    for name, value in out.items():
        if name == "clock_adjusted" or (name in FIELDS and FIELDS[name].kind == "flag"):
            out[name] = bool(value)
    if "tags" in out:
        out["tags"] = json.loads(out["tags"])
    return out


_SOURCE = (
    *("epoch", "agent_version", *OF_ENVELOPE, "first_received_ms", "last_received_ms", "max_seq", "received"),
    *("refused", "missing", "duplicates", "late", "late_max_ms", "clock_adjusted", "offset_ms", "ended", *COUNTERS),
)
#: what `Source` calls otherwise
_RENAMED = {"first_received_ms": "first_ms", "last_received_ms": "last_ms"}


def sources(
    connection: sqlite3.Connection, project_id: int, since_ms: int = 0, epochs: Sequence[str] = ()
) -> list[Source]:
    where, values = ["project_id = ?", "last_received_ms >= ?"], [project_id, since_ms, *epochs]
    if epochs:
        where.append(f"epoch IN ({', '.join('?' * len(epochs))})")
    found = connection.execute(
        f"SELECT {quoted(_SOURCE)} FROM epochs WHERE {' AND '.join(where)} ORDER BY last_received_ms DESC, epoch",
        values,
    )
    out = []
    for row in found:
        said = {_RENAMED.get(name, name): value for name, value in zip(_SOURCE, row)}
        counters = {name: said.pop(name) for name in COUNTERS}
        origin = {name: value for name in OF_ENVELOPE if (value := said.pop(name))}
        out.append(Source(origin=origin, counters=counters, **said))
    return out


def gaps(connection: sqlite3.Connection, project_id: int, epoch: str, limit: int) -> list[tuple[int, int]]:
    return connection.execute(
        "SELECT first_seq, last_seq FROM gaps WHERE project_id = ? AND epoch = ? ORDER BY first_seq LIMIT ?",
        (project_id, epoch, limit),
    ).fetchall()


#: runs of arrivals looked at, and receipts told of, by one question (the last run is told whole)
RUNS_AT_ONCE, TOLD_AT_ONCE = 500, 1_000


def arrivals(
    connection: sqlite3.Connection, project_id: int, after: int | None, filters: Mapping[str, tuple[str, ...]]
) -> Arrivals:
    connection.execute("BEGIN")
    try:
        oldest, newest = connection.execute(
            "SELECT COALESCE(min(id), 1), COALESCE(max(id), 0) FROM arrivals"
        ).fetchone()
        if after is None or after > newest:
            return Arrivals([], newest, after is not None, False)
        found = connection.execute(
            "SELECT id, project_id, epoch, first_seq, last_seq FROM arrivals WHERE id > ? ORDER BY id LIMIT ?",
            (after, RUNS_AT_ONCE),
        ).fetchall()
        wanted, values = passing(filters)
        out: list[dict[str, Any]] = []
        last = after
        for number, of_project, epoch, first_seq, last_seq in found:
            last = number
            if of_project == project_id:
                rows = connection.execute(
                    f"SELECT {quoted(COLUMNS)} FROM receipts WHERE project_id = ? AND epoch = ? "
                    f"AND seq BETWEEN ? AND ?{wanted} ORDER BY seq",
                    (project_id, epoch, first_seq, last_seq, *values),
                )
                out += [receipt_of(dict(zip(COLUMNS, row))) for row in rows]
            if len(out) >= TOLD_AT_ONCE:
                break
        return Arrivals(out, last, after < oldest - 1, last < newest)
    finally:
        connection.execute("COMMIT")


def passing(filters: Mapping[str, tuple[str, ...]]) -> tuple[str, list[str]]:
    """SQL that begins with AND, and its values: only raw receipts that pass."""
    parts = [f" AND COALESCE(\"{name}\", '') IN ({', '.join('?' * len(wanted))})" for name, wanted in filters.items()]
    return "".join(parts), [value for wanted in filters.values() for value in wanted]


def first_at(connection: sqlite3.Connection, project_id: int) -> int | None:
    # Of the sums, which stay when receipts are archived: the start of the first day.
    found = connection.execute(
        "SELECT min(start_ms) FROM daily WHERE project_id = ? AND dimension = ?", (project_id, SMALLEST)
    ).fetchone()[0]
    return None if found is None else int(found)


_KEY_ROWS = """SELECT keys.hash, shown, keys.name, scopes, project_id, keys.created_ms, revoked_ms,
substr(keys.hash, 1, 16), expires_ms, last_ms, reach, organisation_id, per_minute, max_bytes,
projects.archived_ms IS NOT NULL OR organisations.archived_ms IS NOT NULL, projects.name, organisations.name
FROM keys JOIN projects ON projects.id = project_id JOIN organisations ON organisations.id = organisation_id
LEFT JOIN key_uses ON key_id = substr(keys.hash, 1, 16)"""


def key_rows(connection: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> list[tuple[str, Key]]:
    """`(hash, key)` of the keys that match, in the order they were made."""
    found = connection.execute(f"{_KEY_ROWS} WHERE {where} ORDER BY keys.created_ms, keys.hash", values)
    return [
        (row[0], Key._make((*row[1:3], tuple(row[3].split()), *row[4:14], bool(row[14]), *row[15:]))) for row in found
    ]
