"""A ledger file as a whole: copied while it is written to, verified, and put in place in one step.

Owns `backup` and `restore`. A file appears under its name only after it was verified and is on disk; a file
that was there is never deleted. If this is wrong, a backup is found to be none on the day it is needed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sqlite3
import stat
import time
from typing import Callable, Iterator, NamedTuple

from aicostguard.ledger.errors import Busy, Corrupt, Full, LedgerError, NotWritable
from aicostguard.ledger.sqlite import carried, contents, file, taken
from aicostguard.ledger.sqlite.contents import Contents
from aicostguard.ledger.sqlite.hold import Hold
from aicostguard.ledger.sqlite.schema import VERSION

#: called with (pages done, pages in all)
Progress = Callable[[int, int], None]

#: pages copied between two looks at the clock: 4 MB
_PAGES = 1024
#: how long a restore waits for a command that has the file open for a moment; a server has it for good
_ALONE_S = 2.0
_SIDE_FILES = ("-wal", "-shm", "-journal")


class Backup(NamedTuple):
    """A backup that was made: where, how large, how long it took, and what is in it."""

    path: str
    size: int
    seconds: float
    contents: Contents


class Restored(NamedTuple):
    """A restore that was done. `kept` is where the ledger that was there is now, `before` what it held if it could
    be read; `migrated_from` is the backup's schema version when it was older than this release's."""

    path: str
    contents: Contents
    kept: str | None
    before: Contents | None
    migrated_from: int | None


def backup(path: str, target: str, *, replace: bool = False, progress: Progress | None = None) -> Backup:
    """Copy the ledger at `path` to the file (or into the folder) `target`, as it is at this moment.

    Others may go on writing. The copy is one file without a WAL, for this user alone, its integrity checked and
    its rows and sums compared with the ledger's. Raises `LedgerError`; then `target` is as it was.
    """
    began = time.monotonic()
    path, target = os.path.realpath(path), os.path.realpath(target)
    _must_exist(path)
    if os.path.isdir(target):
        target = os.path.join(target, time.strftime("ledger-%Y%m%dT%H%M%SZ.db", time.gmtime()))
    if os.path.exists(target):
        if os.path.samefile(path, target):
            raise NotWritable(f"{target} is the ledger itself; name another file for the backup")
        if not replace:
            raise NotWritable(f"{target} exists already; choose another name, or replace it with --force")
        if any(os.path.exists(target + end) for end in _SIDE_FILES):
            raise NotWritable(f"{target} is in use as a ledger (it has a WAL beside it); choose another name")
    with _shared(path), _part(target) as part:
        with contextlib.closing(_reader(path, untouched=False)) as source:
            found = _copied(source, path, part, progress)
        _into_place(part, target)
    return Backup(target, os.path.getsize(target), time.monotonic() - began, found)


def restore(source: str, path: str, *, replace: bool = False, progress: Progress | None = None) -> Restored:
    """Put the backup `source` in place as the ledger at `path`; a ledger that is there is kept beside it.

    `source` is read, never changed. Keys of the ledger that was there stay valid, or revoked. Raises
    `LedgerError`, `Busy` while anybody has the ledger open; then the ledger is as it was.
    """
    source, path = os.path.realpath(source), os.path.realpath(path)
    _must_exist(source)
    file.prepare_folder(path)
    there = any(os.path.exists(path + end) for end in ("", *_SIDE_FILES))
    if os.path.exists(path) and os.path.samefile(source, path):
        raise NotWritable(f"{source} is the ledger itself; name the backup to restore from")
    if there and not replace:
        raise NotWritable(f"there is a ledger at {path}; with --force it is put aside, and kept")
    hold = Hold(path)
    try:
        if not hold.alone(_ALONE_S):
            raise Busy(f"{path} is open: stop `aicg serve`, and whatever else reads it, then try again")
        with _part(path) as part:
            with contextlib.closing(_reader(source, untouched=True)) as connection:
                _copied(connection, source, part, progress)
            migrated_from = _to_this_version(part, source)
            kept = _kept_name(path) if there else None
            with _taken(path, kept) as old:
                before = None if old is None else contents.read(old)
                if old is not None:
                    _take_over_access(old, part)
                with contextlib.closing(_plain(part)) as connection:
                    taken.anew(connection)
                    found = contents.read(connection)
                if not found.sums_agree and not replace:
                    raise Corrupt(
                        f"the sums of {source} are not those of its receipts; with --force it is restored anyway"
                    )
                _give(part, path)
                if kept is not None:
                    _put_aside(path, kept)
                _into_place(part, path)
        return Restored(path, found, kept, before, migrated_from)
    finally:
        hold.close()


@contextlib.contextmanager
def _shared(path: str) -> Iterator[None]:
    """Keep a restore away while the ledger is read."""
    try:
        hold = Hold(path)
    except NotWritable:  # a folder that is read-only: nobody restores into it either
        yield
        return
    try:
        hold.share()
        yield
    finally:
        hold.close()


def _must_exist(path: str) -> None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise NotWritable(f"{path} is no file")
    except OSError as error:
        raise NotWritable(f"{path} cannot be read: {error.strerror}") from error


def _reader(path: str, *, untouched: bool) -> sqlite3.Connection:
    """A connection that only reads; `untouched` for a file that is not ours to tidy up as we leave it."""
    with file.explained(path):
        connection = file.connect_to_read(path) if untouched else file.connect(path, write=False)
        try:
            file.version(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _plain(path: str) -> sqlite3.Connection:
    """A connection to a copy that is nobody else's yet: synced once, at the end."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def _copied(source: sqlite3.Connection, path: str, part: str, progress: Progress | None) -> Contents:
    """Copy one moment of `source` into `part`, and compare the two. Raises `Corrupt` if the copy is not whole."""
    with _told_apart(path, part), contextlib.closing(_plain(part)) as target:
        # The transaction holds the moment: without it every commit of another process would start the copy anew.
        if file.version(source, path) == 0:
            raise NotWritable(f"{path} holds no ledger yet; `aicg costs --db {path}` makes one of it")
        source.execute("BEGIN")
        wanted = contents.read(source)

        def step(_: int, left: int, total: int) -> None:
            if progress is not None:
                progress(total - left, total)

        source.backup(target, pages=_PAGES, progress=step, sleep=0.05)
        source.execute("COMMIT")  # from here on the WAL may be begun anew
        # One file, with nothing beside it that could be forgotten or mixed up.
        target.execute("PRAGMA journal_mode = DELETE")
        found = str(target.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if found != "ok":
            raise file.corrupt(path, found.splitlines()[0])
        if contents.read(target) != wanted:
            raise Corrupt(f"the copy of {path} does not hold what {path} holds; it was thrown away. Check the device")
    return wanted


@contextlib.contextmanager
def _told_apart(path: str, part: str) -> Iterator[None]:
    """Say of the file that is at fault: what is full or may not be written is the copy, the rest is the source."""
    try:
        yield
    except sqlite3.Error as error:
        explained = file.explain(path, error)
        if isinstance(explained, Full):
            folder = os.path.dirname(part)
            raise Full(f"no room in {folder} for a copy of {path} ({error}); nothing was changed. Make room") from error
        raise explained from error


def _to_this_version(part: str, source: str) -> int | None:
    """Migrate the copy of an older release's file; its version then, None when it was of this one."""
    with file.explained(source), contextlib.closing(_plain(part)) as connection:
        version = file.version(connection, source)
        if version == VERSION:
            return None
        file.migrate(connection, part)
        return version


@contextlib.contextmanager
def _taken(path: str, kept: str | None) -> Iterator[sqlite3.Connection | None]:
    """The ledger at `path`, made one file without a WAL and held alone; None when it cannot be read whole.

    SQLite deletes a WAL that it cannot use, even as it closes a file: it gets a second name first. An agent's sink
    knows nothing of our lock: it waits for SQLite's, then finds the file renamed and keeps its receipts. Raises
    `Busy` when a program has the file open for longer.
    """
    connection: sqlite3.Connection | None = None
    try:
        if os.path.exists(path):
            with contextlib.suppress(OSError):
                os.link(f"{path}-wal", f"{kept}-wal")
            connection = sqlite3.connect(path, timeout=_ALONE_S, isolation_level=None)
            if file.version(connection, path) == 0:
                raise LedgerError("no ledger has opened it yet")
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN EXCLUSIVE")
            contents.read(connection)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{kept}-wal")  # all of it is in the file now
    except (sqlite3.Error, LedgerError) as error:
        if connection is not None:
            connection.close()
        connection = None
        if isinstance(error, sqlite3.Error) and isinstance(file.explain(path, error), Busy):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{kept}-wal")
            raise Busy(f"{path} is open in another program; end that first") from error
        # Damaged, or of a newer release, or no ledger: kept as it is, with what lies beside it.
    try:
        yield connection
    finally:
        if connection is not None:
            connection.close()


def _take_over_access(old: sqlite3.Connection, part: str) -> None:
    """Keys made since the backup stay valid, and keys revoked since stay revoked."""
    with file.explained(part), contextlib.closing(_plain(part)) as connection:
        carried.over(old, connection)


def _give(part: str, path: str) -> None:
    """To whom the ledger belonged, or its folder: root restores for the user that serves."""
    if os.geteuid() != 0:
        return
    owner = os.stat(path if os.path.exists(path) else os.path.dirname(part))
    for name in (part, path + "-open"):
        with contextlib.suppress(OSError):
            os.chown(name, owner.st_uid, owner.st_gid)


def _kept_name(path: str) -> str:
    kept = f"{path}.before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    while any(os.path.lexists(kept + end) for end in ("", *_SIDE_FILES)):
        kept += "-" + secrets.token_hex(2)
    return kept


def _put_aside(path: str, kept: str) -> None:
    """Give the ledger another name; what lies beside it, if anything, goes along."""
    try:
        with contextlib.suppress(OSError):
            # A second name for the same file: the ledger's own name is never without a file.
            os.link(path, kept)
        for end in _SIDE_FILES:
            if os.path.exists(path + end):
                os.rename(path + end, kept + end)
        if os.path.exists(path) and not os.path.exists(kept):  # a file system without links
            os.rename(path, kept)
    except OSError as error:
        raise NotWritable(f"{path} cannot be put aside as {kept}: {error.strerror}") from error


@contextlib.contextmanager
def _part(target: str) -> Iterator[str]:
    """An empty file beside `target`, for this user alone; gone afterwards unless it was put in place."""
    part = f"{os.path.abspath(target)}.part-{secrets.token_hex(4)}"
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise NotWritable(f"{target} cannot be made: {error.strerror}") from error
    try:
        yield part
    finally:
        for end in ("", *_SIDE_FILES):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part + end)


def _into_place(part: str, target: str) -> None:
    """Sync, then rename: under its name the file is either the old one or the whole new one."""
    try:
        _sync(part)
        os.rename(part, target)
        _sync(os.path.dirname(part))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Full(f"no room for {target}; nothing was changed. Make room") from error
        raise NotWritable(f"{target} cannot be put in place: {error.strerror}") from error


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
