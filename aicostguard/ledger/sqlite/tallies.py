"""Which of very many names come first, from days that are over: their sums laid side by side, a blob a day.

Owns `tally_names`, `tally_days` and `tallies`, and with them the choice of a top list; what its rows say is read from
the daily sums as ever. Ingest pays nothing for it: a day is tallied when it is over, and whatever changes one of its
sums takes its mark away in the same transaction (`write.sums`), so that it is read as the day of today is. If a mark
outlived a change, a top list would leave somebody out.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from array import array
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from aicostguard.ledger import lanes
from aicostguard.ledger.model import DAY_MS, DIMENSIONS, SMALLEST, Query
from aicostguard.ledger.sqlite import sums

#: dimensions of so many names that all sums of all of them would take too long to read
RANKED = tuple(name for name, dimension in DIMENSIONS.items() if dimension.daily and not dimension.hourly)
#: what is tallied, and so can be chosen by
MEASURED = ("cost_nanousd", "calls")
#: a day of fewer names is not tallied: its sums are quickly read
LEAST = 1_000
#: ties and chunks of names up to which the choice is made here
MOST_CHOSEN, MOST_CHUNKS = 500, 64

_TALLIED = ", ".join(MEASURED)


class Day(NamedTuple):
    """The sums of one dimension on one day."""

    project_id: int
    start_ms: int
    dimension: str


_OF_DAY = "project_id = ? AND start_ms = ? AND dimension = ?"


def spoil(project_id: int, days: Iterable[int]) -> list[tuple[str, list[Any]]]:
    """Statements that take away the marks of days whose sums change."""
    return [("DELETE FROM tally_days WHERE project_id = ? AND start_ms = ?", [project_id, day]) for day in sorted(days)]


def due(connection: sqlite3.Connection, now_ms: int) -> list[Day]:
    """The days that are over and have no mark, the latest first."""
    today = now_ms - now_ms % DAY_MS
    found = connection.execute(
        "SELECT DISTINCT project_id, start_ms FROM daily WHERE dimension = ? AND start_ms < ? AND project_id IN "
        "(SELECT id FROM projects)",
        (SMALLEST, today),
    ).fetchall()
    marked = set(connection.execute(f"SELECT {', '.join(Day._fields)} FROM tally_days WHERE state <> 'making'"))
    days = {Day(project, start, name) for project, start in found for name in RANKED} - marked
    return sorted(days, key=lambda day: (-day.start_ms, day))


def make(day: Day, do: Callable[..., Any], look: Callable[..., Any], size: Callable[[], int]) -> bool:
    """Tally a day in steps, run by `do` on the writer or `look` on a reader. False when it changed meanwhile."""
    token = secrets.randbits(48)
    if not do(_begin, day, token):
        return True
    after: str | None = None
    while (after := do(_name, day, after, size())) is not None:
        pass
    packed = look(lambda connection: _packed(connection, day))
    return packed is not None and bool(do(_put, day, token, packed))


def _begin(connection: sqlite3.Connection, day: Day, token: int) -> bool:
    """Mark a day as being tallied, or, for good, as one of few names."""
    (names,) = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM daily WHERE {_OF_DAY} LIMIT ?)", (*day, LEAST)
    ).fetchone()
    state = "few" if names < LEAST else "making"
    connection.execute("INSERT OR REPLACE INTO tally_days VALUES (?, ?, ?, ?, ?)", (*day, state, token))
    connection.execute(f"DELETE FROM tallies WHERE {_OF_DAY}", day)
    return state == "making"


def _name(connection: sqlite3.Connection, day: Day, after: str | None, size: int) -> str | None:
    """Give numbers to the next names of the day that have none; the last that was looked at, None behind the last."""
    given = {**day._asdict(), "after": after, "size": size}
    page = (
        "SELECT value FROM daily WHERE project_id = :project_id AND dimension = :dimension AND start_ms = :start_ms "
        f"{'' if after is None else 'AND value > :after '}ORDER BY value LIMIT :size"
    )
    known = "FROM tally_names WHERE project_id = :project_id AND dimension = :dimension"
    connection.execute(
        f"INSERT INTO tally_names SELECT :project_id, :dimension, value, (SELECT COALESCE(max(number), -1) {known}) "
        f"+ row_number() OVER (ORDER BY value) FROM ({page}) AS page "
        f"WHERE NOT EXISTS (SELECT 1 {known} AND value = page.value)",
        given,
    )
    last = connection.execute(f"SELECT max(value) FROM ({page})", given).fetchone()[0]
    return None if last is None else str(last)


def _packed(connection: sqlite3.Connection, day: Day) -> list[dict[int, bytes]] | None:
    """The lanes of each of `MEASURED`; None when there is a name without a number."""
    # Everything in one row: for each row the thread has to get hold of Python, which others want as well.
    numbers, *amounts = connection.execute(
        f"SELECT json_group_array(number), {', '.join(f'json_group_array({name})' for name in MEASURED)} "
        "FROM daily LEFT JOIN tally_names USING (project_id, dimension, value) "
        f"WHERE {_OF_DAY}",
        day,
    ).fetchone()
    given = json.loads(numbers)
    if None in given:
        return None
    return [lanes.pack(zip(given, json.loads(column))) for column in amounts]


def _put(connection: sqlite3.Connection, day: Day, token: int, packed: Sequence[Mapping[int, bytes]]) -> bool:
    mine = connection.execute(
        f"UPDATE tally_days SET state = 'made' WHERE {_OF_DAY} AND state = 'making' AND token = ?", (*day, token)
    ).rowcount
    if mine:
        connection.executemany(
            f"INSERT INTO tallies (project_id, start_ms, dimension, chunk, {_TALLIED}) VALUES (?, ?, ?, ?, ?, ?)",
            [(*day, chunk, *(column[chunk] for column in packed)) for chunk in packed[0]],
        )
    return bool(mine)


def forget(connection: sqlite3.Connection, project_id: int, dimension: str, value: str) -> None:
    """Forget a name none of whose sums is left: the days that it was in have lost their marks with them."""
    connection.execute(
        "DELETE FROM tally_names WHERE project_id = ? AND dimension = ? AND value = ?", (project_id, dimension, value)
    )


class _Rest(NamedTuple):
    """What is not tallied: amounts of names with a number, and of names without."""

    numbers: list[int]
    amounts: list[list[int]]
    names: list[str]
    others: list[list[int]]


def first(connection: sqlite3.Connection, query: Query) -> tuple[tuple[str, ...], int] | None:
    """Names among which those are that the answer begins with, and how many there are. None: to be found otherwise."""
    dimension = query.group_by[0]
    by_change = query.order == "change"
    if query.filters or not {dimension}.issuperset(query.excluded) or query.order not in (*MEASURED, "change"):
        return None
    asked = [query] if query.before is None else [query, _before(query)]
    made = [_made(connection, one, dimension) for one in asked]
    if not any(made) or any(_cost(connection, one) >= lanes.FULL for one in asked):
        return None
    rests = [_rest(connection, one, dimension, days) for one, days in zip(asked, made)]
    known = [_tallied(connection, query.project_id, dimension, days) for days in made]
    chunks = {row[0] for rows in known for row in rows}
    chunks.update(number // lanes.WIDTH for rest in rests for number in rest.numbers)
    if len(chunks) > MOST_CHUNKS:
        return None
    laid = lanes.Laid(chunks)
    names: dict[str, int] = {}  # those without a number have the last places
    for name in (name for rest in rests for name in rest.names):
        names.setdefault(name, len(chunks) * lanes.WIDTH + len(names))
    # For each period the amounts of each of MEASURED, by place.
    totals = [[_total(laid, at, rows, rest, names) for at in range(len(MEASURED))] for rows, rest in zip(known, rests)]
    there = _sum(totals, MEASURED.index("calls"), 1)
    for name in query.excluded.get(dimension, ()):
        place = _place_of(connection, query.project_id, dimension, name, laid, names)
        if place is not None:
            there[place] = 0
    amounts = _sum(totals, 0, -1) if by_change else totals[0][MEASURED.index(query.order)]
    places = lanes.first(amounts, there, query.limit, largest=query.descending)
    if len(places) > MOST_CHOSEN:
        return None
    width = len(chunks) * lanes.WIDTH
    unnumbered = list(names)
    chosen = [unnumbered[place - width] for place in places if place >= width]
    numbers = [laid.number(place) for place in places if place < width]
    chosen += [
        name
        for (name,) in connection.execute(
            "SELECT value FROM tally_names WHERE project_id = ? AND dimension = ? "
            f"AND number IN ({', '.join('?' * len(numbers))})",
            (query.project_id, dimension, *numbers),
        )
    ]
    return tuple(chosen), len(there) - there.count(0)


def _before(query: Query) -> Query:
    assert query.before is not None
    return query._replace(since_ms=query.before[0], until_ms=query.before[1])


def _made(connection: sqlite3.Connection, query: Query, dimension: str) -> list[int]:
    """Days of the query's period that are tallied, and whole in it."""
    spans = [(start, end) for table, start, end in sums.cover_of(query) if table == "daily"]
    unsummed = set(query.unsummed)
    return [
        day
        for start, end in spans
        for (day,) in connection.execute(
            "SELECT start_ms FROM tally_days WHERE project_id = ? AND start_ms >= ? AND start_ms < ? "
            "AND dimension = ? AND state = 'made' ORDER BY start_ms",
            (query.project_id, start, end, dimension),
        )
        if day not in unsummed
    ]


def _cost(connection: sqlite3.Connection, query: Query) -> int:
    """What all of it costs, and a little more: no name costs more than that."""
    found = connection.execute(
        "SELECT COALESCE(SUM(cost_nanousd), 0) FROM daily WHERE project_id = ? AND dimension = ? "
        "AND start_ms > ? AND start_ms < ?",
        (query.project_id, SMALLEST, query.since_ms - DAY_MS, query.until_ms),
    ).fetchone()
    return int(found[0])


def _tallied(connection: sqlite3.Connection, project_id: int, dimension: str, days: Sequence[int]) -> list[Any]:
    return connection.execute(
        f"SELECT chunk, {_TALLIED} FROM tallies WHERE project_id = ? AND dimension = ? "
        f"AND start_ms IN ({', '.join(map(str, days))})",
        (project_id, dimension),
    ).fetchall()


def _rest(connection: sqlite3.Connection, query: Query, dimension: str, days: Sequence[int]) -> _Rest:
    parts: list[str] = []
    values: list[Any] = []
    for table, start, end in sums.cover_of(query):
        pieces = [(table, start, end)] if table != "daily" else [("daily", *gap) for gap in _between(start, end, days)]
        for piece in pieces:
            raw = piece[0] in sums.RAW
            what = ", ".join(f"SUM({sums.MEASURED[name]}) AS {name}" if raw else name for name in MEASURED)
            sql, wanted = sums.select(query._replace(excluded={}), piece, dimension, what)
            parts.append(sql + (" GROUP BY g0" if raw else ""))
            values += wanted
    if not parts:
        return _Rest([], [[] for _ in MEASURED], [], [[] for _ in MEASURED])
    columns = ["number", *MEASURED]
    kinds = ("number IS NOT NULL", "number IS NULL")
    row = connection.execute(
        "SELECT "
        + ", ".join(
            f"json_group_array({column}) FILTER (WHERE {kind})"
            for kind, wanted in zip(kinds, (columns, ["g0", *MEASURED]))
            for column in wanted
        )
        + f" FROM ({' UNION ALL '.join(parts)}) LEFT JOIN tally_names "
        f"ON project_id = {query.project_id:d} AND dimension = '{dimension}' AND value = g0",
        values,
    ).fetchone()
    numbers, *amounts = map(json.loads, row[: len(columns)])
    names, *others = map(json.loads, row[len(columns) :])
    return _Rest(numbers, amounts, names, others)


def _between(start: int, end: int, days: Sequence[int]) -> list[tuple[int, int]]:
    """What is left of `[start, end)` without these days, which rise."""
    gaps = []
    for day in days:
        if start <= day < end:
            gaps.append((start, day))
            start = day + DAY_MS
    return [(one, other) for one, other in [*gaps, (start, end)] if one < other]


def _total(laid: lanes.Laid, at: int, rows: Sequence[Any], rest: _Rest, names: Mapping[str, int]) -> array[int]:
    """The amounts of one of MEASURED, by place."""
    out = laid.total((row[0], row[1 + at]) for row in rows)
    for number, amount in zip(rest.numbers, rest.amounts[at]):
        out[laid.place(number)] += amount
    out.frombytes(bytes(out.itemsize * len(names)))
    for name, amount in zip(rest.names, rest.others[at]):
        out[names[name]] += amount
    return out


def _sum(totals: Sequence[Sequence[array[int]]], at: int, sign: int) -> array[int]:
    """Of the one period, and `sign` times that of the other."""
    if len(totals) == 1:
        return array("q", totals[0][at])
    return array("q", (now + sign * then for now, then in zip(totals[0][at], totals[1][at])))


def _place_of(
    connection: sqlite3.Connection,
    project_id: int,
    dimension: str,
    name: str,
    laid: lanes.Laid,
    names: Mapping[str, int],
) -> int | None:
    if name in names:
        return names[name]
    found = connection.execute(
        "SELECT number FROM tally_names WHERE project_id = ? AND dimension = ? AND value = ?",
        (project_id, dimension, name),
    ).fetchone()
    return None if found is None or found[0] // lanes.WIDTH not in laid.chunks else laid.place(found[0])
