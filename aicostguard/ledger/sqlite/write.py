"""Statements that change the file, each run by the writer inside its transaction.

Owns exactly-once: what is already there is found under the write lock, so that two senders of the same
receipt cannot both be first.
"""

from __future__ import annotations

import functools
import itertools
import json
import sqlite3
from typing import Any, Iterable, Iterator, NamedTuple, Sequence

from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.model import MEASURES, OF_ENVELOPE, Added, Batch, Row
from aicostguard.ledger.rollup import Sums, roll_up
from aicostguard.ledger.sqlite import archived, arrived
from aicostguard.ledger.store import Prepare
from aicostguard.receipt import FIELDS

#: seqs looked up by one statement
_CHUNK = 500
#: envelopes and bytes of the inbox taken in by one transaction: other writers wait no longer than that
DRAIN_AT_ONCE = 100
DRAIN_BYTES = 2_000_000

_OWN = (
    *("project_id", "epoch", "seq", "at_ms", "received_ms", "clock_adjusted"),
    *("cost_nanousd", "price_row", "unpriced_reason"),
)
COLUMNS: tuple[str, ...] = (*_OWN, *OF_ENVELOPE, *FIELDS)


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


class Many(NamedTuple):
    """Values for a statement that takes many rows: `head VALUES one, one, … tail`."""

    head: str
    one: str
    tail: str
    rows: Sequence[tuple[Any, ...]]


def _insert(columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> Many:
    unknown = set(columns) - set(COLUMNS)
    if unknown:  # names become SQL: they come from the closed list or not at all
        raise ValueError(f"no column {sorted(unknown)}")
    return Many(f"INSERT INTO receipts ({quoted(columns)})", f"({', '.join('?' * len(columns))})", "", rows)


def add(table: str, measures: tuple[str, ...], project_id: int, sums: Sums) -> Many:
    """Add to sums; a measure that is not among `measures` is 0 in a new row and stays as it is in another."""
    unknown = {table, *measures} - {"hourly", "daily", *MEASURES}
    if unknown:
        raise ValueError(f"no column {sorted(unknown)}")
    amounts = ", ".join("?" if name in measures else "0" for name in MEASURES)
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in measures)
    return Many(
        f"INSERT INTO {table} (project_id, dimension, start_ms, value, {', '.join(MEASURES)})",
        f"(?, ?, ?, ?, {amounts})",
        f" ON CONFLICT (project_id, dimension, start_ms, value) DO UPDATE SET {added}",
        # In key order: neighbours in the table are written one after the other.
        [(project_id, *key, *sums[key]) for key in sorted(sums)],
    )


#: (statement, its values)
Step = tuple[str, list[Any]]
#: rows of one statement. While it runs, other threads have Python for themselves; a row at a time, each has to fight
#: for it again. Three sizes: SQLite prepares a text once and is asked for few of them.
_SIZES = (64, 8, 1)


def steps(many: Many) -> Iterator[Step]:
    start = 0
    for size in _SIZES:
        text = _text(many.head, many.one, many.tail, size)
        while len(many.rows) - start >= size:
            yield text, list(itertools.chain.from_iterable(many.rows[start : start + size]))
            start += size


@functools.lru_cache(maxsize=256)
def _text(head: str, one: str, tail: str, size: int) -> str:
    return f"{head} VALUES {', '.join([one] * size)}{tail}"


def ready(batch: Batch, rows: Sequence[Row]) -> list[Step]:
    """What storing these rows of a batch and their sums takes, if they are new.

    Worked out outside the transaction, on the thread of whoever brings it.
    """
    sums = roll_up(rows, batch.origin)
    return [
        *steps(_insert(*_table(batch, rows))),
        *steps(add("hourly", sums.measures, batch.project_id, sums.hourly)),
        *steps(add("daily", sums.measures, batch.project_id, sums.daily)),
    ]


def apply(connection: sqlite3.Connection, batch: Batch, all_new: Sequence[Step] | None = None) -> Added:
    """Store what is new of a batch, with its sums. Raises `Refused` for a bare key that was used otherwise.

    `all_new` is `ready` of all its rows, worked out before it could be known what is new.
    """
    if batch.bare_key is not None:
        _check_bare(connection, batch)
    known = _known(connection, batch)
    fresh: list[Row] = []
    for row in batch.rows:
        if row.seq not in known:
            known.add(row.seq)  # the same seq may stand twice in one envelope
            fresh.append(row)
    if fresh:
        if all_new is None or len(fresh) < len(batch.rows):
            all_new = ready(batch, fresh)
        for statement, values in all_new:
            connection.execute(statement, values)
        arrived.remember(connection, batch, fresh)
    if not batch.epoch.startswith("bare:"):
        arrived.note(connection, batch, fresh, _refuse(connection, batch))
    return Added(len(fresh), len(batch.rows) - len(fresh))


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


def _known(connection: sqlite3.Connection, batch: Batch) -> set[int]:
    seqs = [row.seq for row in batch.rows]
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


def _table(batch: Batch, rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The columns that something is said in, and the rows: binding those few is five times faster than all 54."""
    said = set().union(*[row.receipt for row in rows])
    names = [name for name in FIELDS if name in said]
    origin = {name: value for name, value in batch.origin.items() if value}
    project_id, epoch, received_ms, of_origin = batch.project_id, batch.epoch, batch.received_ms, tuple(origin.values())
    made = [
        (project_id, epoch, seq, at_ms, received_ms, 1 if adjusted else 0, cost, price_row, reason)
        + of_origin
        + tuple(map(receipt.get, names))
        for seq, at_ms, adjusted, receipt, cost, price_row, reason in rows
    ]
    if "tags" in said:
        place = len(_OWN) + len(origin) + names.index("tags")
        made = [(*row[:place], _cell(row[place]), *row[place + 1 :]) for row in made]
    return (*_OWN, *origin, *names), made


def _cell(value: Any) -> Any:
    if type(value) is dict:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return value


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
            apply(connection, prepare(project_id, data, received_ms))
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
