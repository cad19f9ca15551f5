"""Room for names: how many values of a dimension the sums of a day hold, and where the others go.

Owns `named_days` and `bounds`, and the one rule: a value that comes when its day is full stands in the day's sums, and
in those of its hours, under `OTHER`, for good. So of each day a value has all its receipts in sums of its own, or all
of them under `OTHER`; receipts keep the true value. What such sums cannot tell is read from receipts (`seen`). If a
value stood half here and half there, a filter would lose money without a word.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from typing import Iterable, Mapping, NamedTuple, Sequence

from aicostguard.ledger.model import DAY_MS, JOINT, MOST_NAMES, OTHER, TIMES, Query
from aicostguard.ledger.rollup import RollUp, Sums
from aicostguard.ledger.sqlite import sums

#: (dimension or pair, start of a UTC day)
Day = tuple[str, int]
#: a value in the sums of a day: project, dimension, start of the day, value
Named = tuple[int, str, int, str]
#: what a bound may be set to: more names than this are no names
LEAST_BOUND, MOST_BOUND = 1, 1_000_000
#: the project that bounds for all others are kept under
EVERY = 0
#: values looked up by one statement
_CHUNK = 500
_OTHERS = f"('', '{OTHER}', '{OTHER}{JOINT}{OTHER}')"

#: Part of `schema`, whose rules hold here. The names of a day are counted where its sums are made, which most batches
#: make none of: so counting costs them nothing.
ROOM = (
    """CREATE TABLE named_days (
    project_id INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    dimension TEXT NOT NULL,
    names INTEGER NOT NULL,
    full_ms INTEGER,
    service TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (project_id, start_ms, dimension)
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX named_days_full ON named_days (project_id, dimension, start_ms) WHERE full_ms IS NOT NULL",
    "INSERT INTO named_days (project_id, start_ms, dimension, names) "
    "SELECT project_id, start_ms, dimension, count(*) FROM daily WHERE value <> '' GROUP BY 1, 2, 3",
    f"""CREATE TRIGGER names_come AFTER INSERT ON daily WHEN NEW.value NOT IN {_OTHERS} BEGIN
    INSERT INTO named_days (project_id, start_ms, dimension, names)
    VALUES (NEW.project_id, NEW.start_ms, NEW.dimension, 1)
    ON CONFLICT DO UPDATE SET names = names + 1;
END""",
    f"""CREATE TRIGGER names_go AFTER DELETE ON daily WHEN OLD.value NOT IN {_OTHERS} BEGIN
    UPDATE named_days SET names = names - 1
    WHERE project_id = OLD.project_id AND start_ms = OLD.start_ms AND dimension = OLD.dimension;
END""",
    """CREATE TABLE bounds (
    project_id INTEGER NOT NULL,
    dimension TEXT NOT NULL,
    most INTEGER NOT NULL,
    PRIMARY KEY (project_id, dimension)
) STRICT, WITHOUT ROWID""",
)


def other_of(dimension: str) -> str:
    """The value under which a dimension's, or a pair's, others stand."""
    return JOINT.join([OTHER] * (dimension.count(",") + 1))


def bounds(connection: sqlite3.Connection, project_id: int) -> Mapping[str, int]:
    """How many values of each dimension and pair a day of a project has room for."""
    found = connection.execute(
        "SELECT dimension, most FROM bounds WHERE project_id IN (?, ?) ORDER BY project_id", (EVERY, project_id)
    ).fetchall()
    return {**MOST_NAMES, **dict(found)} if found else MOST_NAMES


def own_bounds(connection: sqlite3.Connection) -> dict[int, dict[str, int]]:
    """What was set, by project; `EVERY` for all without a bound of their own."""
    out: dict[int, dict[str, int]] = {}
    for project_id, dimension, most in connection.execute("SELECT * FROM bounds ORDER BY project_id, dimension"):
        out.setdefault(project_id, {})[dimension] = most
    return out


def set_bound(connection: sqlite3.Connection, project_id: int, dimension: str, most: int | None) -> None:
    """Set a bound, or take it away (None). A day that is full stays so."""
    connection.execute("DELETE FROM bounds WHERE project_id = ? AND dimension = ?", (project_id, dimension))
    if most is not None:
        connection.execute("INSERT INTO bounds VALUES (?, ?, ?)", (project_id, dimension, most))


# Adding to sums.


def asked(made: RollUp) -> Mapping[Day, int]:
    """How many values of each dimension and day these sums are of."""
    return Counter((dimension, start) for dimension, start, _ in made.daily)


def fit(
    connection: sqlite3.Connection, project_id: int, made: RollUp, wanted: Mapping[Day, int], at_ms: int, service: str
) -> RollUp:
    """These sums, of names that have no room under `OTHER`; the same object when all have it.

    What is full is noted with when it came to that, and by whom. Part of the transaction that adds the sums.
    """
    days = {start for _, start in wanted}
    held = {
        (dimension, start): (names, full_ms is not None)
        for dimension, start, names, full_ms in connection.execute(
            "SELECT dimension, start_ms, names, full_ms FROM named_days WHERE project_id = ? "
            f"AND start_ms IN ({', '.join(map(str, days))})",
            (project_id,),
        )
    }
    most = bounds(connection, project_id)
    out: set[tuple[str, int, str]] = set()
    for (dimension, start), count in wanted.items():
        names, full = held.get((dimension, start), (0, False))
        if not full and names + count <= most[dimension]:
            continue  # as nearly always: without a look at which of them are known
        values = [value for name, day, value in made.daily if (name, day) == (dimension, start)]
        new = _without_room(connection, project_id, dimension, start, values)
        room = 0 if full else max(0, most[dimension] - names)
        if len(new) > room:
            out.update((dimension, start, value) for value in new[room:])
            if not full:
                note(connection, project_id, start, dimension, at_ms, service)
    return _folded(made, out) if out else made


def note(connection: sqlite3.Connection, project_id: int, start: int, dimension: str, at_ms: int, service: str) -> None:
    connection.execute(
        "INSERT INTO named_days VALUES (?, ?, ?, 0, ?, ?) "
        "ON CONFLICT DO UPDATE SET full_ms = excluded.full_ms, service = excluded.service WHERE full_ms IS NULL",
        (project_id, start, dimension, at_ms, service),
    )


def _without_room(
    connection: sqlite3.Connection, project_id: int, dimension: str, start: int, values: Sequence[str]
) -> list[str]:
    """Those of the values that have no sums of their own; who says nothing needs no room."""
    known = {"", other_of(dimension)}
    for place in range(0, len(values), _CHUNK):
        chunk = values[place : place + _CHUNK]
        known.update(
            value
            for (value,) in connection.execute(
                "SELECT value FROM daily WHERE project_id = ? AND dimension = ? AND start_ms = ? "
                f"AND value IN ({', '.join('?' * len(chunk))})",
                (project_id, dimension, start, *chunk),
            )
        )
    return [value for value in values if value not in known]


def _folded(made: RollUp, out: set[tuple[str, int, str]]) -> RollUp:
    """The sums with those of some values of days, and of the hours of these days, under `OTHER`."""
    both: list[Sums] = []
    for table in (made.hourly, made.daily):
        members: defaultdict[tuple[str, int, str], list[Sequence[int]]] = defaultdict(list)
        for (dimension, start, value), amounts in table.items():
            if (dimension, start - start % DAY_MS, value) in out:
                value = other_of(dimension)
            members[dimension, start, value].append(amounts)
        both.append({cell: tuple(map(sum, zip(*found))) for cell, found in members.items()})
    return RollUp(made.measures, *both)


def renamed(
    connection: sqlite3.Connection, project_id: int, dimension: str, day_ms: int, name: str, new: str
) -> tuple[str, str]:
    """Where the sums of a name stand on a day, and where they go if it is called otherwise: it keeps its room."""

    def own(value: str) -> bool:
        return not _without_room(connection, project_id, dimension, day_ms, [value])

    other = other_of(dimension)
    at = name if own(name) or not full_on(connection, project_id, day_ms, [dimension]) else other
    return at, new if at == name or own(new) else other


def over(connection: sqlite3.Connection, cells: Iterable[Named]) -> set[Named]:
    """Those that stand under `OTHER`, of values that are in the sums already."""
    by_day: defaultdict[tuple[int, str, int], list[str]] = defaultdict(list)
    for *day, value in cells:
        by_day[tuple(day)].append(value)  # type: ignore[index]
    out: set[Named] = set()
    for (project_id, dimension, start), values in by_day.items():
        if full_on(connection, project_id, start, [dimension]):
            found = _without_room(connection, project_id, dimension, start, values)
            out.update((project_id, dimension, start, value) for value in found)
    return out


# Asking.


def full_on(connection: sqlite3.Connection, project_id: int, day_ms: int, dimensions: Sequence[str]) -> bool:
    """Was there no room for all values of one of these on a day?"""
    return any(
        connection.execute(
            "SELECT 1 FROM named_days WHERE project_id = ? AND dimension = ? AND start_ms = ? AND full_ms IS NOT NULL",
            (project_id, dimension, day_ms),
        ).fetchone()
        for dimension in dimensions
    )


def seen(connection: sqlite3.Connection, query: Query) -> tuple[Query, list[int]]:
    """The query with the days that only receipts can answer, and the days whose answer has a group `OTHER`."""
    dimension = sums.rolled_up(query)
    if dimension is None or not {*query.group_by, *query.filters, *query.excluded} - {*TIMES}:
        return query, []
    full = sorted(
        {
            day
            for since, until in ((query.since_ms, query.until_ms), query.before or (0, 0))
            for (day,) in connection.execute(
                "SELECT start_ms FROM named_days WHERE project_id = ? AND dimension = ? AND full_ms IS NOT NULL "
                "AND start_ms > ? AND start_ms < ?",
                (query.project_id, dimension, since - DAY_MS, until),
            )
        }
    )
    if not full:
        return query, []
    filtered = bool(query.filters or query.excluded)
    grouped = not {*query.group_by}.isdisjoint(dimension.split(",")) and dimension not in query.filters
    if (grouped and (query.named or query.latency == "exact")) or ("," in dimension and filtered):
        return query._replace(unsummed=tuple(full)), []
    names = {*query.filters.get(dimension, ()), *query.excluded.get(dimension, ())} - {""}
    unsummed = _not_all_own(connection, query.project_id, dimension, full, sorted(names)) if names else []
    told = [day for day in full if day not in set(unsummed)] if grouped else []
    return query._replace(unsummed=tuple(unsummed)), told


def _not_all_own(
    connection: sqlite3.Connection, project_id: int, dimension: str, days: Sequence[int], names: Sequence[str]
) -> list[int]:
    """The days on which one of these names has no sums of its own: it may stand under `OTHER`."""
    own = dict(
        connection.execute(
            "SELECT start_ms, count(*) FROM daily WHERE project_id = ? AND dimension = ? "
            f"AND start_ms IN ({', '.join(map(str, days))}) AND value IN ({', '.join('?' * len(names))}) GROUP BY 1",
            (project_id, dimension, *names),
        ).fetchall()
    )
    return [day for day in days if own.get(day, 0) < len(names)]


class Full(NamedTuple):
    """A day on which a dimension had no room for all its values, since when, and whose receipts came then."""

    project_id: int
    start_ms: int
    dimension: str
    names: int
    full_ms: int
    service: str


class Filled(NamedTuple):
    """A day that is full, and what stands under `OTHER` on it."""

    day: Full
    calls: int


def filled(connection: sqlite3.Connection, project_id: int, since_ms: int) -> list[Filled]:
    """The days of a project that came to be full since then, whatever their date, the latest first."""
    found = connection.execute(
        f"SELECT {', '.join(Full._fields)} FROM named_days "
        "WHERE project_id = ? AND full_ms IS NOT NULL AND full_ms >= ? ORDER BY full_ms DESC, dimension",
        (project_id, since_ms),
    ).fetchall()
    return [Filled(day, _others(connection, day)) for day in map(Full._make, found)]


def _others(connection: sqlite3.Connection, day: Full) -> int:
    found = connection.execute(
        "SELECT calls FROM daily WHERE project_id = ? AND dimension = ? AND start_ms = ? AND value = ?",
        (day.project_id, day.dimension, day.start_ms, other_of(day.dimension)),
    ).fetchone()
    return int(found[0]) if found else 0


def full(connection: sqlite3.Connection, project_id: int | None = None, since_ms: int = 0) -> list[Full]:
    """The days that are full, of a project or of all, the latest first."""
    found = connection.execute(
        f"SELECT {', '.join(Full._fields)} FROM named_days WHERE full_ms IS NOT NULL AND start_ms >= ? "
        "AND (?2 IS NULL OR project_id = ?2) ORDER BY start_ms DESC, full_ms, project_id, dimension",
        (since_ms, project_id),
    )
    return [Full(*row) for row in found]
