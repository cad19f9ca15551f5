"""What a migration has to work out for receipts that were stored before it: a day at a time, each in a transaction.

Owns the sums and spreads that came later than the receipts they are made of. The step of the schema leaves a list of
days in `backfill`; whoever opens the file works through it before anybody asks, and whoever is killed at it is gone on
for by the next. Each receipt is read once: a day is copied aside, and summed up from there. If this differs from what
ingest adds, old months and new ones do not compare.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import Any, Callable, Mapping, Sequence

from aicostguard import pricing
from aicostguard.ledger import ingest, prices
from aicostguard.ledger.model import (
    DAY_MS,
    DIMENSIONS,
    HOUR_MS,
    JOINT,
    MEASURES,
    PAIRS,
    SMALLEST,
    SPARSE,
    SPREAD,
    TIMED,
    Dimension,
)
from aicostguard.ledger.sqlite import callers, spreads
from aicostguard.ledger.sqlite.queried import QUERIES
from aicostguard.ledger.sqlite.sums import MEASURED
from aicostguard.ledger.sqlite.write import quoted
from aicostguard.receipt import FIELDS

log = logging.getLogger("aicostguard.ledger")
#: receipts valued, or spread, between two looks at the file
_AT_ONCE = 2_000


def _queries(connection: sqlite3.Connection) -> None:
    """List the days that there are receipts of."""
    connection.execute(
        "CREATE TABLE backfill (project_id INTEGER NOT NULL, day_ms INTEGER NOT NULL, "
        "PRIMARY KEY (project_id, day_ms)) STRICT, WITHOUT ROWID"
    )
    connection.execute(
        "INSERT INTO backfill WITH RECURSIVE days (project_id, at_ms) AS ("
        "SELECT id, (SELECT min(at_ms) FROM receipts WHERE project_id = id) FROM projects UNION ALL "
        f"SELECT project_id, (SELECT min(at_ms) FROM receipts WHERE project_id = days.project_id "
        f"AND at_ms >= days.at_ms - days.at_ms % {DAY_MS} + {DAY_MS}) FROM days WHERE at_ms IS NOT NULL) "
        f"SELECT project_id, at_ms - at_ms % {DAY_MS} FROM days WHERE at_ms IS NOT NULL"
    )


def finish(connection: sqlite3.Connection, path: str) -> None:
    """Work through the days that are left, if any. Each is all or nothing."""
    listed = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "backfill" in listed:
        price = _price(connection, path)
        _work_off(connection, path, "backfill", lambda project, day: _fill(connection, project, day, price))
    if "backfill_agents" in listed:
        _work_off(connection, path, "backfill_agents", lambda project, day: callers.fill(connection, project, day))


def _work_off(connection: sqlite3.Connection, path: str, days: str, fill: Callable[[int, int], None]) -> None:
    (left,) = connection.execute(f"SELECT count(*) FROM {days}").fetchone()
    if left:
        log.warning(
            "%s: the sums of %d days are brought to this release; stopped at it, it goes on where it was", path, left
        )
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            day = connection.execute(f"SELECT project_id, day_ms FROM {days} LIMIT 1").fetchone()
            if day is None:
                connection.execute(f"DROP TABLE IF EXISTS {days}")
            else:
                fill(*day)
                connection.execute(f"DELETE FROM {days} WHERE project_id = ? AND day_ms = ?", day)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if day is None:
            return


def _price(connection: sqlite3.Connection, path: str) -> ingest.Pricer:
    """The prices of now: those of then are not kept. What a call costs is asked for the time of the call."""
    found = connection.execute("SELECT value FROM settings WHERE name = ?", (prices.SETTING,)).fetchone()
    return (prices.special(path, found[0] if found else None) or pricing.default_book()).cost


def _fill(connection: sqlite3.Connection, project_id: int, day_ms: int, price: ingest.Pricer) -> None:
    _value_caches(connection, project_id, day_ms, price)
    columns = [f"at_ms - at_ms % {HOUR_MS} AS hour", f"{day_ms:d} AS day"]
    columns += [f"COALESCE(\"{name}\", '') AS {name}_" for name in DIMENSIONS]
    columns += [f"{MEASURED[name]} AS {name}" for name in MEASURES]
    columns += [f"{name} AS {name}_said" for name in TIMED]
    connection.execute("DROP TABLE IF EXISTS temp.of_day")
    connection.execute(
        f"CREATE TEMP TABLE of_day AS SELECT {', '.join(columns)} FROM receipts "
        "WHERE project_id = ? AND at_ms >= ? AND at_ms < ?",
        (project_id, day_ms, day_ms + DAY_MS),
    )
    of = _Day(connection, project_id, day_ms)
    for name, dimension in DIMENSIONS.items():
        of.later_sums(name, dimension)
    for pair in PAIRS:
        if ",".join(pair) not in SPARSE:  # came later: `callers`
            of.pair(*pair)
    rows = connection.execute(
        f"SELECT {project_id:d}, hour, {', '.join(f'{name}_' for name in SPREAD)}, "
        f"{', '.join(f'{name}_said' for name in TIMED)} FROM of_day"
    )
    while some := rows.fetchmany(50_000):
        spreads.add(connection, list(zip(*some)))
    connection.execute("DROP TABLE temp.of_day")


def _value_caches(connection: sqlite3.Connection, project_id: int, day_ms: int, price: ingest.Pricer) -> None:
    (trigger,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'receipts_are_immutable'").fetchone()
    connection.execute("DROP TRIGGER receipts_are_immutable")
    names = [name for name in FIELDS if name != "tags"]
    cached = " OR ".join(f"{name} IS NOT NULL" for name in sorted(ingest.CACHED))
    rows = connection.execute(
        f"SELECT rowid, at_ms, {quoted(names)} FROM receipts WHERE project_id = ? AND at_ms >= ? AND at_ms < ? "
        f"AND cost_nanousd IS NOT NULL AND ({cached})",
        (project_id, day_ms, day_ms + DAY_MS),
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


_LATER = ("cache_savings_nanousd", *(name for pair in TIMED.items() for name in pair))


class _Day:
    """Sums of the day that was copied aside. What need not be sorted out is not: most dimensions have one value."""

    def __init__(self, connection: sqlite3.Connection, project_id: int, day_ms: int) -> None:
        self._connection = connection
        self._project_id, self._day_ms = project_id, day_ms
        # One look at the whole: which dimensions have one value, and which measures anything is said of.
        bounds = ", ".join(f"min({name}_), max({name}_)" for name in DIMENSIONS)
        row = connection.execute(f"SELECT {bounds}, {', '.join(f'max(abs({m}))' for m in MEASURES)} FROM temp.of_day")
        found = row.fetchone()
        least, most, amounts = (
            found[: 2 * len(DIMENSIONS) : 2],
            found[1 : 2 * len(DIMENSIONS) : 2],
            found[-len(MEASURES) :],
        )
        self._alone = {name: one for name, one, other in zip(DIMENSIONS, least, most) if one == other}
        self._said = {name for name, amount in zip(MEASURES, amounts) if amount}

    def later_sums(self, name: str, dimension: Dimension) -> None:
        """Add to the sums of a dimension what was not summed when they were made."""
        later = ", ".join(f"SUM({column}) AS {column}" for column in _LATER)
        if dimension.hourly:
            if name in self._alone and name != SMALLEST:
                self._put("hourly", name, f"SELECT start_ms AS s, ? AS v, {later} {_OF_HOURS} GROUP BY 1",
                          [self._alone[name], *self._hours(SMALLEST)])  # fmt: skip
            else:
                self._put("hourly", name, f"SELECT hour AS s, {name}_ AS v, {later} FROM temp.of_day GROUP BY 1, 2", [])
        if dimension.daily and dimension.hourly:
            hours = self._hours(name)
            self._put(
                "daily", name, f"SELECT ? AS s, value AS v, {later} {_OF_HOURS} GROUP BY 2", [self._day_ms, *hours]
            )
        elif dimension.daily:
            self._put("daily", name, f"SELECT day AS s, {name}_ AS v, {later} FROM temp.of_day GROUP BY 2", [])

    def _hours(self, name: str) -> list[Any]:
        return [self._project_id, name, self._day_ms, self._day_ms + DAY_MS]

    def _put(self, table: str, name: str, found: str, values: list[Any]) -> None:
        self._connection.execute(
            f"UPDATE {table} SET {', '.join(f'{column} = found.{column}' for column in _LATER)} "
            f"FROM ({found}) AS found WHERE {table}.project_id = ? AND {table}.dimension = ? "
            f"AND {table}.start_ms = found.s AND {table}.value = found.v",
            (*values, self._project_id, name),
        )

    def pair(self, one: str, other: str) -> None:
        """Make the sums of a pair."""
        names = ", ".join(MEASURES)
        into = f"INSERT INTO daily (project_id, dimension, start_ms, value, {names})"
        if one in self._alone:
            self._connection.execute(
                f"{into} SELECT project_id, ?, start_ms, ? || value, {names} FROM daily "
                "WHERE project_id = ? AND dimension = ? AND start_ms = ?",
                (f"{one},{other}", self._alone[one] + JOINT, self._project_id, other, self._day_ms),
            )
            return
        summed = ", ".join(f"SUM({name})" if name in self._said else "0" for name in MEASURES)
        self._connection.execute(
            f"{into} SELECT ?, ?, day, {one}_ || ? || {other}_, {summed} FROM temp.of_day GROUP BY {one}_, {other}_",
            (self._project_id, f"{one},{other}", JOINT),
        )


_OF_HOURS = "FROM hourly WHERE project_id = ? AND dimension = ? AND start_ms >= ? AND start_ms < ?"


#: a step of `schema` → what comes after its statements
AFTER: Mapping[Sequence[str], Callable[[sqlite3.Connection], None]] = {QUERIES: _queries}
