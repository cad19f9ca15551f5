"""Spend by the minute, and the dearest call: what windows shorter than an hour are read from.

Owns `alert_minutes`, `alert_dearest` and how far they have counted. Follows `arrivals`: each receipt is counted once,
in the minute of its call, whatever is killed, and ingest knows nothing of it. Reads each batch by its key.
"""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

from aicostguard.ledger.sqlite import SqliteStore

MINUTE_MS = 60_000
#: runs of arrivals counted by one step
AT_ONCE = 500
#: what is older is in no window
KEPT_MS = 25 * 3_600_000


class Sums(NamedTuple):
    """What the calls of a window come to."""

    cost_nanousd: int = 0
    calls: int = 0
    unpriced_calls: int = 0


class Dearest(NamedTuple):
    """The dearest call that came in a window."""

    cost_nanousd: int
    at_ms: int
    provider: str
    model: str
    feature: str | None


class _Counted(NamedTuple):
    """What a step counts, read beside whoever writes: from and to which of `arrivals`."""

    since: int
    until: int
    minutes: list[tuple[Any, ...]]
    dearest: list[tuple[Any, ...]]


def catch_up(store: SqliteStore, now_ms: int) -> int:
    """Count what has come in; gives the last of `arrivals` that is counted. One look when there is nothing."""
    while True:
        found = store.look(lambda connection: _read(connection, now_ms))
        if found.until == found.since:
            return found.since
        store.change(lambda connection: _write(connection, found, now_ms))  # noqa: B023 (runs before the next look)


def _read(connection: sqlite3.Connection, now_ms: int) -> _Counted:
    connection.execute("BEGIN")
    try:
        since, last = connection.execute(
            "SELECT counted_to, COALESCE((SELECT max(id) FROM arrivals), 0) FROM alert_counted"
        ).fetchone()
        if last <= since:  # also in a ledger that was restored to an earlier state
            return _Counted(since, since, [], [])
        until = connection.execute(
            "SELECT max(id) FROM (SELECT id FROM arrivals WHERE id > ? ORDER BY id LIMIT ?)", (since, AT_ONCE)
        ).fetchone()[0]
        # In one reading. The other columns are those of the row that has the maximum: so SQLite defines it.
        found = connection.execute(
            f"SELECT receipts.project_id, at_ms - at_ms % {MINUTE_MS:d}, COALESCE(SUM(cost_nanousd), 0), COUNT(*), "
            "SUM(cost_nanousd IS NULL), max(cost_nanousd), at_ms, provider, model, feature "
            "FROM arrivals CROSS JOIN receipts ON receipts.project_id = arrivals.project_id "
            "AND receipts.epoch = arrivals.epoch AND seq BETWEEN first_seq AND last_seq WHERE id > ? AND id <= ? "
            "GROUP BY 1, 2",
            (since, until),
        ).fetchall()
        minutes = [row[:5] for row in found if row[1] >= now_ms - KEPT_MS]  # `_write` forgets what is older
        dearest: dict[int, tuple[Any, ...]] = {}
        for project_id, *_, most, at_ms, provider, model, feature in found:
            if most and most > dearest.get(project_id, (0, 0))[1]:
                dearest[project_id] = (project_id, most, at_ms, provider, model, feature)
        return _Counted(since, until, minutes, list(dearest.values()))
    finally:
        connection.execute("COMMIT")


def _write(connection: sqlite3.Connection, found: _Counted, now_ms: int) -> None:
    done = connection.execute(
        "UPDATE alert_counted SET counted_to = ? WHERE counted_to = ?", (found.until, found.since)
    ).rowcount
    if not done:  # another process was first
        return
    connection.executemany(
        "INSERT INTO alert_minutes VALUES (?, ?, ?, ?, ?) ON CONFLICT (project_id, minute_ms) DO UPDATE SET "
        "cost_nanousd = cost_nanousd + excluded.cost_nanousd, calls = calls + excluded.calls, "
        "unpriced_calls = unpriced_calls + excluded.unpriced_calls",
        found.minutes,
    )
    minute = now_ms - now_ms % MINUTE_MS
    connection.executemany(
        "INSERT INTO alert_dearest VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (project_id, minute_ms) DO UPDATE SET "
        "cost_nanousd = excluded.cost_nanousd, at_ms = excluded.at_ms, provider = excluded.provider, "
        "model = excluded.model, feature = excluded.feature WHERE excluded.cost_nanousd > cost_nanousd",
        [(row[0], minute, *row[1:]) for row in found.dearest],
    )
    for table in ("alert_minutes", "alert_dearest"):
        connection.execute(
            f"DELETE FROM {table} WHERE project_id IN (SELECT id FROM projects) AND minute_ms < ?", (now_ms - KEPT_MS,)
        )


def window(connection: sqlite3.Connection, project_id: int, since_ms: int, until_ms: int) -> Sums:
    """What was called in the minutes that begin within `[since, until)`."""
    row = connection.execute(
        "SELECT COALESCE(SUM(cost_nanousd), 0), COALESCE(SUM(calls), 0), COALESCE(SUM(unpriced_calls), 0) "
        "FROM alert_minutes WHERE project_id = ? AND minute_ms >= ? AND minute_ms < ?",
        (project_id, since_ms, until_ms),
    ).fetchone()
    return Sums(*row)


def dearest(connection: sqlite3.Connection, project_id: int, since_ms: int) -> Dearest | None:
    """The dearest call of those that came since."""
    row = connection.execute(
        "SELECT cost_nanousd, at_ms, provider, model, feature FROM alert_dearest WHERE project_id = ? "
        "AND minute_ms >= ? ORDER BY cost_nanousd DESC, minute_ms LIMIT 1",
        (project_id, since_ms),
    ).fetchone()
    return None if row is None else Dearest(*row)
