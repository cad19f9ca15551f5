"""How latencies are spread, by model and feature, kept beside the sums: a second behind the receipts.

Owns `hourly_spreads`, `daily_spreads` and the point in `arrivals` up to which they go. Ingest knows nothing of them: a
cell is some hundred bytes that have to be read, added to and written again, which for each batch would cost as much as
all the rest of it, and for the batches of a second costs a tenth. Each arrival is taken in exactly once: the point and
the cells move in one transaction, which is given up when another has moved the point.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from aicostguard.ledger import spread
from aicostguard.ledger.model import DAY_MS, HOUR_MS, SPREAD, TIMED

TABLES = {HOUR_MS: "hourly_spreads", DAY_MS: "daily_spreads"}
#: runs of receipts taken in at a time: a run is at most an envelope
RUNS_AT_ONCE = 50
_KEYS = tuple(TIMED)
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
        rows = connection.execute(
            f"SELECT r.project_id, r.at_ms, {_columns('r.')} FROM arrivals AS a CROSS JOIN receipts AS r "
            "ON r.project_id = a.project_id AND r.epoch = a.epoch AND r.seq BETWEEN a.first_seq AND a.last_seq "
            "WHERE a.id > ? AND a.id <= ?",
            (before, upto),
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    return Gathered(before, upto, cells_of(rows))


def _columns(of: str = "") -> str:
    return ", ".join([*(f"COALESCE({of}{name}, '')" for name in SPREAD), *(of + key for key in _KEYS)])


def cells_of(rows: Sequence[Sequence[Any]]) -> dict[int, Cells]:
    """The cells of some receipts, each `(project_id, at_ms, a value for each of SPREAD, a time for each of TIMED)`."""
    made: dict[int, Cells] = {HOUR_MS: {}, DAY_MS: {}}
    for place, _ in enumerate(_KEYS):
        timed = [row for row in rows if row[2 + len(SPREAD) + place] is not None]
        bins = [spread.bin_of(row[2 + len(SPREAD) + place]) for row in timed]
        for column, (name, hourly) in enumerate(SPREAD.items(), 2):
            for span in (HOUR_MS, DAY_MS) if hourly else (DAY_MS,):
                counted = Counter(
                    ((row[0], name, row[1] - row[1] % span, row[column]), number) for row, number in zip(timed, bins)
                )
                by_cell: dict[Cell, dict[int, int]] = {}
                for (cell, number), count in counted.items():
                    by_cell.setdefault(cell, {})[number] = count
                for cell, counts in by_cell.items():
                    both = made[span].setdefault(cell, [spread.EMPTY] * len(_KEYS))
                    both[place] = spread.of_counts(counts)
    return made


def put(connection: sqlite3.Connection, found: Gathered) -> None:
    """Add what was gathered, unless another did it meanwhile."""
    moved = connection.execute("UPDATE spread_to SET arrival = ? WHERE arrival = ?", (found.upto, found.before))
    if moved.rowcount:
        for span, cells in found.added.items():
            _add(connection, TABLES[span], cells)


def _add(connection: sqlite3.Connection, table: str, cells: Cells) -> None:
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


def _known(connection: sqlite3.Connection, table: str, keys: Sequence[Cell]) -> Iterator[Any]:
    places = ", ".join(["(?, ?, ?, ?)"] * len(keys))
    return connection.execute(
        f"SELECT t.project_id, t.dimension, t.start_ms, t.value, {', '.join(_KEYS)} FROM (VALUES {places}) AS w "
        f"CROSS JOIN {table} AS t ON t.project_id = w.column1 AND t.dimension = w.column2 "
        "AND t.start_ms = w.column3 AND t.value = w.column4",
        [part for key in keys for part in key],
    )


def add(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Spread receipts, as `cells_of` takes them, that no spread has yet, in the transaction the connection is in."""
    for span, cells in cells_of(rows).items():
        _add(connection, TABLES[span], cells)
