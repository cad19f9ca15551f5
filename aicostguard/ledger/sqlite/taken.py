"""What was taken in, counted since a moment and never less: what Prometheus and OpenTelemetry are told as counters.

Owns `taken` and `taken_to`: for each set of labels one row that only grows, and the point in `arrivals` up to which
they go. The two move in one transaction, so each receipt is counted once, whatever is killed when.

Why not the sums: they say what calls cost as it is known now. Repricing lowers them, a day ends. A counter that goes
down is taken for one that began anew, and its whole value for what has come since: a graph would show a month's money
in a minute. So this counts what came, at the price that it came with (repriced within the second: the new one), and
what is done to receipts afterwards changes nothing here. What calls cost is asked of the sums; `spend` tells both.

Nobody pays for it who does not ask: it begins with the first question (`begin`), and a file that is restored begins
anew. If a row were to shrink, every rate that is made of it would be wrong.
"""

from __future__ import annotations

import bisect
import json
import operator
import secrets
import sqlite3
from typing import Any, NamedTuple, Sequence

from aicostguard.ledger.model import FLAGGED, OTHER
from aicostguard.usage import INPUT_PARTS, OUTPUT_PARTS

#: what a row is of, beside its project
LABELS = ("provider", "model", "operation", "feature", "team", "environment")
#: those that are kept where there is no room for a set with all of them
_KEPT = LABELS[:3]
#: measures that are counted; part of a released step of `schema`, so what came later has a name of its own
_FIRST: tuple[str, ...] = (
    *("cost_nanousd", "calls", "unpriced_calls", *FLAGGED.values()),
    *("input_tokens", "output_tokens", *INPUT_PARTS, *OUTPUT_PARTS, "latency_ms"),
)
#: what is billed by something else than the token
UNITS: tuple[str, ...] = (
    "images",
    "characters",
    "audio_ms",
    "video_ms",
    "web_searches",
    "tool_calls_billed",
    "search_units",
    "requests_billed",
)
COUNTED = _FIRST + UNITS
TOKEN_BOUNDS = tuple(4**power for power in range(14))
#: column of a receipt → bounds of its histogram, as the GenAI conventions advise them; durations in milliseconds here
BOUNDS = {
    "input_tokens": TOKEN_BOUNDS,
    "output_tokens": TOKEN_BOUNDS,
    "latency_ms": tuple(10 * 2**power for power in range(14)),
}
#: sets of labels that a project has rows for, and all projects together; then as many again with the first labels
#: alone, then one row for all the rest. Who came first stays: a row that moved would shrink another.
MOST, MOST_OF_ALL = 1_000, 4_000
#: runs of receipts counted at a time: a run is at most an envelope
RUNS_AT_ONCE = 100

#: Part of `schema`, whose rules hold here.
TAKEN = (
    f"""CREATE TABLE taken (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    {" ".join(f"{name} TEXT NOT NULL," for name in LABELS)}
    {" ".join(f"{name} INTEGER NOT NULL," for name in _FIRST)}
    {" ".join(f"{name}_spread TEXT NOT NULL," for name in BOUNDS)}
    UNIQUE (project_id, {", ".join(LABELS)})
) STRICT""",
    "CREATE TABLE taken_to (arrival INTEGER NOT NULL, since_ms INTEGER NOT NULL, instance TEXT NOT NULL) STRICT",
)
#: Another step, for files that counted before: those units from then on.
TAKEN_UNITS = tuple(f"ALTER TABLE taken ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0" for name in UNITS)

_SPREADS = tuple(f"{name}_spread" for name in BOUNDS)
_KEY = ("project_id", *LABELS)
_ROW = (*_KEY, *COUNTED, *_SPREADS)
_IS = " AND ".join(f"{name} = ?" for name in _KEY)
#: columns of a receipt that are added up as they are → the measure
_ADDED = {**FLAGGED, **{name: name for name in COUNTED if name.endswith(("_tokens", "_ms")) or name in UNITS}}
_COLUMNS = ("r.project_id", *(f"COALESCE(r.{name}, '')" for name in LABELS), "r.cost_nanousd")
_COLUMNS += tuple(f"r.{name}" for name in _ADDED)

#: a project's number and a set of labels
Key = tuple[int, tuple[str, ...]]


class Since(NamedTuple):
    """From when on is counted, and by whom: another moment, or another ledger's file, has another `instance`."""

    since_ms: int
    instance: str


class Row(NamedTuple):
    """One set of labels. `spreads` holds for each of `BOUNDS` how many lie in each interval, the last open."""

    project_id: int
    labels: tuple[str, ...]
    sums: dict[str, int]
    spreads: dict[str, list[int]]


class Gathered(NamedTuple):
    """What the arrivals behind `before` up to `upto` add to which rows."""

    before: int
    upto: int
    instance: str
    rows: list[Row]


def begin(connection: sqlite3.Connection, now_ms: int) -> None:
    """Count from here on, unless that is done already."""
    connection.execute(
        "INSERT INTO taken_to SELECT COALESCE((SELECT max(id) FROM arrivals), 0), ?, ? "
        "WHERE NOT EXISTS (SELECT 1 FROM taken_to)",
        (now_ms, secrets.token_hex(16)),
    )


def anew(connection: sqlite3.Connection) -> None:
    """Forget what was counted: a copy of the file is another ledger, and one that was put back counts from nothing."""
    connection.execute("DELETE FROM taken")
    connection.execute("DELETE FROM taken_to")


def since(connection: sqlite3.Connection) -> Since | None:
    """None while nobody has asked."""
    found = connection.execute("SELECT since_ms, instance FROM taken_to").fetchone()
    return None if found is None else Since(*found)


def rows(connection: sqlite3.Connection, projects: Sequence[int]) -> list[Row]:
    """What was counted of these projects, in the order in which their sets came."""
    found = connection.execute(
        f"SELECT {', '.join(_ROW)} FROM taken WHERE project_id IN ({', '.join(f'{one:d}' for one in projects)}) "
        "ORDER BY id"
    )
    width = len(_KEY)
    return [
        Row(
            row[0],
            row[1:width],
            dict(zip(COUNTED, row[width:])),
            dict(zip(BOUNDS, map(json.loads, row[-len(BOUNDS) :]))),
        )
        for row in found
    ]


def gather(connection: sqlite3.Connection) -> Gathered | None:
    """The next arrivals, added up by the row that they belong to; None when there are none, or nobody has asked.

    Which row has room is decided here, away from the write lock: as long as nobody moved the point, no row was made.
    """
    connection.execute("BEGIN")
    try:
        found = connection.execute("SELECT arrival, instance FROM taken_to").fetchone()
        if found is None:
            return None
        before, instance = found
        upto = connection.execute(
            "SELECT max(id) FROM (SELECT id FROM arrivals WHERE id > ? ORDER BY id LIMIT ?)", (before, RUNS_AT_ONCE)
        ).fetchone()[0]
        if upto is None:
            return None
        # Everything in one row: for each row the thread has to get hold of Python, which ingest wants as well.
        columns = connection.execute(
            f"SELECT {', '.join(f'json_group_array({column})' for column in _COLUMNS)} "
            "FROM arrivals AS a CROSS JOIN receipts AS r "
            "ON r.project_id = a.project_id AND r.epoch = a.epoch AND r.seq BETWEEN a.first_seq AND a.last_seq "
            "WHERE a.id > ? AND a.id <= ?",
            (before, upto),
        ).fetchone()
        projects, *said = map(json.loads, columns)
        members = _placed(connection, projects, list(zip(*said[: len(LABELS)])))
    finally:
        connection.execute("COMMIT")
    rest = said[len(LABELS) :]
    return Gathered(before, upto, instance, [_row(key, places, rest) for key, places in members.items()])


def _row(key: Key, places: Sequence[int], columns: Sequence[Sequence[Any]]) -> Row:
    """What the receipts at these places of the columns add to a row."""
    costs, *others = ([column[place] for place in places] for column in columns)
    sums = dict.fromkeys(COUNTED, 0)
    sums.update(cost_nanousd=sum(filter(None, costs)), calls=len(places), unpriced_calls=costs.count(None))
    spreads = {}
    for (name, measure), values in zip(_ADDED.items(), others):
        sums[measure] = sum(filter(None, values))
        if name in BOUNDS:
            counts = spreads[name] = [0] * (len(BOUNDS[name]) + 1)
            for value in values:
                if value is not None:
                    counts[bisect.bisect_left(BOUNDS[name], value)] += 1
    return Row(*key, sums, {name: spreads[name] for name in BOUNDS})


def _placed(
    connection: sqlite3.Connection, projects: Sequence[int], labels: Sequence[tuple[str, ...]]
) -> dict[Key, list[int]]:
    """Which receipts, by their places, belong to which rows: those that there are, and those that there is room for."""
    count = dict(connection.execute("SELECT project_id, count(*) FROM taken GROUP BY 1"))
    known: dict[Key, bool] = {}
    chosen: dict[Key, Key] = {}
    out: dict[Key, list[int]] = {}

    def there(key: Key) -> bool:
        if key not in known:
            known[key] = bool(connection.execute(f"SELECT 1 FROM taken WHERE {_IS}", (key[0], *key[1])).fetchone())
        return known[key]

    def choose(key: Key) -> Key:
        project_id, full = key
        fewer = (*full[: len(_KEPT)], *[OTHER] * (len(LABELS) - len(_KEPT)))
        for wanted, times in (((project_id, full), 1), ((project_id, fewer), 2)):
            own, of_all = count.get(project_id, 0), sum(count.values())
            if there(wanted) or (own < times * MOST and of_all < times * MOST_OF_ALL):
                return wanted
        return project_id, (OTHER,) * len(LABELS)

    for place, key in enumerate(zip(projects, labels)):
        if key not in chosen:
            row = chosen[key] = choose(key)
            if not there(row):
                known[row] = True
                count[row[0]] = count.get(row[0], 0) + 1
        out.setdefault(chosen[key], []).append(place)
    return out


def put(connection: sqlite3.Connection, found: Gathered) -> None:
    """Add what was gathered, unless another did it meanwhile."""
    moved = connection.execute(
        "UPDATE taken_to SET arrival = ? WHERE arrival = ? AND instance = ?", (found.upto, found.before, found.instance)
    )
    for row in found.rows if moved.rowcount else ():
        key = (row.project_id, *row.labels)
        known = connection.execute(f"SELECT {', '.join(_SPREADS)} FROM taken WHERE {_IS}", key).fetchone()
        nothing = [[0] * len(counts) for counts in row.spreads.values()]
        had = nothing if known is None else list(map(json.loads, known))
        spreads = [
            json.dumps(list(map(operator.add, *pair)), separators=(",", ":")) for pair in zip(had, row.spreads.values())
        ]
        connection.execute(_UPSERT, (*key, *row.sums.values(), *spreads))


_UPSERT = f"INSERT INTO taken ({', '.join(_ROW)}) VALUES ({', '.join('?' * len(_ROW))}) ON CONFLICT DO UPDATE SET " + (
    ", ".join(
        [*(f"{one} = {one} + excluded.{one}" for one in COUNTED), *(f"{one} = excluded.{one}" for one in _SPREADS)]
    )
)
