"""Archived rows come back: each exactly once, as it was, without a change of any sum.

Owns the way back from a file to `receipts`. What is interrupted is simply run again. Once all rows are back, the file
is deleted: a receipt lies in one place.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Callable, Iterator, NamedTuple

from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.keeping import books, leftover, parquet
from aicostguard.ledger.keeping.books import Archive
from aicostguard.ledger.keeping.pace import Pace, alone
from aicostguard.ledger.keeping.retention import Say, day, folder
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.sqlite import SqliteStore

#: days for which retention leaves restored rows alone, unless told otherwise
FOR_DAYS = 30


class Verified(NamedTuple):
    """One archive, and what is wrong with its file; None when nothing is."""

    archive: Archive
    problem: str | None


def verify(store: SqliteStore) -> Iterator[Verified]:
    """Read every file: is it as it was written, and does it hold what the ledger's record says?"""
    for item in store.look(lambda connection: books.archives(connection, "file <> '' AND state <> 'restored'")):
        path = os.path.join(folder(store), item.file)
        try:
            parquet.check(path, item.sha256)
            rows, sums = 0, dict.fromkeys(item.sums, 0)
            names = parquet.names(path)
            for page in parquet.read(path, names):
                rows += len(page)
                sums = parquet.added(sums, parquet.summed(names, page))
        except LedgerError as error:
            yield Verified(item, str(error))
            continue
        wrong = (rows, sums) != (item.rows, item.sums)
        yield Verified(item, f"{path} holds {rows} receipts whose sums are not those of the record" if wrong else None)


def restore(
    store: SqliteStore,
    wanted: list[Archive],
    now_ms: int,
    *,
    for_days: int = FOR_DAYS,
    say: Say = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Bring rows back; gives how many. Raises `Corrupt` for a file that is not as it was written, `Busy`."""
    pace = Pace(store, stop)
    rows = 0
    with alone(store.path):
        leftover.clear(store, folder(store))
        for item in wanted:
            path = os.path.join(folder(store), item.file)
            parquet.check(path, item.sha256)
            pace.do(books.state, item.id, "restoring", now_ms)
            back = _back(pace, item, path)
            until = now_ms + for_days * DAY_MS
            pace.do(_restored, item, now_ms, until)
            leftover.clear(store, folder(store))
            say(f"{day(item.day_ms)}: {back:,} receipts are back")
            rows += back
    return rows


def _restored(connection: sqlite3.Connection, item: Archive, now_ms: int, until_ms: int) -> None:
    books.finish(connection, item.id, "restored", now_ms, until_ms)
    leftover.note(connection, item.file)


def _back(pace: Pace, item: Archive, path: str) -> int:
    known = pace.store.look(books.columns).names
    names = tuple(name for name in parquet.names(path) if name in known)
    back = 0
    for page in parquet.read(path, names):
        while page:
            chunk, page = page[: pace.size], page[pace.size :]
            back += pace.do(books.put_back, item.id, names, chunk)
    return back
