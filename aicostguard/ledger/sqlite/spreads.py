"""How latencies are spread, by model and feature, kept beside the sums: a second behind the receipts.

Owns `hourly_spreads`, `daily_spreads` and the point in `arrivals` up to which they go. Ingest knows nothing of them: a
cell is some hundred bytes that have to be read, added to and written again, which for each batch would cost as much as
all the rest of it, and for the batches of a second costs a tenth. Each arrival is taken in exactly once: the point and
the cells move in one transaction, which is given up when another has moved the point.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from aicostguard.ledger import spread
from aicostguard.ledger.model import DAY_MS, HOUR_MS, SPREAD, TIMED
from aicostguard.ledger.sqlite import room

TABLES = {HOUR_MS: "hourly_spreads", DAY_MS: "daily_spreads"}
#: runs of receipts taken in at a time: a run is at most an envelope
RUNS_AT_ONCE = 50
_KEYS = tuple(TIMED)
_COLUMNS = ("r.project_id", "r.at_ms", *(f"COALESCE(r.{name}, '')" for name in SPREAD), *(f"r.{key}" for key in _KEYS))
#: cells of one statement: few statements, because Python's lock is fought for around each
_AT_ONCE = 100

#: (project_id, dimension, start_ms, value)
Cell = tuple[int, str, int, str]
Cells = dict[Cell, list[bytes]]


class Gathered(NamedTuple):
    """What the arrivals behind `before` up to `upto` add, by the length of time of the cells."""

    before: int
    upto: int
    added: Mapping[int, Cells]


def gather(connection: sqlite3.Connection) -> Gathered | None:
    """The next arrivals, spread; None when there are none."""
    connection.execute("BEGIN")
    try:
        before, newest = connection.execute(
            "SELECT (SELECT arrival FROM spread_to), (SELECT COALESCE(max(id), 0) FROM arrivals)"
        ).fetchone()
        if newest <= before:
            return None
        upto = connection.execute(
            "SELECT max(id) FROM (SELECT id FROM arrivals WHERE id > ? ORDER BY id LIMIT ?)", (before, RUNS_AT_ONCE)
        ).fetchone()[0]
        # Everything in one row: for each row the thread has to get hold of Python, which ingest wants as well.
        columns = connection.execute(
            f"SELECT {', '.join(f'json_group_array({column})' for column in _COLUMNS)} "
            "FROM arrivals AS a CROSS JOIN receipts AS r "
            "ON r.project_id = a.project_id AND r.epoch = a.epoch AND r.seq BETWEEN a.first_seq AND a.last_seq "
            "WHERE a.id > ? AND a.id <= ?",
            (before, upto),
        ).fetchone()
    finally:
        connection.execute("COMMIT")
    return Gathered(before, upto, cells_of([json.loads(column) for column in columns]))


def cells_of(columns: Sequence[Sequence[Any]]) -> dict[int, Cells]:
    """The cells of some receipts, given by columns: project_id, at_ms, each of SPREAD, each of TIMED (None: unsaid)."""
    made: dict[int, Cells] = {HOUR_MS: {}, DAY_MS: {}}
    projects, times, *said = columns
    starts = {span: [at_ms - at_ms % span for at_ms in times] for span in made}
    for place, timed in enumerate(said[len(SPREAD) :]):
        bins = spread.bins_of(timed)
        for (name, hourly), values in zip(SPREAD.items(), said):
            span = HOUR_MS if hourly else DAY_MS
            grouped: defaultdict[tuple[int, int, str], list[int | None]] = defaultdict(list)
            for key, number in zip(zip(projects, starts[span], values), bins):
                grouped[key].append(number)
            for (project_id, start, value), numbers in grouped.items():
                counts: Counter[Any] = Counter(numbers)
                counts.pop(None, None)
                if counts:
                    _cell(made[span], (project_id, name, start, value))[place] = spread.of_counts(counts)
    for (project_id, name, start, value), spreads in made[HOUR_MS].items():
        day = _cell(made[DAY_MS], (project_id, name, start - start % DAY_MS, value))
        day[:] = map(spread.add, day, spreads)
    return made


def _cell(cells: Cells, key: Cell) -> list[bytes]:
    return cells.setdefault(key, [spread.EMPTY] * len(_KEYS))


def put(connection: sqlite3.Connection, found: Gathered) -> None:
    """Add what was gathered, unless another did it meanwhile."""
    moved = connection.execute("UPDATE spread_to SET arrival = ? WHERE arrival = ?", (found.upto, found.before))
    if moved.rowcount:
        for span, cells in found.added.items():
            _add(connection, TABLES[span], cells)


def _add(connection: sqlite3.Connection, table: str, cells: Cells) -> None:
    cells = _fitted(connection, cells)
    ordered = sorted(cells)
    one = f"({', '.join('?' * (4 + len(_KEYS)))})"
    for start in range(0, len(ordered), _AT_ONCE):
        keys = ordered[start : start + _AT_ONCE]
        known = {row[:4]: row[4:] for row in _known(connection, table, keys)}
        rows: list[Any] = []
        for key in keys:
            rows += (*key, *map(spread.add, known.get(key, cells[key]), cells[key] if key in known else _NOTHING))
        connection.execute(
            f"INSERT OR REPLACE INTO {table} (project_id, dimension, start_ms, value, {', '.join(_KEYS)}) "
            f"VALUES {', '.join([one] * len(keys))}",
            rows,
        )


_NOTHING = (spread.EMPTY,) * len(_KEYS)


def _fitted(connection: sqlite3.Connection, cells: Cells) -> Cells:
    """The cells as the sums of their days have them: what has no room there has none here."""
    over = room.over(connection, {(cell[0], cell[1], cell[2] - cell[2] % DAY_MS, cell[3]) for cell in cells})
    if not over:
        return cells
    out: Cells = {}
    for (project_id, name, start, value), found in cells.items():
        if (project_id, name, start - start % DAY_MS, value) in over:
            value = room.other_of(name)
        known = out.get((project_id, name, start, value), _NOTHING)
        out[project_id, name, start, value] = [*map(spread.add, known, found)]
    return out


def _known(connection: sqlite3.Connection, table: str, keys: Sequence[Cell]) -> Iterator[Any]:
    places = ", ".join(["(?, ?, ?, ?)"] * len(keys))
    return connection.execute(
        f"SELECT t.project_id, t.dimension, t.start_ms, t.value, {', '.join(_KEYS)} FROM (VALUES {places}) AS w "
        f"CROSS JOIN {table} AS t ON t.project_id = w.column1 AND t.dimension = w.column2 "
        "AND t.start_ms = w.column3 AND t.value = w.column4",
        [part for key in keys for part in key],
    )


def add(connection: sqlite3.Connection, columns: Sequence[Sequence[Any]]) -> None:
    """Spread receipts, as `cells_of` takes them, that no spread has yet, in the transaction the connection is in."""
    for span, cells in cells_of(columns).items():
        _add(connection, TABLES[span], cells)
