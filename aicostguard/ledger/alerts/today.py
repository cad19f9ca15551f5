"""One function for programs that look for themselves: has today cost more than it should?

Owns its text, which is the source's. Reads the daily sums of the ledger's file; needs no server.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any, Callable
from urllib.parse import quote

from aicostguard.guard import rules
from aicostguard.ledger import default_path, now_ms, open_ledger
from aicostguard.ledger.alerts.words import daily
from aicostguard.ledger.model import DAY_MS, SMALLEST
from aicostguard.ledger.query import usd


def check_cost_alert(
    db: sqlite3.Connection | str | os.PathLike[str] | None = None,
    daily_limit: float | str = 50.0,
    send: Callable[[str], Any] | None = None,
) -> float:
    """What the UTC day has cost so far, in USD; `send` gets a line when that is more than `daily_limit`.

    `db` is a connection to a ledger's file, its path, or None for the default one. Of a file with several projects it
    is the first that counts, as in every question to a file: the sum is that of `daily_cost_by_model`. Calls without a
    price are in no sum. Raises ValueError for a limit that is no amount, `sqlite3.OperationalError` where there is no
    ledger.
    """
    limit = rules.decimal(daily_limit, 10**9)
    if limit is None:
        raise ValueError(f"daily_limit: {daily_limit!r} is no amount in USD: it must be 0 or more")
    if isinstance(db, sqlite3.Connection):
        spent = _spent(db)
    else:
        # Only read, and never made: a file that is not there is an error, not a day without cost.
        path = os.fspath(db or default_path())
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
            if connection.execute("SELECT 1 FROM inbox LIMIT 1").fetchone():
                open_ledger(path, create=False).close()  # what an agent left there counts, too
            spent = _spent(connection)
    if spent > limit and send is not None:
        shown = f"{float(daily_limit)}" if isinstance(daily_limit, float) else usd(limit)
        send(daily(spent, shown))
    return spent / 10**9


def _spent(connection: sqlite3.Connection) -> int:
    at_ms = now_ms()
    found = connection.execute(
        "SELECT SUM(cost_nanousd) FROM daily WHERE project_id = (SELECT MIN(id) FROM projects) AND dimension = ? "
        "AND start_ms = ?",
        (SMALLEST, at_ms - at_ms % DAY_MS),
    ).fetchone()[0]
    return int(found or 0)
