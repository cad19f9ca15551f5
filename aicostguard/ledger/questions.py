"""Questions that a program, or a person at a prompt, asks of a ledger's file: printed lines, and the rows behind them.

Owns which file is meant and what a line looks like. The figures are `views`'. What agents left in the file's inbox is
taken in first, so that a call is seen as soon as it is delivered; no server is needed. Money in rows is dollars; None
where not one call has a price, and calls without one are named beside the sum, never in it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
from typing import Any, Iterator, Mapping

from aicostguard import ledger
from aicostguard.ledger import views
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DAY_MS


def path_of(db: sqlite3.Connection | str | os.PathLike[str] | None) -> str:
    """The file that is meant. Raises ValueError for a connection to no file."""
    if isinstance(db, sqlite3.Connection):
        found = next((row[2] for row in db.execute("PRAGMA database_list") if row[1] == "main"), "")
        if not found:
            raise ValueError("db: this connection has no file; give one to a ledger's file, or its path")
        return str(found)
    if db is not None and not isinstance(db, (str, os.PathLike)):
        raise TypeError(f"db: must be a connection, a path or None, not {type(db).__name__}")
    return ledger.default_path() if db is None else os.fspath(db)


@contextlib.contextmanager
def asking(db: sqlite3.Connection | str | os.PathLike[str] | None) -> Iterator[views.Asker]:
    """One who asks that ledger. Raises `NotWritable` where there is none, ValueError for what cannot be asked."""
    store = ledger.open_ledger(path_of(db), create=False)
    try:
        yield views.Asker(store, store.default_project(), ledger.now_ms())
    except Refused as refused:
        raise ValueError(f"{refused.field}: {refused}" if refused.field else str(refused)) from None
    finally:
        store.close()


def daily_cost_by_model(
    db: sqlite3.Connection | str | os.PathLike[str] | None = None, date: str | datetime.date = "today"
) -> list[dict[str, Any]]:
    """Print what a UTC day (`2026-03-12`, `today`) has cost by model, the dearest first.

    Returns the rows: `[{model, calls, total_in, total_out, total_cost}]`.
    """
    with asking(db) as ask:
        rows = views.daily_cost_by_model(ask, str(date))
        unpriced = _unpriced(ask, "model", *views.day(ask, str(date)))
    for row in rows:
        print(f"{_name(row['model']):25s} {row['calls']:5d} calls  {_cost(row, unpriced.get(row['model'], 0))}")
    return rows


def cost_by_feature(
    db: sqlite3.Connection | str | os.PathLike[str] | None = None, days: int = 7
) -> list[dict[str, Any]]:
    """Print what the last days, to the moment, have cost by feature, the dearest first.

    Returns the rows: `[{feature, calls, total_cost, avg_latency}]`, latency in milliseconds.
    """
    days = _whole("days", days, 400)
    with asking(db) as ask:
        since = ask.iso(ask.now_ms - days * DAY_MS)
        rows, unpriced = views.features(ask, days), _unpriced(ask, "feature", since, "tomorrow")
    for row in rows:
        cost, latency = _cost(row, unpriced.get(row["feature"], 0)), row["avg_latency"]
        slow = "" if latency is None else f"  avg {latency:.0f}ms"
        print(f"{_name(row['feature']):20s} {row['calls']:5d} calls  {cost}{slow}")
    return rows


def latency_percentiles(
    db: sqlite3.Connection | str | os.PathLike[str] | None, model: str, hours: int = 24
) -> dict[str, int] | None:
    """`{p50, p95, p99, count}` of a model's calls in the last hours, in milliseconds, exact; None without calls."""
    hours = _whole("hours", hours, 9_600)
    with asking(db) as ask:
        return views.latency_percentiles(ask, model, hours)


def _whole(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{name}: {value!r} must be a whole number from 1 to {most}")
    return value


def _unpriced(ask: views.Asker, by: str, since: str, until: str) -> dict[str | None, int]:
    rows = ask(since=since, until=until, group_by=by, limit="10000")["rows"]
    return {row[by]: row["unpriced_calls"] for row in rows}


def _name(value: str | None) -> str:
    return "(none)" if value is None else value


def _cost(row: Mapping[str, Any], unpriced: int) -> str:
    if row["total_cost"] is None:
        return "unpriced"
    return f"${row['total_cost']:.2f}" + (f"  ({unpriced} unpriced)" if unpriced else "")
