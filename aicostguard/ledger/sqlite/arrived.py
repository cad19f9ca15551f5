"""What came of each process, and what did not: gaps and the order of arrival, kept with every batch.

Owns the tables `gaps` and `arrivals` and the account of a process in `epochs`. Runs inside the transaction that
stores the receipts, so that the account and the receipts cannot disagree, whatever order they come in and however
often. A gap is a run of seqs below the highest that came; in the usual case there is none, and nothing is written.
If this is wrong, lost receipts look delivered.
"""

from __future__ import annotations

import sqlite3
from typing import Iterable, Iterator, Sequence

from aicostguard.health import COUNTERS
from aicostguard.ledger.model import HOUR_MS, OF_ENVELOPE, Batch, Row

#: a receipt that took longer than this to arrive is late
LATE_MS = 300_000
#: an estimate of a clock is begun anew after this long: clocks are set right, and drift
OFFSET_FOR_MS = HOUR_MS
#: runs of arrivals that are remembered, and how often the older ones are forgotten
REMEMBERED, FORGET_EVERY = 20_000, 128

Run = tuple[int, int]

_ACCOUNT = ("missing", "duplicates", "late", "late_max_ms", "clock_adjusted", "offset_ms", "offset_since_ms", "ended")
_COLUMNS = (
    *("project_id", "epoch", "agent_version", *OF_ENVELOPE, "first_received_ms", "last_received_ms", "last_sent_ms"),
    *("min_seq", "max_seq", "received", "refused", *_ACCOUNT, *COUNTERS),
)
_ANEW = f"offset_ms IS NULL OR excluded.offset_since_ms - offset_since_ms > {OFFSET_FOR_MS}"
# Envelopes may arrive in any order: counters only grow within an epoch, so the larger ones are the later ones.
_QUOTED = ", ".join(f'"{name}"' for name in _COLUMNS)
_UPSERT = (
    f"INSERT INTO epochs ({_QUOTED}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT (project_id, epoch) DO UPDATE SET "
    + ", ".join(
        [
            *(f"{name} = max({name}, excluded.{name})" for name in ("last_received_ms", "last_sent_ms", "max_seq")),
            *(f"{name} = max({name}, excluded.{name})" for name in ("late_max_ms", "ended", *COUNTERS)),
            *(f"{name} = min({name}, excluded.{name})" for name in ("first_received_ms", "min_seq")),
            *(f"{name} = {name} + excluded.{name}" for name in ("received", "refused", "missing", "duplicates")),
            *(f"{name} = {name} + excluded.{name}" for name in ("late", "clock_adjusted")),
            f"offset_ms = CASE WHEN excluded.offset_ms IS NULL THEN offset_ms WHEN {_ANEW} THEN excluded.offset_ms "
            "ELSE max(offset_ms, excluded.offset_ms) END",
            "offset_since_ms = CASE WHEN excluded.offset_ms IS NULL THEN offset_since_ms "
            f"WHEN {_ANEW} THEN excluded.offset_since_ms ELSE offset_since_ms END",
        ]
    )
)


def highest(connection: sqlite3.Connection, batch: Batch) -> int:
    """The highest seq that ever came of the batch's process, refused ones included; -1 for none."""
    found = connection.execute(
        "SELECT max_seq FROM epochs WHERE project_id = ? AND epoch = ?", (batch.project_id, batch.epoch)
    ).fetchone()
    return -1 if found is None else int(found[0])


def note(
    connection: sqlite3.Connection, batch: Batch, before: int, fresh: Sequence[Row], refused: Sequence[int]
) -> None:
    """Enter a batch in the books.

    `before` is what `highest` said, `fresh` are the rows that were new, `refused` the seqs refused for the first time.
    """
    seqs = [row.seq for row in batch.rows] + [item.seq for item in batch.refusals]
    came = sorted({row.seq for row in fresh}.union(refused))
    missing = _close_gaps(connection, batch, before, runs(came)) if came else 0
    waits = [batch.received_ms - row.at_ms for row in fresh if not row.clock_adjusted]
    late = [wait for wait in waits if wait > LATE_MS]
    generated = max(batch.counters.get("generated", 0), max(seqs, default=-1) + 1)
    values = [batch.project_id, batch.epoch, batch.agent_version, *(batch.origin.get(name, "") for name in OF_ENVELOPE)]
    values += [batch.received_ms, batch.received_ms, batch.sent_ms]
    # An envelope may bring counters alone: then the bounds stay as they are.
    values += [min(seqs, default=2**53), max(seqs, default=-1), len(fresh), len(refused)]
    values += [missing, len(batch.rows) - len(fresh), len(late), max(late, default=0)]
    # What is salvaged says nothing of when it was sent.
    offset = batch.sent_ms - batch.received_ms if batch.sent_ms else None
    values += [sum(row.clock_adjusted for row in fresh), offset, batch.received_ms]
    values += [generated if batch.ended else -1, *(batch.counters.get(name, 0) for name in COUNTERS)]
    connection.execute(_UPSERT, values)


def remember(connection: sqlite3.Connection, batch: Batch, fresh: Sequence[Row]) -> None:
    """Write down that these rows came now, after all that came before."""
    number = 0
    for first, last in runs(sorted(row.seq for row in fresh)):
        number = (
            connection.execute(
                "INSERT INTO arrivals (project_id, epoch, first_seq, last_seq) VALUES (?, ?, ?, ?)",
                (batch.project_id, batch.epoch, first, last),
            ).lastrowid
            or 0
        )
    if number % FORGET_EVERY == 0:
        # Never what has not been taken in by the spreads and the counters, which have no other way to hear of it.
        connection.execute(
            "DELETE FROM arrivals WHERE id <= min(?1, (SELECT arrival FROM spread_to), "
            "COALESCE((SELECT arrival FROM taken_to), ?1))",
            (number - REMEMBERED,),
        )


def runs(seqs: Sequence[int]) -> Iterator[Run]:
    """Sorted numbers as runs `(first, last)` without a hole, each number once."""
    if seqs and seqs[-1] - seqs[0] == len(seqs) - 1:
        yield seqs[0], seqs[-1]
        return
    start = end = None
    for seq in seqs:
        if end is not None and seq == end + 1:
            end = seq
            continue
        if start is not None and end is not None:
            yield start, end
        start = end = seq
    if start is not None and end is not None:
        yield start, end


def _close_gaps(connection: sqlite3.Connection, batch: Batch, highest: int, came: Iterable[Run]) -> int:
    """Open the gaps that these runs jump over, close those that they fill; gives by how much is missing more."""
    change = 0
    for first, last in came:
        if first > highest + 1:
            _open(connection, batch, highest + 1, first - 1)
            change += first - highest - 1
        elif first <= highest:
            change -= _fill(connection, batch, first, min(last, highest))
        highest = max(highest, last)
    return change


def _open(connection: sqlite3.Connection, batch: Batch, first: int, last: int) -> None:
    connection.execute("INSERT INTO gaps VALUES (?, ?, ?, ?)", (batch.project_id, batch.epoch, first, last))


def _fill(connection: sqlite3.Connection, batch: Batch, first: int, last: int) -> int:
    """Take `first` to `last` out of the gaps; gives how many seqs that were."""
    key = (batch.project_id, batch.epoch)
    # The gap that begins before `first` may reach into it: one step to the left, not a scan.
    left = connection.execute(
        "SELECT max(first_seq) FROM gaps WHERE project_id = ? AND epoch = ? AND first_seq <= ?", (*key, first)
    ).fetchone()[0]
    touched = connection.execute(
        "SELECT first_seq, last_seq FROM gaps WHERE project_id = ? AND epoch = ? AND first_seq BETWEEN ? AND ? "
        "AND last_seq >= ?",
        (*key, first if left is None else left, last, first),
    ).fetchall()
    filled = 0
    for start, end in touched:
        connection.execute("DELETE FROM gaps WHERE project_id = ? AND epoch = ? AND first_seq = ?", (*key, start))
        if start < first:
            _open(connection, batch, start, first - 1)
        if end > last:
            _open(connection, batch, last + 1, end)
        filled += min(end, last) - max(start, first) + 1
    return filled
