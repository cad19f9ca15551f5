"""Opening a ledger file: is it ours, is it whole, is it of our version; and what SQLite's errors mean.

Owns connections and migrations. Never overwrites, renames or deletes a file that it cannot read. If this
misjudges a file, a ledger is lost or a start fails without a word of the way out.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import urllib.parse
from typing import Iterator

from aicostguard.ledger.errors import Busy, Corrupt, Full, LedgerError, Newer, NotWritable
from aicostguard.ledger.sqlite import backfill, wal
from aicostguard.ledger.sqlite.schema import APPLICATION_ID, MIGRATIONS, VERSION

#: STRICT tables came with this
OLDEST_SQLITE = (3, 37, 0)
#: what a start spends on looking for damage; a file that takes longer is checked in part, and that is said
CHECK_S = 10.0
#: above this not even a part fits: the pages of one table are checked in one go
CHECK_UP_TO_BYTES = 8 * 10**9
#: pages in the WAL (4 KB each) from which on SQLite copies them into the file
WAL_PAGES = 4000
#: how long one connection waits for another's write; the fair lock keeps our own writers apart before that
BUSY_MS = 10_000

_FULL = {sqlite3.SQLITE_FULL}
#: extended codes: the index beside the WAL could not grow
_FULL_TOO = {sqlite3.SQLITE_IOERR_SHMSIZE}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DENIED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}


def explain(path: str, error: sqlite3.Error) -> LedgerError:
    """The failure in the ledger's terms, with the file's name and the way out."""
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    text = str(error)
    if code in _CORRUPT or "malformed" in text or "not a database" in text:
        return corrupt(path, text)
    if code in _FULL or extended in _FULL_TOO:
        return Full(
            f"{path}: {text}; nothing of this request was stored. Make room on the device, or move the file "
            "(AICG_DATA_DIR, --db)"
        )
    if code in _BUSY:
        return Busy(f"{path} is in use by another process for too long ({text}); try again")
    if code in _DENIED:
        return NotWritable(f"{path}: {text}. Check that this user may write the file and its folder, or use --db")
    if code == sqlite3.SQLITE_IOERR:
        return NotWritable(
            f"{path}: {text} ({getattr(error, 'sqlite_errorname', 'SQLITE_IOERR')}); nothing of this request was "
            "stored. The device or its file system fails: see the system's log, and move the file to a sound one"
        )
    return LedgerError(f"{path}: {text}")


def corrupt(path: str, found: str) -> Corrupt:
    return Corrupt(
        f"{path} is damaged or no ledger ({found}). It was left as it is. The ways out: restore a backup "
        f"(`aicg restore FILE --force`, which keeps this one beside it); take over into another ledger what can still "
        f"be read (`aicg salvage {path} --db ANOTHER_FILE`); or begin a new one (`aicg serve --db ANOTHER_FILE`)"
    )


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn SQLite's errors raised inside into the ledger's."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(path, error) from error


def prepare_folder(path: str) -> None:
    """Make the file's folder, for this user alone. Raises `NotWritable`."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise NotWritable(
            f"the folder {folder} cannot be made: {error.strerror}. Set AICG_DATA_DIR or --db to a place this user "
            "may write"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotWritable(f"the folder {folder} cannot be written by this user. Set AICG_DATA_DIR or --db to another")


def connect(path: str, *, write: bool) -> sqlite3.Connection:
    """A connection in autocommit mode: transactions are begun and ended by name.

    Raises `Newer`; `Corrupt` for a stranger's file.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise LedgerError(f"this Python has SQLite {sqlite3.sqlite_version}; the ledger needs {needed} or later")
    connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        if write:
            version(connection, path)  # first: not a byte of another program's file changes
            _to_wal(connection)
            # FULL: what is acknowledged survives a power cut. Writers share commits, so it costs little.
            connection.execute("PRAGMA synchronous = FULL")
            # What is deleted is overwritten: a forgotten name must stand in no free page.
            connection.execute("PRAGMA secure_delete = ON")
            # Every batch touches the pages of hundreds of users' sums, and many batches the same ones: a quarter as
            # often, SQLite copies each from the WAL into the file a quarter as often.
            connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        else:
            connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cache_size = -16000")
        connection.execute("PRAGMA mmap_size = 268435456")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: str) -> sqlite3.Connection:
    """A connection that changes nothing, neither the file nor what lies beside it: a backup, or a damaged ledger."""
    uri = "file:" + urllib.parse.quote(os.path.abspath(path)) + "?mode=ro"
    if not os.path.exists(path + "-wal"):
        # Nobody has it open, or it would be there. Without this SQLite leaves an empty one behind.
        uri += "&immutable=1"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _to_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL, which needs the file alone for a moment: SQLite does not wait for that as it does for a lock."""
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def check_beside(path: str) -> None:
    """Look at what SQLite would throw away in silence. Only for a file that nobody else has open. Raises `Corrupt`."""
    try:
        if os.path.getsize(path) == 0 and os.path.getsize(f"{path}-wal") > 0:
            raise corrupt(path, "it is empty, but there is a WAL beside it: it was cut")
    except FileNotFoundError:
        pass
    try:
        found = wal.damage(path, CHECK_S)
    except OSError as error:
        raise NotWritable(f"{path}-wal cannot be read: {error.strerror}") from error
    if found is not None:
        raise corrupt(path, found)


def check(connection: sqlite3.Connection, path: str) -> bool:
    """Read the file and raise `Corrupt` if it is damaged. False when there was no time to read the whole of it."""
    if os.path.getsize(path) > CHECK_UP_TO_BYTES:
        return False
    deadline = time.monotonic() + CHECK_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError:
        if time.monotonic() > deadline:
            return False
        raise
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise corrupt(path, str(found).splitlines()[0])
    return True


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the file to this release's version, in one transaction. Raises `Newer`; `Corrupt` for a stranger's file."""
    if version(connection, path) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        known = version(connection, path)  # again: another process may have been faster
        for step in MIGRATIONS[known:]:
            for statement in step:
                connection.execute(statement)
            if step in backfill.AFTER:
                backfill.AFTER[step](connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def version(connection: sqlite3.Connection, path: str) -> int:
    """The file's version, 0 for one that no ledger has opened yet. Raises `Newer`; `Corrupt` for a stranger's file."""
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
    if mark == APPLICATION_ID:
        if found > VERSION:
            raise Newer(
                f"{path} was written by a newer release (version {found}; this one knows {VERSION}): "
                "upgrade aicostguard"
            )
        return found
    # Not ours yet: empty, or holding only what an agent's sink left before any ledger opened it.
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if mark or found or tables - {"inbox"}:
        raise corrupt(path, "it is another program's SQLite file")
    return 0
