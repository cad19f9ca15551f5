"""Who reads from the file does so on a few connections, whatever asks at once, and never waits for what has no end."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator

import pytest

from aicostguard.ledger import query
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.sqlite import SqliteStore, file, spreads
from aicostguard.ledger.sqlite.readers import KEPT, Readers
from tests.ledger.support import costs, envelope, epoch, receipt, take


class Opened:
    """Stands before `file.connect`: which connections were opened, and which of them are open."""

    def __init__(self) -> None:
        self.connections: list[sqlite3.Connection] = []
        self._connect = file.connect

    def __call__(self, path: str, *, write: bool) -> sqlite3.Connection:
        made = self._connect(path, write=write)
        self.connections.append(made)
        return made

    def count(self) -> int:
        return sum(map(_is_open, self.connections))


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return False
    return True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    counting = Opened()
    monkeypatch.setattr(file, "connect", counting)
    return counting


@pytest.fixture
def readers(store: SqliteStore, opened: Opened) -> Iterator[Readers]:
    made = Readers(store.path)
    yield made
    made.close()
    assert opened.count() == 0


def test_however_many_read_at_once_few_connections_are_kept(readers: Readers, opened: Opened) -> None:
    many = 3 * KEPT
    inside = threading.Barrier(many)

    def job(connection: sqlite3.Connection) -> Any:
        inside.wait(30)  # all of them have one, at once
        return connection.execute("SELECT count(*) FROM receipts").fetchone()[0]

    with ThreadPoolExecutor(many) as pool:
        assert [found.result() for found in [pool.submit(readers.do, job) for _ in range(many)]] == [0] * many
    assert opened.count() == KEPT
    assert len(opened.connections) == many


def test_one_after_the_other_use_one_connection(readers: Readers, opened: Opened) -> None:
    for _ in range(3):
        readers.do(lambda connection: connection.execute("SELECT 1").fetchone())
    assert len(opened.connections) == 1


def test_who_reads_may_ask_for_more_inside(readers: Readers, opened: Opened) -> None:
    """Deeper than there are connections: if each waited for the one above it, none would ever end."""

    def deep(left: int) -> int:
        return 0 if left == 0 else 1 + readers.do(lambda _: deep(left - 1))

    assert deep(KEPT + 2) == KEPT + 2
    assert opened.count() == KEPT


def test_a_job_that_fails_takes_no_place_with_it(readers: Readers, opened: Opened) -> None:
    for _ in range(KEPT + 1):
        with pytest.raises(LedgerError):
            readers.do(lambda connection: connection.execute("SELECT 1 FROM nowhere"))
    assert opened.count() == 0
    assert readers.do(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    assert opened.count() == 1


def test_a_file_that_cannot_be_opened_takes_no_place_with_it(
    readers: Readers, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str, *, write: bool) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patch:
        patch.setattr(file, "connect", broken)
        for _ in range(KEPT + 1):
            with pytest.raises(LedgerError):
                readers.do(lambda connection: None)
    readers.do(lambda connection: None)
    assert opened.count() == 1  # one that is kept, not one beyond those


@pytest.mark.ids("E07")
def test_percentiles_wait_for_what_had_come_not_for_what_comes(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load something has always come since: a question that went on until all was spread had no end."""
    take(store, envelope([receipt(latency_ms=100)], name=epoch()))
    asked = 0
    gather = spreads.gather

    def meanwhile(connection: sqlite3.Connection) -> Any:
        nonlocal asked
        asked += 1
        assert asked < 20, "it goes on for as long as receipts come in"
        found = gather(connection)
        take(store, envelope([receipt(latency_ms=100)], name=epoch()))
        return found

    monkeypatch.setattr(spreads, "gather", meanwhile)
    monkeypatch.setattr(query, "FOLD_EVERY_S", 0.0)
    answer = costs(store, since="today", latency="1")
    assert asked == 1
    assert answer["totals"]["calls"] == 2
    assert answer["totals"]["latency_p50_ms"] == pytest.approx(100, rel=0.05)
