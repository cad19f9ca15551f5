"""What is known of receipts that are no longer rows: that they came, and of which days they are.

Owns exactly-once for archived receipts. No list of them is kept: the books of their process tell. Every number from 0
to its highest is stored, archived, in `gaps` or in `refusals`; what is in neither of the last two came and was taken.
Only what these books do not tell has a row of its own (`archived_apart`). If this is wrong, a late resend counts twice.
"""

from __future__ import annotations

import bisect
import sqlite3
from typing import Sequence

from aicostguard.ledger.model import DAY_MS

_CHUNK = 500


def known(connection: sqlite3.Connection, project_id: int, epoch: str, seqs: Sequence[int]) -> set[int]:
    """Which of these numbers came and were taken before, wherever they are now."""
    found = connection.execute(
        "SELECT max_seq FROM epochs WHERE project_id = ? AND epoch = ?", (project_id, epoch)
    ).fetchone()
    highest = -1 if found is None else found[0]
    # In the usual case all of them are above the highest that came, and this is all that is asked.
    low = sorted(seq for seq in seqs if seq <= highest)
    known: set[int] = set()
    if low:
        known = set(low) - _absent(connection, project_id, epoch, low)
    if epoch.startswith("bare:") or len(known) < len(low):
        known |= _apart(connection, project_id, epoch, [seq for seq in seqs if seq not in known])
    return known


def _absent(connection: sqlite3.Connection, project_id: int, epoch: str, seqs: Sequence[int]) -> set[int]:
    """Those that never came, or were refused."""
    absent: set[int] = set()
    between = (project_id, epoch, seqs[0], seqs[-1])
    # The gap that begins before the first may reach into them: one step to the left, not a scan.
    gaps = connection.execute(
        "SELECT first_seq, last_seq FROM gaps WHERE project_id = ?1 AND epoch = ?2 AND first_seq BETWEEN COALESCE(("
        "SELECT max(first_seq) FROM gaps WHERE project_id = ?1 AND epoch = ?2 AND first_seq <= ?3), ?3) AND ?4",
        between,
    )
    for first, last in gaps:
        absent.update(seqs[bisect.bisect_left(seqs, first) : bisect.bisect_right(seqs, last)])
    refused = connection.execute(
        "SELECT seq FROM refusals WHERE project_id = ? AND epoch = ? AND seq BETWEEN ? AND ?", between
    )
    return absent.union(seq for (seq,) in refused)


def _apart(connection: sqlite3.Connection, project_id: int, epoch: str, seqs: Sequence[int]) -> set[int]:
    apart: set[int] = set()
    for start in range(0, len(seqs), _CHUNK):
        chunk = seqs[start : start + _CHUNK]
        rows = connection.execute(
            "SELECT seq FROM archived_apart WHERE project_id = ? AND epoch = ? "
            f"AND seq IN ({', '.join('?' * len(chunk))})",
            (project_id, epoch, *chunk),
        )
        apart.update(seq for (seq,) in rows)
    return apart


def missing(connection: sqlite3.Connection, project_id: int, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """`(start of the day, receipts that are not here)` of the days that these spans of time touch."""
    days: dict[int, int] = {}
    for since, until in spans:
        rows = connection.execute(
            "SELECT day_ms, SUM(gone_rows) FROM archives WHERE project_id = ? AND day_ms > ? AND day_ms < ? "
            "AND gone_rows > 0 GROUP BY day_ms",
            (project_id, since - DAY_MS, until),
        )
        days.update(rows.fetchall())
    return sorted(days.items())


def being_archived(connection: sqlite3.Connection, project_id: int, since_ms: int, until_ms: int) -> bool:
    """Is a file being made of rows between these times? Then they must not change."""
    found = connection.execute(
        "SELECT 1 FROM archives WHERE project_id = ? AND day_ms > ? AND day_ms <= ? "
        "AND state IN ('writing', 'removing', 'restoring') LIMIT 1",
        (project_id, since_ms - DAY_MS, until_ms),
    ).fetchone()
    return found is not None
