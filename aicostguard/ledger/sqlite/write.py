"""Statements that change the file, each run by the writer inside its transaction.

Owns exactly-once: what is already there is found under the write lock, so that two senders of the same
receipt cannot both be first.
"""

from __future__ import annotations

import functools
import itertools
import json
import sqlite3
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.model import MEASURES, OF_ENVELOPE, Added, Batch, Row
from aicostguard.ledger.rollup import RollUp, Sums, roll_up
from aicostguard.ledger.sqlite import archived, arrived, room, tallies
from aicostguard.ledger.store import Prepare
from aicostguard.receipt import FIELDS

#: seqs looked up by one statement
_CHUNK = 500
#: envelopes and bytes of the inbox taken in by one transaction: other writers wait no longer than that
DRAIN_AT_ONCE = 100
DRAIN_BYTES = 2_000_000

_OF_BATCH = ("project_id", "epoch", "received_ms")
#: as in `Row`, which has the receipt in between
_OF_ROW = ("seq", "at_ms", "clock_adjusted", "cost_nanousd", "price_row", "unpriced_reason", "cache_savings_nanousd")
COLUMNS: tuple[str, ...] = (*_OF_BATCH, *_OF_ROW, *OF_ENVELOPE, *FIELDS)


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


class Many(NamedTuple):
    """Values for a statement that takes many rows: `head VALUES row, row, … tail`.

    A row is `shared`, which all of them begin with and which are bound once, then its own values, written as `own`.
    """

    head: str
    own: str
    tail: str
    shared: tuple[Any, ...]
    rows: Sequence[tuple[Any, ...]]


def add(table: str, measures: tuple[str, ...], project_id: int, sums: Sums) -> Many:
    """Add to sums; a measure that is not among `measures` is 0 in a new row and stays as it is in another."""
    unknown = {table, *measures} - {"hourly", "daily", *MEASURES}
    if unknown:
        raise ValueError(f"no column {sorted(unknown)}")
    amounts = ", ".join("?" if name in measures else "0" for name in MEASURES)
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in measures)
    return Many(
        f"INSERT INTO {table} (project_id, dimension, start_ms, value, {', '.join(MEASURES)})",
        f"?, ?, ?, {amounts}",
        f" ON CONFLICT (project_id, dimension, start_ms, value) DO UPDATE SET {added}",
        (project_id,),
        # In key order: neighbours in the table are written one after the other.
        [(*key, *sums[key]) for key in sorted(sums)],
    )


#: (statement, its values)
Step = tuple[str, list[Any]]
#: rows of one statement. While it runs, other threads have Python for themselves; a row at a time, each has to fight
#: for it again. Powers of two: a batch of any size takes few statements, and SQLite prepares few texts.
_SIZES = (256, 128, 64, 32, 16, 8, 4, 2, 1)


def steps(many: Many) -> Iterator[Step]:
    start = 0
    for size in _SIZES:
        text = _text(many.head, len(many.shared), many.own, many.tail, size)
        while len(many.rows) - start >= size:
            yield text, [*many.shared, *itertools.chain.from_iterable(many.rows[start : start + size])]
            start += size


@functools.lru_cache(maxsize=512)
def _text(head: str, shared: int, own: str, tail: str, size: int) -> str:
    row = "".join(f"?{place}, " for place in range(1, shared + 1)) + own
    return f"{head} VALUES {', '.join([f'({row})'] * size)}{tail}"


def add_up(connection: sqlite3.Connection, project_id: int, made: RollUp, given: Ready | None = None) -> None:
    """Add to sums, names that a day has no room for as `room` says. `given` was worked out as if all had it."""
    asked, by = (given.asked, given.by) if given else (room.asked(made), (0, ""))
    fitted = room.fit(connection, project_id, made, asked, *by)
    for statement, values in given.summed if given and fitted is made else changed(project_id, fitted):
        connection.execute(statement, values)


def changed(project_id: int, made: RollUp) -> list[Step]:
    """What adding to sums takes: the one way in which they change, so that what is made of them knows of it."""
    return [
        *steps(add("hourly", made.measures, project_id, made.hourly)),
        *steps(add("daily", made.measures, project_id, made.daily)),
        *tallies.spoil(project_id, {start for _, start, _ in made.daily}),
    ]


class Ready(NamedTuple):
    """What storing some rows takes, and their sums, if there is room for all names; who brings them, and when."""

    stored: Sequence[Step]
    made: RollUp
    summed: Sequence[Step]
    asked: Mapping[room.Day, int]
    by: tuple[int, str]


def ready(batch: Batch, rows: Sequence[Row]) -> Ready:
    """What storing these rows of a batch and their sums takes, if they are new.

    Worked out outside the transaction, on the thread of whoever brings it.
    """
    made = roll_up(rows, batch.origin)
    by = (batch.received_ms, batch.origin.get("service", ""))
    return Ready([*steps(_insert(batch, rows))], made, changed(batch.project_id, made), room.asked(made), by)


def apply(connection: sqlite3.Connection, batch: Batch, all_new: Ready | None = None) -> Added:
    """Store what is new of a batch, with its sums. Raises `Refused` for a bare key that was used otherwise.

    `all_new` is `ready` of all its rows, worked out before it could be known what is new.
    """
    if batch.bare_key is not None:
        _check_bare(connection, batch)
    highest = arrived.highest(connection, batch)
    fresh = _fresh(connection, batch, highest)
    if fresh:
        if all_new is None or len(fresh) < len(batch.rows):
            all_new = ready(batch, fresh)
        for statement, values in all_new.stored:
            connection.execute(statement, values)
        add_up(connection, batch.project_id, all_new.made, all_new)
        arrived.remember(connection, batch, fresh)
    if not batch.epoch.startswith("bare:"):
        arrived.note(connection, batch, highest, fresh, _refuse(connection, batch))
    return Added(len(fresh), len(batch.rows) - len(fresh))


def _fresh(connection: sqlite3.Connection, batch: Batch, highest: int) -> Sequence[Row]:
    """The rows that are not there yet, each once: the same seq may stand twice in one envelope."""
    seqs = [row.seq for row in batch.rows]
    # Above the highest seq that ever came nothing can be there; were it otherwise, the key of the table would say so.
    above = not batch.epoch.startswith("bare:") and min(seqs, default=0) > highest
    if above and len(set(seqs)) == len(seqs):
        return batch.rows
    known = set() if above else _known(connection, batch, seqs)
    fresh: list[Row] = []
    for row in batch.rows:
        if row.seq not in known:
            known.add(row.seq)
            fresh.append(row)
    return fresh


def _check_bare(connection: sqlite3.Connection, batch: Batch) -> None:
    found = connection.execute(
        "SELECT body_hash FROM bare_receipts WHERE project_id = ? AND key_hash = ?", (batch.project_id, batch.bare_key)
    ).fetchone()
    if found is None:
        connection.execute(
            "INSERT INTO bare_receipts (project_id, key_hash, body_hash, received_ms) VALUES (?, ?, ?, ?)",
            (batch.project_id, batch.bare_key, batch.bare_body, batch.received_ms),
        )
    elif found[0] != batch.bare_body:
        raise Refused(422, "was used before with another body; a new receipt needs a new key", "Idempotency-Key")


def _known(connection: sqlite3.Connection, batch: Batch, seqs: Sequence[int]) -> set[int]:
    known: set[int] = set()
    for start in range(0, len(seqs), _CHUNK):
        chunk = seqs[start : start + _CHUNK]
        places = ", ".join("?" * len(chunk))
        known.update(
            seq
            for (seq,) in connection.execute(
                f"SELECT seq FROM receipts WHERE project_id = ? AND epoch = ? AND seq IN ({places})",
                (batch.project_id, batch.epoch, *chunk),
            )
        )
    return known | archived.known(connection, batch.project_id, batch.epoch, [seq for seq in seqs if seq not in known])


def _insert(batch: Batch, rows: Sequence[Row]) -> Many:
    """The rows, in the columns that something is said in: binding those few is five times faster than all 54."""
    receipts = [row.receipt for row in rows]
    names = _columns(frozenset().union(*receipts))
    origin = {name: value for name, value in batch.origin.items() if value}
    columns = (*_OF_BATCH, *origin, *_OF_ROW, *names)
    unknown = set(columns) - set(COLUMNS)
    if unknown:  # names become SQL: they come from the closed list or not at all
        raise ValueError(f"no column {sorted(unknown)}")
    said = [[receipt.get(name) for receipt in receipts] for name in names]
    if "tags" in names:
        place = names.index("tags")
        said[place] = [None if tags is None else _tags(tags) for tags in said[place]]
    seqs, times, adjusted, _, *priced = zip(*rows)
    return Many(
        # FAIL: what is left of a statement that fails is undone with its job; SQLite need not be able to, page by page.
        f"INSERT OR FAIL INTO receipts ({quoted(columns)})",
        ", ".join("?" * (len(columns) - len(_OF_BATCH) - len(origin))),
        "",
        (batch.project_id, batch.epoch, batch.received_ms, *origin.values()),
        list(zip(seqs, times, map(int, adjusted), *priced, *said)),
    )


#: sets of receipt columns that were stored lately, the latest last: SQLite prepares a statement for each of them
_lately: list[tuple[str, ...]] = []
_MOST_SETS, _MOST_IDLE = 16, 4


def _columns(said: frozenset[str]) -> tuple[str, ...]:
    """Columns to store: those that something is said in, or a set used lately that has few more."""
    for names in _lately:
        if len(names) - len(said) <= _MOST_IDLE and said.issubset(names):
            return names
    names = tuple(name for name in FIELDS if name in said)
    _lately[:] = [*_lately[1 - _MOST_SETS :], names]
    return names


def _tags(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _refuse(connection: sqlite3.Connection, batch: Batch) -> list[int]:
    """Remember what was refused, so that it is not taken for lost; returns the seqs that are new."""
    fresh: list[int] = []
    stored = archived.known(connection, batch.project_id, batch.epoch, [item.seq for item in batch.refusals])
    for item in batch.refusals:
        if item.seq in stored:  # it came before, and was taken
            continue
        new = connection.execute(
            "INSERT INTO refusals (project_id, epoch, seq, received_ms, field, error) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            (batch.project_id, batch.epoch, item.seq, batch.received_ms, item.field, item.error),
        ).rowcount
        if new:
            fresh.append(item.seq)
    return fresh


def drain(connection: sqlite3.Connection, prepare: Prepare) -> int:
    """Take in one round of the inbox and delete what was taken; returns how many envelopes there were."""
    sizes = connection.execute(
        "SELECT id, length(envelope) FROM inbox ORDER BY id LIMIT ?", (DRAIN_AT_ONCE,)
    ).fetchall()
    if not sizes:
        return 0
    project_id = default_project(connection)
    taken = size = 0
    for number, length in sizes:
        size += length
        if taken and size > DRAIN_BYTES:
            break
        taken += 1
        received_ms, envelope = connection.execute(
            "SELECT received_ms, envelope FROM inbox WHERE id = ?", (number,)
        ).fetchone()
        data = envelope if isinstance(envelope, bytes) else str(envelope).encode()
        try:
            batch = prepare(project_id, data, received_ms)
            if batch.scores:
                from aicostguard.ledger.sqlite import scored  # which stands on this module

                scored.put(connection, project_id, batch.scores)
            else:
                apply(connection, batch)
        except LedgerError as error:
            connection.execute(
                "INSERT INTO inbox_rejected (received_ms, envelope, error) VALUES (?, ?, ?)",
                (received_ms, data, f"{getattr(error, 'field', '')} {error}".strip()),
            )
        connection.execute("DELETE FROM inbox WHERE id = ?", (number,))
    return taken


def default_project(connection: sqlite3.Connection) -> int:
    """The first project; made, with its organisation, when there is none."""
    found = connection.execute("SELECT min(id) FROM projects").fetchone()[0]
    if found is not None:
        return int(found)
    now = "CAST(strftime('%s', 'now') AS INTEGER) * 1000"
    connection.execute(f"INSERT INTO organisations (id, name, created_ms) VALUES (1, 'default', {now})")
    connection.execute(f"INSERT INTO projects (id, organisation_id, name, created_ms) VALUES (1, 1, 'default', {now})")
    return 1
