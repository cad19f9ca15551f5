"""What calls cost: the choice between daily sums, hourly sums and raw receipts, as SQL.

A period is covered exactly: whole days from `daily`, whole hours at its edges from `hourly`, and only what is left of
an hour, if anything, from raw rows. If the cover overlaps or leaves a gap, totals are wrong while every row is right: a
property test holds it.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Sequence

from aicostguard.ledger.model import (
    DAY_MS,
    DIMENSIONS,
    FLAGGED,
    HOUR_MS,
    JOINT,
    MEASURES,
    PAIRS,
    SMALLEST,
    SPARSE,
    TAGS,
    TIMED,
    TIMES,
    UNITS,
    Query,
)

#: measure → what one receipt adds to it, as SQL
MEASURED: Mapping[str, str] = {
    "cost_nanousd": "COALESCE(cost_nanousd, 0)",
    "calls": "1",
    "unpriced_calls": "(cost_nanousd IS NULL)",
    **{name: f"COALESCE({flag}, 0)" for flag, name in FLAGGED.items()},
    "clock_adjusted_calls": "clock_adjusted",
    **{name: f"COALESCE({name}, 0)" for name in (*UNITS, "cache_savings_nanousd", *TIMED)},
    **{calls: f"({key} IS NOT NULL)" for key, calls in TIMED.items()},
}

#: `(table, from, to)`; of `UNSUMMED` it is those days of receipts that the sums of the same time do not tell
Segment = tuple[str, int, int]
UNSUMMED = "unsummed"
#: segments that are read from receipts
RAW = ("receipts", UNSUMMED)


def cover(since: int, until: int, *, hours: bool, days: bool) -> list[Segment]:
    """Cut `[since, until)` into segments with no overlap and no gap, whole days first."""
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


def rolled_up(query: Query) -> str | None:
    """The dimension, or the pair, whose sums answer the query; None when only raw receipts can."""
    asked = {name for name in query.group_by if name not in TIMES} | {*query.filters, *query.excluded}
    if any(name.startswith(TAGS) for name in asked):
        return None
    if len(asked) < 2:
        return asked.pop() if asked else SMALLEST
    return next((",".join(pair) for pair in PAIRS if asked == set(pair)), None)


def kept_of(dimension: str) -> tuple[bool, bool]:
    """Whether there are hourly and daily sums."""
    if dimension.startswith(TAGS):
        return False, False
    known = DIMENSIONS.get(dimension)
    return (known.hourly, known.daily) if known else (dimension in SPARSE, True)


def column(name: str) -> str:
    """SQL of what a receipt says under a name; null where it says nothing. No tag's name holds a quote."""
    return f"json_extract(tags, '$.\"{name.removeprefix(TAGS)}\"')" if name.startswith(TAGS) else f'"{name}"'


def local(query: Query, column: str) -> str:
    """SQL for the local time of `column` (ms): the zone's offset is constant between its changes."""
    *earlier, (_, last) = query.offsets
    if not earlier:
        return f"({column} + {last:d})" if last else column
    cases = " ".join(
        f"WHEN {column} < {until:d} THEN {offset:d}" for (_, offset), (until, _) in zip(earlier, query.offsets[1:])
    )
    return f"({column} + CASE {cases} ELSE {last:d} END)"


def _time(query: Query, name: str, column: str) -> str:
    """SQL for the start of the local hour, as UTC ms; or of the local day, week (Monday) or month, as local ms."""
    at = local(query, column)
    if name == "hour":
        return f"({column} - {at} % {HOUR_MS})"
    day = f"({at} - {at} % {DAY_MS})"
    if name == "week":  # the first of 1970 was a Thursday
        return f"({day} - ({at} / {DAY_MS} + 3) % 7 * {DAY_MS})"
    if name == "month":
        return f"(CAST(strftime('%s', {at} / 1000, 'unixepoch', 'start of month') AS INTEGER) * 1000)"
    return day


def segments(query: Query, kept: tuple[bool, bool]) -> list[Segment]:
    """The cover of the query's period, from what is `kept` by the hour and by the day."""
    hours, days = kept
    cut = set(TIMES) & set(query.group_by)
    if cut:
        offsets = [offset for _, offset in query.offsets]
        hours = hours and not any(offset % HOUR_MS for offset in offsets)
        days = days and not any(offsets) and "hour" not in cut
    found = cover(query.since_ms, query.until_ms, hours=hours, days=days)
    for _, start, end in [segment for segment in found if segment[0] not in RAW]:
        if days_of := unsummed(query, start, end):
            found.append((UNSUMMED, max(start, days_of[0]), min(end, days_of[-1] + DAY_MS)))
    return found


def unsummed(query: Query, start: int, end: int) -> list[int]:
    """The days of `[start, end)` that are read from receipts, rising."""
    return [day for day in query.unsummed if start - DAY_MS < day < end]


def cover_of(query: Query) -> list[Segment]:
    """The segments that the query's sums are read from."""
    dimension = rolled_up(query)
    return segments(query, (False, False) if dimension is None else kept_of(dimension))


def parts_of(dimension: str | None) -> Mapping[str, str]:
    """name → SQL of its value in rows of a dimension or a pair."""
    if dimension is None or "," not in dimension:
        return {} if dimension is None else {dimension: "value"}
    one, other = dimension.split(",")
    return {
        one: f"substr(value, 1, instr(value, '{JOINT}') - 1)",
        other: f"substr(value, instr(value, '{JOINT}') + 1)",
    }


#: table of sums → the time of each
SPANS = {"hourly": HOUR_MS, "daily": DAY_MS}
#: days or hours up to which the sums of named values are sought one by one
_SOUGHT = 400


def select(
    query: Query,
    segment: Segment,
    dimension: str | None,
    what: str,
    table: str = "",
    columns: Mapping[str, str] | None = None,
) -> tuple[str, list[Any]]:
    """`SELECT g0, g1, …, what` of a segment's rows that pass the filters, and its values.

    `columns` tells where a name's value stands, if not where rows of the dimension have it.
    """
    name, start, end = segment
    raw = name in RAW
    at = "at_ms" if raw else "start_ms"
    columns = parts_of(None if raw else dimension) if columns is None else columns
    groups = []
    for place, group in enumerate(query.group_by):
        sql = _time(query, group, at) if group in TIMES else columns.get(group, f"COALESCE({column(group)}, '')")
        groups.append(f"{sql} AS g{place}")
    where = ["project_id = ?"]
    values: list[Any] = [query.project_id]
    if not raw:
        where.append("dimension = ?")
        values.append(dimension)
    span = SPANS.get(name, 0)
    if dimension in query.filters and span and end - start <= _SOUGHT * span:
        # Sought day by day, or hour by hour: between two lie the sums of all other names.
        where.append(f"{at} IN ({', '.join(str(one) for one in range(start, end, span))})")
    else:
        where += [f"{at} >= ?", f"{at} < ?"]
        values += [start, end]
    if name != "receipts" and (days := unsummed(query, start, end)):
        where.append(f"{at} - {at} % {DAY_MS} {'' if raw else 'NOT '}IN ({', '.join(map(str, days))})")
    passed, wanted = passing(query.filters, query.excluded, columns)
    source = table or ("receipts" if raw else name)
    sql = f"SELECT {', '.join([*groups, what])} FROM {source} WHERE {' AND '.join(where)}{passed}"
    return sql, [*values, *wanted]


def passing(
    filters: Mapping[str, tuple[str, ...]],
    excluded: Mapping[str, tuple[str, ...]] = {},
    columns: Mapping[str, str] = {},
) -> tuple[str, list[Any]]:
    """SQL that begins with AND, and its values: only rows that pass. `columns` tells where a name's value stands."""
    parts: list[str] = []
    values: list[Any] = []
    for wanted_not, named in (("", filters), ("NOT ", excluded)):
        for name, wanted in named.items():
            said = columns.get(name, f"COALESCE({column(name)}, '')")
            if not wanted_not and "" not in wanted and name not in columns:
                said = column(name)  # plain, so that an index can be used
            parts.append(f" AND {said} {wanted_not}IN ({', '.join('?' * len(wanted))})")
            values += wanted
    return "".join(parts), values


def union(query: Query, measures: Sequence[str] = MEASURES) -> tuple[str, list[Any]]:
    """A subquery with the groups g0, g1, … and these measures of everything the query asks for."""
    dimension = rolled_up(query)
    raw = ", ".join(f"{MEASURED[name]} AS {name}" for name in measures)
    rolled = ", ".join(measures)
    parts: list[str] = []
    values: list[Any] = []
    for segment in cover_of(query):
        sql, wanted = select(query, segment, dimension, raw if segment[0] in RAW else rolled)
        parts.append(sql)
        values += wanted
        for sql, wanted in _neither(query, segment, dimension, measures):
            parts.append(sql)
            values += wanted
    if not parts:
        nothing = [f"NULL AS g{place}" for place in range(len(query.group_by))]
        nothing += [f"0 AS {name}" for name in measures]
        parts.append(f"SELECT {', '.join(nothing)} WHERE 0")
    return " UNION ALL ".join(parts), values


def _neither(
    query: Query, segment: Segment, dimension: str | None, measures: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    """What is held of receipts that are in no sum of a sparse pair: all that there is, less all that the pair has.

    Whatever a day has no room for is taken away with the rest, so this is right on days that are full, too. A group of
    which nothing is left has no calls.
    """
    if segment[0] in RAW or dimension is None or dimension not in SPARSE:
        return
    if any("" not in wanted for wanted in query.filters.values()) or any("" in out for out in query.excluded.values()):
        return
    unsaid = dict.fromkeys(dimension.split(","), "''")
    every = query._replace(filters={}, excluded={})
    yield select(every, segment, SMALLEST, ", ".join(measures), columns=unsaid)
    yield select(every, segment, dimension, ", ".join(f"-{name} AS {name}" for name in measures), columns=unsaid)


def both(query: Query, measures: Sequence[str] = MEASURES) -> tuple[str, list[Any], Sequence[str]]:
    """As `union`, and the SQL of each sum: of the period, then, if there is one, of the period compared with."""
    now, values = union(query, measures)
    if query.before is None:
        return now, values, [f"SUM({name})" for name in measures]
    since, until = query.before
    then, more = union(query._replace(since_ms=since, until_ms=until), measures)
    groups = [f"g{place}" for place in range(len(query.group_by))]
    columns = ", ".join([*groups, *measures])
    source = f"SELECT 1 AS now, {columns} FROM ({now}) UNION ALL SELECT 0 AS now, {columns} FROM ({then})"
    sums = [f"SUM({name} * {when})" for when in ("now", "(1 - now)") for name in measures]
    return source, [*values, *more], sums
