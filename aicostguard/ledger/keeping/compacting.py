"""Free pages go back to the device: in small steps while the ledger is served, once its file is made for that.

Owns when a file shrinks. SQLite can cut a file piece by piece only if it was laid out so (`auto_vacuum`), and lays an
existing one out anew only in one go that holds every writer up: that is done beside the file, alone, and swapped in one
step. If this is wrong, a ledger is lost: the copy is verified before, and a file that was written to meanwhile is left.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Callable, NamedTuple

from aicostguard.ledger.errors import Busy, Corrupt
from aicostguard.ledger.keeping.pace import Pace, alone
from aicostguard.ledger.sqlite import SqliteStore, contents, copying, file
from aicostguard.ledger.sqlite.hold import Hold

_INCREMENTAL = 2
#: free pages that stay, for what comes next
KEPT = 256
#: pages that one step gives back at most
_STEP = 128
_TRIES = 3


class Compacted(NamedTuple):
    """What was done: sizes in bytes, and whether it was in steps beside ingest, or in one go."""

    before: int
    after: int
    in_steps: bool


def shrinks(store: SqliteStore) -> bool:
    """Can the file be cut while it is served?"""
    return _look(store, "auto_vacuum") == _INCREMENTAL


def in_steps(store: SqliteStore, stop: Callable[[], bool] = lambda: False) -> Compacted:
    """Give free pages back, some at a time. Only for a file that `shrinks`. Raises `Busy`."""
    before = os.path.getsize(store.path)
    pace = Pace(store, stop)
    with alone(store.path):
        while _look(store, "freelist_count") > KEPT:
            pace.do(_cut, max(1, min(_STEP, pace.size)))
    _checkpoint(store.path)
    return Compacted(before, os.path.getsize(store.path), True)


def in_one_go(path: str) -> Compacted:
    """Lay the file out anew beside it, and put it in place. Raises `Busy` while anybody has it open, `LedgerError`."""
    path = os.path.realpath(path)
    copying._must_exist(path)
    hold = Hold(path)
    try:
        if not hold.alone(copying._ALONE_S):
            raise Busy(
                f"{path} is open. It was never compacted, and that cannot be done under writers: stop `aicg serve` "
                "this once. From then on it shrinks while it is served"
            )
        before = os.path.getsize(path)
        with file.explained(path), copying._part(path) as part, contextlib.closing(_plain(path)) as connection:
            file.version(connection, path)
            for _ in range(_TRIES):
                if _laid_out(connection, part):
                    break
            else:
                raise Busy(f"a program writes into {path} all the time; end it, then try again")
            if contents.read(connection) != _verified(part):
                raise Corrupt(f"the copy of {path} does not hold what it holds; it was thrown away. Check the device")
            copying._give(part, path)
            # Still locked: an agent's sink that waits for the lock finds the file renamed, and keeps its receipts.
            copying._into_place(part, path)
        return Compacted(before, os.path.getsize(path), False)
    finally:
        hold.close()


def _plain(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=copying._ALONE_S, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = DELETE")  # one file, whose lock keeps everybody out
    except BaseException:
        connection.close()
        raise
    return connection


def _laid_out(connection: sqlite3.Connection, part: str) -> bool:
    """Copy the file as it shall be, then lock it. False when somebody wrote between the two."""
    os.truncate(part, 0)
    version = _number(connection, "data_version")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("VACUUM INTO ?", (part,))
    connection.execute("BEGIN EXCLUSIVE")
    if _number(connection, "data_version") == version:
        return True
    connection.execute("ROLLBACK")
    return False


def _verified(part: str) -> contents.Contents:
    with contextlib.closing(copying._plain(part)) as connection:
        found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if found != "ok" or _number(connection, "auto_vacuum") != _INCREMENTAL:
            raise Corrupt(f"{part}, laid out anew, is not whole ({found.splitlines()[0]}); it was thrown away")
        return contents.read(connection)


def _cut(connection: sqlite3.Connection, pages: int) -> None:
    connection.execute(f"PRAGMA incremental_vacuum({pages:d})").fetchall()


def _checkpoint(path: str) -> None:
    """Until the WAL is copied into the file, the file is as long as it was."""
    with contextlib.closing(file.connect(path, write=True)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _look(store: SqliteStore, name: str) -> int:
    return store.look(lambda connection: _number(connection, name))


def _number(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
