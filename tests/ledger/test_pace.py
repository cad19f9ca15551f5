"""What makes a ledger quick, counted and not timed: statements of a batch, and who works while another waits."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aicostguard.ledger import ingest, turn
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.model import Added, Batch
from aicostguard.ledger.sqlite import SqliteStore, write
from tests.ledger.support import NOW, costs, envelope, environment, epoch, price, receipt, take, totals, wait_for


def _statements(store: SqliteStore, body: dict[str, Any]) -> list[str]:
    """What SQLite is told to do for one envelope, inside its transaction."""
    batch = ingest.prepare(store.default_project(), body, NOW, price=price)
    ready = write.ready(batch, batch.rows)

    def job(connection: Any) -> list[str]:
        said: list[str] = []
        connection.set_trace_callback(said.append)
        try:
            write.apply(connection, batch, ready)
        finally:
            connection.set_trace_callback(None)
        # What a trigger does is told as the statement that set it off, once more; Python has no part in it.
        return [text for text, _ in itertools.groupby(said)]

    return store.change(job)


def test_a_batch_of_500_takes_few_statements(store: SqliteStore) -> None:
    name = epoch()
    receipts = [receipt(model=f"m{n % 30}", feature=f"f{n % 200}", user=f"u{n}") for n in range(1000)]
    take(store, envelope(receipts[:500], first=0, name=name))
    said = _statements(store, envelope(receipts[500:], first=500, name=name))
    # 500 rows and 1,000 sums: the thread that writes has to get hold of Python once for each of these.
    assert len(said) <= 35, [text[:60] for text in said]
    assert not [text for text in said if "seq IN" in text], "nothing above the highest seq has to be looked up"
    assert totals(store)["calls"] == 1000


def test_what_may_be_there_is_looked_up(store: SqliteStore) -> None:
    name = epoch()
    take(store, envelope([receipt()] * 3, first=5, name=name))
    assert [text for text in _statements(store, envelope([receipt()], first=2, name=name)) if "seq IN" in text]
    assert take(store, envelope([receipt()] * 9, first=0, name=name)) == {"accepted": 5, "duplicate": 4, "refused": []}
    assert totals(store)["calls"] == 9


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 500, 513])
def test_every_row_is_in_one_statement(count: int) -> None:
    many = write.Many("INSERT INTO t (a, b)", "?", "", (7,), [(n,) for n in range(count)])
    steps = list(write.steps(many))
    assert [value for _, (shared, *own) in steps for value in own if shared == 7] == list(range(count))
    assert all(text.count("(?1, ?)") == len(values) - 1 for text, values in steps)
    assert len(steps) <= 10


def test_batches_that_say_nearly_the_same_share_a_statement(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "_lately", [])
    name = epoch()
    wide = _statements(store, envelope([receipt(feature="a", team="t")], first=0, name=name))
    narrow = _statements(store, envelope([receipt(feature="b")], first=1, name=name))
    assert [text for text in narrow if '"team"' in text and "INTO receipts" in text]
    other = _statements(store, envelope([receipt(region="eu")], first=2, name=name))
    assert [text for text in other if '"region"' in text and '"team"' not in text and "INTO receipts" in text]
    assert len(wide) == len(narrow)
    kept = store.look(
        lambda connection: connection.execute("SELECT team, region FROM receipts ORDER BY seq").fetchall()
    )
    assert kept == [("t", None), (None, None), (None, "eu")]
    assert {row["team"]: row["calls"] for row in costs(store, group_by="team")["rows"]} == {None: 2, "t": 1}


def test_sets_of_columns_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_lately", [])
    names = [name for name in write.COLUMNS if name in ingest.FIELDS]
    for first in range(len(names)):
        for last in range(first, len(names)):
            said = frozenset(names[first : last + 1])
            found = write._columns(said)
            assert said <= set(found) and len(found) - len(said) <= 4
    assert len(write._lately) <= 16


def test_one_batch_is_worked_on_at_a_time_and_a_commit_keeps_nobody_from_it() -> None:
    worked, at_work, most = threading.Barrier(3), [0], [0]
    waiting = threading.Semaphore(0)

    class Slow:
        """A store whose commits all wait for each other: they could not, if one kept the turn meanwhile."""

        def add(self, batch: Batch) -> Added:
            waiting.release()
            worked.wait(30)
            return Added(len(batch.rows), 0)

    def one(receipt: Any, at_ms: int) -> Any:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        with contextlib.suppress(threading.BrokenBarrierError):
            pair.wait(0.05)  # if two were at work at once, they would meet here
        at_work[0] -= 1
        return price(receipt, at_ms)

    pair = threading.Barrier(2)
    store: Any = Slow()
    threads = [
        threading.Thread(
            target=ingest.accept, args=(store, 1, envelope([receipt()], name=epoch()), NOW), kwargs={"price": one}
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert waiting.acquire(timeout=30)
    for thread in threads:
        thread.join(30)
    assert most[0] == 1 and not turn.working.locked()


_CHANGES = """
import sys
from pathlib import Path
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import envelope, receipt, take

store, place = SqliteStore(sys.argv[1]), Path(sys.argv[2])
take(store, envelope([receipt(user=f"u{n}") for n in range(2000)]))
before = place.stat().st_mtime_ns
store.change(lambda connection: connection.execute("UPDATE daily SET calls = calls + 1"))
print(place.stat().st_mtime_ns - before)
store.close()
"""


def test_what_would_undo_a_change_of_many_pages_goes_into_no_temporary_file(tmp_path: Path) -> None:
    # Where jobs share a commit, that is as many bytes once more as the WAL gets; and it is what receipts say.
    place = tmp_path / "temporary"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _CHANGES, str(tmp_path / "ledger.db"), str(place)],
        env=environment(SQLITE_TMPDIR=str(place)),  # SQLite looks once, when it is loaded
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout.strip() == "0", done.stdout + done.stderr


def test_a_job_that_fails_alone_leaves_nothing_and_stops_nobody(store: SqliteStore) -> None:
    def job(connection: Any) -> None:
        connection.execute("INSERT INTO settings VALUES ('half', 'done')")
        connection.execute("INSERT INTO settings VALUES ('half', 'done')")

    with pytest.raises(LedgerError, match="UNIQUE"):
        store.change(job)
    assert store.setting("half") is None
    assert take(store, envelope([receipt()]))["accepted"] == 1


def test_a_job_that_fails_beside_others_takes_none_of_them_along(store: SqliteStore) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: Any) -> None:
        begun.set()
        assert go_on.wait(30)

    def half(connection: Any) -> None:
        connection.execute("INSERT INTO settings VALUES ('half', 'done')")
        raise ValueError("half")

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(store.change, hold)
        assert begun.wait(30)
        queued = store._writer._jobs.qsize
        jobs = [half, lambda connection: connection.execute("INSERT INTO settings VALUES ('whole', 'done')")]
        others = []
        for place, job in enumerate(jobs):  # in this order, and both before the one thread that writes is free
            others.append(pool.submit(store.change, job))
            wait_for(lambda place=place: queued() > place, "the job to be queued")
        go_on.set()
        first.result(30)
        with pytest.raises(ValueError, match="half"):
            others[0].result(30)
        others[1].result(30)
    assert (store.setting("half"), store.setting("whole")) == (None, "done")
