"""The embedded store: one SQLite file in WAL mode, read by many, written through one fair writer.

Owns when a connection is opened and closed. Several processes may hold the same file open. If it fails,
requests are refused with a reason and senders keep their receipts.
"""

from __future__ import annotations

import hmac
import math
import os
import sqlite3
import threading
import time
from typing import Any, Callable, Mapping, Sequence, TypeVar

from aicostguard.config import mask
from aicostguard.ledger import turn
from aicostguard.ledger.errors import LedgerError, NotWritable
from aicostguard.ledger.model import Added, Arrivals, Batch, Costs, Key, Place, Query, Source
from aicostguard.ledger.repricing import Change, Scope, Stored
from aicostguard.ledger.secret import hash_key
from aicostguard.ledger.sqlite import backfill, copying, costs, file, read, repriced, spreads, taken, write
from aicostguard.ledger.sqlite.hold import Hold
from aicostguard.ledger.sqlite.readers import Readers
from aicostguard.ledger.sqlite.schema import VERSION
from aicostguard.ledger.sqlite.writer import FairLock, Writer
from aicostguard.ledger.store import Prepare
from aicostguard.pricing import PriceBook

T = TypeVar("T")


class SqliteStore:
    """A `Store` in one file.

    `check=True` reads the whole file first, as far as time allows (`checked` says whether it was all of it), and the
    WAL when nobody else has the file open (`alone`). Raises `NotWritable`, `Corrupt`, `Newer`, `Full` or `Busy`, each
    naming the file and the way out.
    """

    def __init__(self, path: str, *, create: bool = True, check: bool = False) -> None:
        self.path = path
        self.checked = False
        #: a file of an older release was copied to this place, verified, before it was migrated
        self.kept_as: str | None = None
        self._folded = -math.inf
        self._folding = threading.Lock()
        #: the prices of what comes in; None: those of this release. `ledger.open_ledger` sets it.
        self.book: PriceBook | None = None
        if not create and not os.path.exists(path):
            raise NotWritable(f"there is no ledger at {path}")
        file.prepare_folder(path)
        self._hold = Hold(path)
        try:
            self.alone = check and self._hold.alone()
            if self.alone:
                file.check_beside(path)
            self._hold.share()
            self._open(path, check)
        except BaseException:
            self._hold.close()
            raise
        self._readers = Readers(path)
        self._read = self._readers.do

    def _open(self, path: str, check: bool) -> None:
        lock = FairLock(path)
        try:
            with file.explained(path):
                connection = _opened(path)
                try:
                    if check:
                        self.checked = file.check(connection, path)
                    with lock.held():
                        self.kept_as = _kept_before_migration(connection, path)
                        file.migrate(connection, path)
                        backfill.finish(connection, path)
                except BaseException:
                    connection.close()
                    raise
        except BaseException:
            lock.close()
            raise
        self._writer = Writer(path, connection, lock)

    def add(self, batch: Batch) -> Added:
        # As much as possible before the one thread that writes has to do with it.
        with turn.working:
            all_new = write.ready(batch, batch.rows) if batch.rows else None
        return self._writer.do(lambda connection: write.apply(connection, batch, all_new))

    def change(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job on the write connection, all or nothing; returns after it is durable."""
        return self._writer.do(job)

    def look(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job on a connection that only reads. Several statements agree only inside a transaction of its own."""
        return self._read(job)

    def drain(self, prepare: Prepare) -> int:
        taken = 0
        # A look first: with an empty inbox no reader ever waits for a writer.
        while self._read(lambda connection: connection.execute("SELECT 1 FROM inbox LIMIT 1").fetchone()):
            taken += self._writer.do(lambda connection: write.drain(connection, prepare))
        return taken

    def fold(self, at_most_every_s: float = 0.0) -> None:
        if time.monotonic() - self._folded < at_most_every_s:
            return
        # One at a time: two would gather the same, of which one is thrown away. Who can do with what is a moment old
        # does not wait for whoever is at it.
        if not self._folding.acquire(blocking=not at_most_every_s):
            return
        try:
            self._folded = time.monotonic()
            # No further: under load something has always come meanwhile, and who asks would wait as long as that.
            newest = self._read(lambda connection: connection.execute("SELECT max(id) FROM arrivals").fetchone()[0])
            for feed in (spreads, taken):
                upto = -1
                while upto < (newest or 0) and (found := self._read(feed.gather)) is not None:
                    self._writer.do(lambda connection, feed=feed, found=found: feed.put(connection, found))  # type: ignore[misc]
                    upto = found.upto
        finally:
            self._folding.release()

    def priced(self, scope: Scope, after: tuple[int, str, int] | None, limit: int) -> list[Stored]:
        return self._read(lambda connection: repriced.page(connection, scope, after, limit))

    def begin_repricing(self, scope: Scope, source: str, now_ms: int) -> int:
        return self._writer.do(lambda connection: repriced.begin(connection, scope, source, now_ms))

    def apply_repricing(self, number: int, project_id: int, changes: Sequence[Change]) -> None:
        self._writer.do(lambda connection: repriced.apply(connection, number, project_id, changes))

    def repricings(self, project_id: int) -> list[dict[str, Any]]:
        """The acts of repricing there were, the latest first."""
        return self._read(lambda connection: repriced.history(connection, project_id))

    def reported(self, scope: Scope) -> list[tuple[Any, ...]]:
        """What providers told beside what we charged, by provider and model; see `repriced.reported`."""
        return self._read(lambda connection: repriced.reported(connection, scope))

    def setting(self, name: str) -> str | None:
        """What the ledger remembers under a name."""
        return self._read(lambda connection: repriced.setting(connection, name))

    def remember(self, name: str, value: str | None) -> None:
        """Keep a setting, or forget it (None)."""
        self._writer.do(lambda connection: repriced.remember(connection, name, value))

    def costs(self, query: Query) -> Costs:
        return self._read(lambda connection: costs.costs(connection, query))

    def receipts(self, query: Query, after: Place | None = None) -> list[dict[str, Any]]:
        return self._read(lambda connection: read.receipts(connection, query, after))

    def missing(self, query: Query, *, raw: bool = False) -> list[tuple[int, int]]:
        return self._read(lambda connection: read.missing(connection, query, raw=raw))

    def sources(
        self,
        project_id: int,
        since_ms: int = 0,
        epochs: Sequence[str] = (),
        *,
        limit: int = -1,
        after: tuple[int, str] | None = None,
        filters: Mapping[str, tuple[str, ...]] = {},
    ) -> list[Source]:
        return self._read(lambda it: read.sources(it, project_id, since_ms, epochs, limit, after, filters))

    def gaps(self, project_id: int, epoch: str, limit: int) -> list[tuple[int, int]]:
        return self._read(lambda connection: read.gaps(connection, project_id, epoch, limit))

    def arrivals(self, project_id: int, after: int | None, filters: Mapping[str, tuple[str, ...]]) -> Arrivals:
        return self._read(lambda connection: read.arrivals(connection, project_id, after, filters))

    def first_at(self, project_id: int) -> int | None:
        return self._read(lambda connection: read.first_at(connection, project_id))

    def default_project(self) -> int:
        found = self._read(lambda connection: connection.execute("SELECT min(id) FROM projects").fetchone()[0])
        return int(found) if found is not None else self._writer.do(write.default_project)

    def add_key(self, key: str, name: str, scopes: tuple[str, ...], project_id: int, now_ms: int) -> Key:
        values = (hash_key(key), project_id, mask(key), name, " ".join(scopes), now_ms)
        self._writer.do(
            lambda connection: (
                connection.execute(
                    "INSERT INTO keys (hash, project_id, shown, name, scopes, created_ms) VALUES (?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT DO NOTHING",
                    values,
                ).rowcount
            )
        )
        found = self.find_key(key)
        if found is None:
            raise LedgerError("the key was not stored")
        return found

    def find_key(self, key: str) -> Key | None:
        hashed = hash_key(key)
        for stored, found in self._read(lambda connection: read.key_rows(connection, "keys.hash = ?", (hashed,))):
            if hmac.compare_digest(stored, hashed):
                return found
        return None

    def keys(self, project_id: int) -> list[Key]:
        rows = self._read(lambda connection: read.key_rows(connection, "keys.project_id = ?", (project_id,)))
        return [key for _, key in rows]

    def revoke_key(self, shown: str, project_id: int, now_ms: int) -> list[Key]:
        where, values = "keys.project_id = ? AND revoked_ms IS NULL AND ", (project_id, shown.rstrip("•"))
        if len(values[1]) > 9:
            where, values = where + "keys.hash = ?", (project_id, hash_key(values[1]))
        else:
            where += "substr(shown, 1, 9) = ?"

        def revoke(connection: sqlite3.Connection) -> list[Key]:
            rows = read.key_rows(connection, where, values)
            for hashed, _ in rows:
                connection.execute("UPDATE keys SET revoked_ms = ? WHERE hash = ?", (now_ms, hashed))
            return [key._replace(revoked_ms=now_ms) for _, key in rows]

        return self._writer.do(revoke)

    def close(self) -> None:
        self._writer.close()
        self._readers.close()
        self._hold.close()


def _kept_before_migration(connection: sqlite3.Connection, path: str) -> str | None:
    """Copy a file of an older release beside itself, while nobody else of ours writes; where it is, None for any other.

    Raises `Full` and the like: then nothing is migrated, and the older release still opens the file.
    """
    version = file.version(connection, path)
    if version in (0, VERSION):
        return None
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return copying.backup(path, f"{path}.before-version-{VERSION}-{moment}").path


def _opened(path: str) -> sqlite3.Connection:
    made = not os.path.exists(path)
    if made:
        # Receipts tell what a company does with AI: for this user alone, the WAL and its index inherit it.
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise NotWritable(f"{path} cannot be made: {error.strerror}") from error
    return file.connect(path, write=True)
