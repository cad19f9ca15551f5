"""Statements that change the file, each run by the writer inside its transaction.

Owns exactly-once: what is already there is found under the write lock, so that two senders of the same
receipt cannot both be first.
"""

from __future__ import annotations

import functools
import json
import operator
import sqlite3
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.model import MEASURES, OF_ENVELOPE, Added, Batch, Row
from aicostguard.ledger.rollup import RollUp, Sums, roll_up
from aicostguard.ledger.sqlite import arrived
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


@functools.lru_cache(maxsize=256)
def _insert(columns: tuple[str, ...]) -> str:
    unknown = set(columns) - set(COLUMNS)
    if unknown:  # names become SQL: they come from the closed list or not at all
        raise ValueError(f"no column {sorted(unknown)}")
    return f"INSERT INTO receipts ({quoted(columns)}) VALUES ({', '.join('?' * len(columns))})"


@functools.lru_cache(maxsize=64)
def _add(table: str, measures: tuple[str, ...]) -> str:
    """Add to sums; a measure that is not among `measures` is 0 in a new row and stays as it is in another."""
    unknown = {table, *measures} - {"hourly", "daily", *MEASURES}
    if unknown:
        raise ValueError(f"no column {sorted(unknown)}")
    amounts = ", ".join("?" if name in measures else "0" for name in MEASURES)
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in measures)
    return (
        f"INSERT INTO {table} (project_id, dimension, start_ms, value, {', '.join(MEASURES)}) "
        f"VALUES (?, ?, ?, ?, {amounts}) ON CONFLICT (project_id, dimension, start_ms, value) DO UPDATE SET {added}"
    )


class Ready(NamedTuple):
    """What a batch comes to if all of it is new: rows by the columns they fill, and its sums."""

    rows: Mapping[tuple[str, ...], list[tuple[Any, ...]]]
    sums: RollUp


def ready(batch: Batch, rows: Sequence[Row]) -> Ready:
    """Work out what these rows of a batch come to: outside the transaction, on the thread of whoever brings it."""
    return Ready(_by_columns(batch, rows), roll_up(rows, batch.origin))


def apply(connection: sqlite3.Connection, batch: Batch, all_new: Ready | None = None) -> Added:
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
        for columns, rows in all_new.rows.items():
            connection.executemany(_insert(columns), rows)
        sums = all_new.sums
        _add_sums(connection, _add("hourly", sums.measures), batch.project_id, sums.hourly)
        _add_sums(connection, _add("daily", sums.measures), batch.project_id, sums.daily)
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
    return known


@functools.lru_cache(maxsize=1024)
def _said(keys: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """For receipts with these keys: the columns they fill, and what reads their values in that order."""
    names = tuple(name for name in FIELDS if name in keys)
    if "tags" in names:
        return names, lambda receipt: tuple(_cell(receipt[name]) for name in names)
    return names, operator.itemgetter(*names)  # never one alone: two are required


def _by_columns(batch: Batch, rows: Sequence[Row]) -> dict[tuple[str, ...], list[tuple[Any, ...]]]:
    """Rows by the columns they fill: writing the few that say something is five times faster than all 54."""
    origin = {name: value for name, value in batch.origin.items() if value}
    project_id, epoch, received_ms, of_origin = batch.project_id, batch.epoch, batch.received_ms, tuple(origin.values())
    out: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for seq, at_ms, adjusted, receipt, cost, price_row, reason in rows:
        said, values = _said(tuple(receipt))
        into = out.get(said)
        if into is None:
            into = out[said] = []
        into.append(
            (project_id, epoch, seq, at_ms, received_ms, 1 if adjusted else 0, cost, price_row, reason)
            + of_origin
            + values(receipt)
        )
    return {(*_OWN, *origin, *said): made for said, made in out.items()}


def _cell(value: Any) -> Any:
    if type(value) is dict:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return value


def _add_sums(connection: sqlite3.Connection, statement: str, project_id: int, sums: Sums) -> None:
    # In key order: neighbours in the table are written one after the other.
    connection.executemany(statement, [(project_id, *key, *amounts) for key, amounts in sorted(sums.items())])


def _refuse(connection: sqlite3.Connection, batch: Batch) -> list[int]:
    """Remember what was refused, so that it is not taken for lost; returns the seqs that are new."""
    fresh: list[int] = []
    for item in batch.refusals:
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
