"""What can still be read of a ledger file, taken over into another one, each receipt once.

Owns the way around damaged pages. Reads a damaged file, or one that a restore put aside, and never writes to it;
receipts go the way of any others, so that what the other ledger has already is not counted again. Stored costs are
kept, with the record of what they were before they were repriced. If this fails half-way, it may be run again.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import sqlite3
from typing import Any, Callable, Iterator, NamedTuple

from aicostguard.health import COUNTERS
from aicostguard.ledger import ingest
from aicostguard.ledger.errors import NotWritable
from aicostguard.ledger.model import OF_ENVELOPE, Batch, Refusal, Row
from aicostguard.ledger.sqlite import SqliteStore, file, repriced, write
from aicostguard.receipt import FIELDS, check

#: rows read by one statement, and taken over by one transaction
_CHUNK = 500
#: tables taken over row by row, as they are
_AS_THEY_ARE = (
    "organisations",
    "projects",
    "keys",
    "key_uses",
    "people",
    "person_roles",
    "audit",
    "bare_receipts",
    "scores",
)
#: the same for a ledger that has no budgets of its own, whose numbers these would get mixed up with
_BUDGETS = ("budgets", "budget_revisions", "budget_openings", "tickets", "policies")
_LAST_ROWID = 2**62


class Salvaged(NamedTuple):
    """`taken` receipts are new to the ledger, `known` it had; `spoiled` ones were read but make no sense.

    `damage` is what SQLite said at the places that could not be read, each once; empty for a sound file.
    """

    taken: int
    known: int
    spoiled: int
    damage: tuple[str, ...]


def salvage(path: str, store: SqliteStore, progress: Callable[[int], None] | None = None) -> Salvaged:
    """Take over into `store` what can be read of the ledger file at `path`. Raises `LedgerError`."""
    if not os.path.isfile(path):
        raise NotWritable(f"there is no ledger at {path}")
    if os.path.samefile(path, store.path):
        raise NotWritable(f"{path} is the ledger itself; name another file with --db")
    with file.explained(path), contextlib.closing(file.connect_to_read(path)) as source:
        file.version(source, path)
        return _Salvage(source, store, progress).run()


class _Salvage:
    def __init__(self, source: sqlite3.Connection, store: SqliteStore, progress: Callable[[int], None] | None) -> None:
        self._source = source
        self._store = store
        self._progress = progress
        self._damage: dict[str, None] = {}
        self._taken = self._known = self._spoiled = 0

    def run(self) -> Salvaged:
        for table in _AS_THEY_ARE:
            self._table(table)
        if not self._store.look(lambda connection: connection.execute("SELECT 1 FROM budgets LIMIT 1").fetchone()):
            for table in _BUDGETS:
                self._table(table)
            # Of the other file's arrivals nothing is known here: they count anew, from what receipts there are.
            self._store.change(
                lambda connection: connection.execute(
                    "UPDATE budgets SET stale = 1, counted_to = COALESCE((SELECT max(id) FROM arrivals), 0)"
                )
            )
        for row in self._rows("epochs"):
            counters = {name: row.get(name) or 0 for name in COUNTERS}
            self._add(_of(row, counters=counters, ended=row.get("ended", -1) >= counters["generated"]))
        for row in self._rows("refusals"):
            self._add(_of(row, refusals=(Refusal(0, row["seq"], row["field"], row["error"]),)))
        for _, rows in itertools.groupby(self._receipts(), key=_from_one_envelope):
            for chunk in _cut(list(rows)):
                self._take(chunk)
        self._repricings()
        for row in self._rows("inbox"):
            self._leave(row)
        return Salvaged(self._taken, self._known, self._spoiled, tuple(self._damage))

    def _take(self, rows: list[dict[str, Any]]) -> None:
        good = [row for row in map(_row, rows) if row is not None]
        self._spoiled += len(rows) - len(good)
        added = self._add(_of(rows[0], rows=tuple(good)))
        self._taken += added.accepted
        self._known += added.duplicate
        if self._progress is not None:
            self._progress(self._taken + self._known)

    def _add(self, batch: Batch) -> Any:
        return self._store.add(batch)

    def _table(self, table: str) -> None:
        for rows in _cut(list(self._rows(table))):

            def insert(connection: sqlite3.Connection, rows: list[dict[str, Any]] = rows) -> None:
                wanted = _columns(connection, table)
                for row in rows:
                    names = [name for name in wanted if name in row]
                    places = ", ".join("?" * len(names))
                    connection.execute(
                        f"INSERT OR IGNORE INTO {table} ({write.quoted(names)}) VALUES ({places})",
                        [row[name] for name in names],
                    )

            self._store.change(insert)

    def _repricings(self) -> None:
        """The record of what costs were before: of receipts that cost here what the last of its acts made of them."""
        numbers = {}
        for act in self._rows("repricings"):
            numbers[act["id"]] = self._store.change(functools.partial(repriced.adopt, act=act))
        known = (row for row in self._rows("repriced") if row["repricing_id"] in numbers)
        receipts = (list(rows) for _, rows in itertools.groupby(known, key=_receipt_of))
        while chains := list(itertools.islice(receipts, _CHUNK)):
            for row in itertools.chain.from_iterable(chains):
                row["repricing_id"] = numbers[row["repricing_id"]]
            self._store.change(functools.partial(repriced.remember_changes, chains=chains))

    def _leave(self, row: dict[str, Any]) -> None:
        values = (row["received_ms"], row["envelope"])
        self._store.change(
            lambda connection: connection.execute("INSERT INTO inbox (received_ms, envelope) VALUES (?, ?)", values)
        )

    # Reading around what is damaged.

    def _receipts(self) -> Iterator[dict[str, Any]]:
        """Receipts in the order in which they were stored."""
        names = _columns(self._source, "receipts")
        after = -1
        while True:
            try:
                found = self._chunk(names, after, _CHUNK)
            except sqlite3.DatabaseError as error:
                self._damage[str(error)] = None
                found, after = self._near_damage(names, after)
                if not found and after >= _LAST_ROWID:
                    return
            else:
                if not found:
                    return
                after = found[-1][0]
            yield from (dict(zip(names, row[1:])) for row in found)

    def _chunk(self, names: list[str], after: int, count: int) -> list[tuple[Any, ...]]:
        return self._source.execute(
            f"SELECT rowid, {write.quoted(names)} FROM receipts WHERE rowid > ? ORDER BY rowid LIMIT ?", (after, count)
        ).fetchall()

    def _near_damage(self, names: list[str], after: int) -> tuple[list[tuple[Any, ...]], int]:
        """What can be read right behind `after`, and from where to go on: behind the damage."""
        found: list[tuple[Any, ...]] = []
        with contextlib.suppress(sqlite3.DatabaseError):
            while True:  # row by row up to the damage
                more = self._chunk(names, found[-1][0] if found else after, 1)
                if not more:
                    return found, _LAST_ROWID
                found += more
        edge = found[-1][0] if found else after
        step = 1
        while edge + step < _LAST_ROWID and not self._readable(names, edge + step):
            step *= 2
        if edge + step >= _LAST_ROWID:
            return found, _LAST_ROWID
        bad, good = edge + step // 2, edge + step
        while good - bad > 1:  # the first row behind the damage
            middle = (bad + good) // 2
            if self._readable(names, middle):
                good = middle
            else:
                bad = middle
        return found, good

    def _readable(self, names: list[str], after: int) -> bool:
        try:
            self._chunk(names, after, 1)
        except sqlite3.DatabaseError:
            return False
        return True

    def _rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Rows of a small table: from its start up to a damage, then from its end."""
        names = _columns(self._source, table)
        if not names:
            return
        key = [name for name, place in _keys(self._source, table)] or ["rowid"]
        seen: set[tuple[Any, ...]] = set()
        for direction in ("", " DESC"):
            order = ", ".join(f'"{name}"{direction}' for name in key)
            try:
                for values in self._source.execute(f"SELECT {write.quoted(names)} FROM {table} ORDER BY {order}"):
                    if values not in seen:
                        seen.add(values)
                        yield dict(zip(names, values))
                return
            except sqlite3.DatabaseError as error:
                self._damage[str(error)] = None


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _keys(connection: sqlite3.Connection, table: str) -> list[tuple[str, int]]:
    keys = [(row[1], row[5]) for row in connection.execute(f"PRAGMA table_info({table})") if row[5]]
    return sorted(keys, key=lambda key: key[1])


def _from_one_envelope(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["project_id"], row["epoch"], row["received_ms"], *(row.get(name) for name in OF_ENVELOPE))


def _receipt_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["project_id"], row["epoch"], row["seq"]


def _cut(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]


def _of(row: dict[str, Any], **more: Any) -> Batch:
    """A batch of the process that a row came from."""
    received_ms = row.get("received_ms") or row.get("last_received_ms") or 0
    return Batch(
        project_id=row["project_id"],
        epoch=row["epoch"],
        received_ms=received_ms,
        sent_ms=row.get("last_sent_ms") or 0,
        origin={name: row.get(name) or "" for name in OF_ENVELOPE},
        agent_version=row.get("agent_version") or "",
        **{"counters": {}, "rows": (), **more},
    )


def _row(values: dict[str, Any]) -> Row | None:
    """A stored receipt as it came in; None when a damage made it one that could not have been stored."""
    receipt: dict[str, Any] = {}
    for name, field in FIELDS.items():
        value = values.get(name)
        if value is None:
            continue
        if field.kind == "flag":
            value = value == 1
        elif field.kind == "tags":
            try:
                value = json.loads(value)
            except (ValueError, TypeError):
                return None
        receipt[name] = value
    cost = values["cost_nanousd"]
    numbers = (values["seq"], values["at_ms"], values["received_ms"], 0 if cost is None else cost)
    if check(receipt) or not all(type(number) is int and number >= 0 for number in numbers):
        return None
    if cost is not None and cost > ingest.MAX_COST_NANOUSD:
        return None
    return Row(
        values["seq"],
        values["at_ms"],
        bool(values["clock_adjusted"]),
        receipt,
        cost,
        values["price_row"],
        values["unpriced_reason"],
        saved if type(saved := values.get("cache_savings_nanousd")) is int else None,
    )
