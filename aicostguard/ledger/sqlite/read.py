"""Receipts, arrivals, processes and keys as they are read from the file.

Owns what a stored receipt looks like and where a page of them ends. Never reads more than a page.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Iterator, Mapping, Sequence

from aicostguard.health import COUNTERS
from aicostguard.ledger.model import DAY_MS, OF_ENVELOPE, SMALLEST, Arrivals, Key, Place, Query, Source
from aicostguard.ledger.sqlite import archived, percentiles, room, sums
from aicostguard.ledger.sqlite.sums import passing
from aicostguard.ledger.sqlite.write import COLUMNS, quoted
from aicostguard.receipt import FIELDS


def missing(connection: sqlite3.Connection, query: Query, *, raw: bool) -> list[tuple[int, int]]:
    """Days, and receipts of them, that a query (or the list of its receipts, `raw`) lacks: they are archived."""
    asked = [query]
    if query.before is not None:
        # Of the period before, no percentiles are told.
        asked.append(query._replace(since_ms=query.before[0], until_ms=query.before[1], latency=""))
    spans = [(one.since_ms, one.until_ms) for one in asked]
    if not raw:
        asked = [room.seen(connection, one)[0] for one in asked]
        spans = [span for one in asked for span in _raw(one)]
    return archived.missing(connection, query.project_id, spans)


def _raw(query: Query) -> Iterator[tuple[int, int]]:
    """The spans of a query's period that are read from receipts."""
    found = sums.cover_of(query)
    if query.latency == "approximate":
        found = [*found, *percentiles.segments(query)]
    for table, start, end in found:
        if table == "receipts":
            yield start, end
        elif table == sums.UNSUMMED:
            for day in sums.unsummed(query, start, end):
                yield max(start, day), min(end, day + DAY_MS)


def receipts(connection: sqlite3.Connection, query: Query, after: Place | None = None) -> list[dict[str, Any]]:
    wanted, values = passing(query.filters, query.excluded)
    until = query.until_ms
    if after is not None:
        # The end of the period twice: the index knows times, and a receipt's place only where times are the same.
        until = min(until, after.at_ms + 1)
        wanted = " AND (at_ms, epoch, seq) < (?, ?, ?)" + wanted
        values = [*after, *values]
    found = connection.execute(
        f"SELECT {quoted(COLUMNS)} FROM receipts WHERE project_id = ? AND at_ms >= ? AND at_ms < ?{wanted} "
        "ORDER BY at_ms DESC, epoch DESC, seq DESC LIMIT ?",
        [query.project_id, query.since_ms, until, *values, query.limit],
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
    connection: sqlite3.Connection,
    project_id: int,
    since_ms: int = 0,
    epochs: Sequence[str] = (),
    limit: int = -1,
    after: tuple[int, str] | None = None,
    filters: Mapping[str, tuple[str, ...]] = {},
) -> list[Source]:
    where, values = ["project_id = ?", "last_received_ms >= ?"], [project_id, since_ms, *epochs]
    if epochs:
        where.append(f"epoch IN ({', '.join('?' * len(epochs))})")
    if after is not None:
        where.append("last_received_ms <= ? AND (last_received_ms < ? OR epoch > ?)")
        values += [after[0], *after]
    passed, wanted = passing(filters)
    found = connection.execute(
        f"SELECT {quoted(_SOURCE)} FROM epochs WHERE {' AND '.join(where)}{passed} "
        "ORDER BY last_received_ms DESC, epoch LIMIT ?",
        [*values, *wanted, limit],
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
