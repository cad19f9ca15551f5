"""The local sink: envelopes in the inbox table, and a file that cannot be written never reaches the host."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from aicostguard.delivery import Delivery, link
from aicostguard.health import health
from tests.delivery.conftest import receipt

Deliver = Callable[..., Delivery]

DDL = "CREATE TABLE IF NOT EXISTS inbox (id INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, envelope BLOB NOT NULL)"


def _rows(path: Path) -> List[Dict[str, Any]]:
    connection = sqlite3.connect(str(path))
    try:
        return [json.loads(row[0]) for row in connection.execute("SELECT envelope FROM inbox ORDER BY id")]
    finally:
        connection.close()


def _models(path: Path) -> List[str]:
    return sorted(row["model"] for envelope in _rows(path) for row in envelope["receipts"])


@pytest.mark.ids("G02")
@pytest.mark.parametrize("mode", ["background", "inline"])
def test_envelopes_land_in_the_inbox_of_a_file_that_is_ours_alone(deliver: Deliver, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "ledger.db"
    delivery = deliver("sqlite:///%s" % path, MODE=mode, KEY="")
    for n in range(3):
        delivery.submit(receipt("m%d" % n))
    assert delivery.flush(5)
    assert _models(path) == ["m0", "m1", "m2"]
    envelope = _rows(path)[0]
    assert (
        envelope["schema"] == 1
        and envelope["epoch"] == delivery._epoch
        and abs(envelope["sent_at"] - time.time() * 1000) < 1e4
    )
    assert path.stat().st_mode & 0o777 == 0o600
    connection = sqlite3.connect(str(path))
    (ddl,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'inbox'").fetchone()
    received = connection.execute("SELECT received_ms, typeof(envelope) FROM inbox").fetchall()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()
    assert ddl == DDL.replace("IF NOT EXISTS ", "")
    assert all(abs(ms / 1000 - time.time()) < 10 and kind == "blob" for ms, kind in received)


def test_a_ledger_in_wal_stays_in_wal(deliver: Deliver, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(str(path))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(DDL)
    delivery = deliver("sqlite:///%s" % path)
    delivery.submit(receipt("a"))
    assert delivery.flush(5)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert _models(path) == ["a"]


def test_the_caller_never_waits_for_a_locked_file(deliver: Deliver, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    writer = sqlite3.connect(str(path), isolation_level=None)
    writer.execute(DDL)
    writer.execute("BEGIN EXCLUSIVE")
    delivery = deliver("sqlite:///%s" % path)
    started = time.monotonic()
    delivery.submit(receipt("a"))
    assert time.monotonic() - started < 0.4
    time.sleep(0.5)
    writer.execute("COMMIT")
    writer.close()
    assert delivery.flush(5) and _models(path) == ["a"]
    assert "attempts_failed" not in health.notes  # it waited for the other writer


def test_several_writers_lose_nothing(deliver: Deliver, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    deliveries = [deliver("sqlite:///%s" % path) for _ in range(3)]

    def work(one: Delivery) -> None:
        for n in range(200):
            one.submit(receipt("m%d" % n))
            if n % 50 == 0:
                one.flush(5)

    threads = [threading.Thread(target=work, args=(one,)) for one in deliveries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one.flush(5) for one in deliveries)
    identities = [(row["epoch"], seq) for row in _rows(path) for seq in row["seq"]]
    assert len(identities) == len(set(identities)) == 600


@pytest.mark.parametrize("fault", ["corrupt", "a folder", "missing folder", "other table"])
def test_a_file_that_cannot_take_receipts_is_one_warning_and_a_counted_fault(
    deliver: Deliver,
    tmp_path: Path,
    fault: str,
    faults_are_counted: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "FIRST", 0.1)
    path = tmp_path / "sub" / "ledger.db"
    if fault != "missing folder":
        path.parent.mkdir()
    if fault == "corrupt":
        path.write_bytes(b"this is not a database" * 200)
    elif fault == "a folder":
        path.mkdir()
    elif fault == "other table":
        connection = sqlite3.connect(str(path))
        connection.execute("CREATE TABLE inbox (something TEXT)")
        connection.commit()
        connection.close()
    before = path.read_bytes() if path.is_file() else None
    delivery = deliver("sqlite:///%s" % path)
    for n in range(3):
        delivery.submit(receipt("m%d" % n))
        assert not delivery.flush(2)
    stats = delivery.stats()
    assert stats["counters"]["faults"] >= 1 and stats["counters"]["dropped"] == 0
    assert stats["spool"]["pending"] == 3
    said = [record.getMessage() for record in caplog.records if "ledger file" in record.getMessage()]
    assert len(said) == 1 and str(tmp_path) not in said[0]
    assert before is None or path.read_bytes() == before  # what is there is left as it is
    # Somebody repairs it.
    if path.is_file():
        path.unlink()
    elif path.is_dir():
        path.rmdir()
    path.parent.mkdir(exist_ok=True)
    limit = time.monotonic() + 8
    while not delivery.flush(1) and time.monotonic() < limit:
        time.sleep(0.05)
    assert _models(path) == ["m0", "m1", "m2"]


def test_a_relative_path_is_one_file_wherever_the_program_goes(
    deliver: Deliver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    delivery = deliver("sqlite:///ledger.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    delivery.submit(receipt("a"))
    assert delivery.flush(5)
    assert _models(tmp_path / "ledger.db") == ["a"]
