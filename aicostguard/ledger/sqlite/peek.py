"""A look at a ledger's file from outside, for diagnose: nothing is taken in, migrated, locked or written.

Owns a connection that cannot write. Reads through the same statements as the ledger itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from typing import Any, Iterator, Mapping, Sequence
from urllib.parse import quote

from aicostguard.ledger import deliveries
from aicostguard.ledger.errors import LedgerError, Newer
from aicostguard.ledger.model import Source
from aicostguard.ledger.sqlite import file, read
from aicostguard.ledger.sqlite.schema import APPLICATION_ID, VERSION

#: envelopes of the inbox that are read at most
MOST = 10_000


class _Look:
    """As much of a store as `deliveries.run` asks of one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

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
        return read.sources(self._connection, project_id, since_ms, epochs, limit, after, filters)

    def gaps(self, project_id: int, epoch: str, limit: int) -> list[tuple[int, int]]:
        return read.gaps(self._connection, project_id, epoch, limit)


def books(path: str, epochs: Sequence[str], now_ms: int) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows of `deliveries` by process, and how many receipts of each still lie in the inbox. Raises `LedgerError`."""
    with file.explained(path), contextlib.closing(_opened(path)) as connection:
        waiting = dict(_inbox(connection, set(epochs)))
        mark = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if mark != APPLICATION_ID:
            return [], waiting  # nobody has opened it as a ledger yet
        if version != VERSION:
            raise Newer("it was written by another release")
        project_id = connection.execute("SELECT COALESCE(min(id), 1) FROM projects").fetchone()[0]
        asked = deliveries.parse({"group_by": ["process"], "epoch": epochs, "limit": ["1000"]}, project_id, now_ms)
        return deliveries.run(_Look(connection), asked, now_ms)["rows"], waiting


def _opened(path: str) -> sqlite3.Connection:
    if not os.path.exists(path):
        raise LedgerError("it is not there yet")
    return sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True, timeout=1.0)


def _inbox(connection: sqlite3.Connection, epochs: set[str]) -> Iterator[tuple[str, int]]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'inbox'").fetchone():
        return
    seqs: dict[str, set[int]] = {}
    for (envelope,) in connection.execute("SELECT envelope FROM inbox ORDER BY id LIMIT ?", (MOST,)):
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            body = json.loads(envelope)
            if body["epoch"] in epochs:
                seqs.setdefault(body["epoch"], set()).update(body["seq"])
    yield from ((epoch, len(found)) for epoch, found in seqs.items())
