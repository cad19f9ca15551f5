"""How fast a full ledger answers: the first screen, breakdowns, top users, drill-down and percentiles.

On a file that `ingest.prefill` makes, or on a copy of one that is given (`--db`), in one process without HTTP: what is
measured is the query path. Beside the time stand the steps of SQLite's machine, which are the same on a busy machine:
what is flat in the number of receipts has nearly as many in a file of ten times the size.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple
from urllib.parse import quote

from benchmarks.common import row

#: what a first screen asks
FIRST: Tuple[Dict[str, str], ...] = (
    {"since": "month"},
    {"since": "today"},
    {"since": "30d", "group_by": "day,model"},
    {"since": "today", "group_by": "model", "latency": "1"},
    {"since": "7d", "group_by": "feature", "compare": "previous", "order": "-change", "limit": "10"},
    {"since": "30d", "group_by": "team"},
)
#: name → (question, aim in ms or 0)
OTHERS: Dict[str, Tuple[Dict[str, str], float]] = {
    "by feature, 30 days": ({"since": "30d", "group_by": "feature"}, 0),
    "feature by model, 30 days": ({"since": "30d", "group_by": "feature,model"}, 0),
    "model percentiles, 30 days": ({"since": "30d", "group_by": "model", "latency": "1"}, 0),
    "feature percentiles, 30 days": ({"since": "30d", "group_by": "feature", "latency": "1"}, 0),
    **{
        "top 20 users, %s" % since: ({"since": since, "group_by": "user", "limit": "20"}, 150.0)
        for since in ("today", "7d", "30d", "month")
    },
}
#: asked again while receipts come in
PRESSED = ("top 20 users, today", "top 20 users, 7d", "top 20 users, 30d", "top 20 users, month")
PER_S = 5_000
STEP = 100


def queries(rows: int, runs: int, db: str | None = None, folder: str | None = None) -> List[Dict[str, Any]]:
    """Figures on a file of `rows` receipts, or on a copy of the ledger at `db`: receipts come in while it is asked."""
    from aicostguard import ledger
    from aicostguard.ledger.keeping import keeper
    from benchmarks.ingest import prefill

    place = tempfile.mkdtemp(prefix="aicg-bench-", dir=folder)
    try:
        path = os.path.join(place, "ledger.db")
        if db is None:
            prefill(path, rows)
        else:
            _copy(db, path)
        store = ledger.open_ledger(path)
        try:
            began = time.monotonic()
            days = keeper.tally(store, ledger.now_ms())
            print(
                "%d days tallied in %.1f s; file of %.0f MB"
                % (days, time.monotonic() - began, os.path.getsize(path) / 1e6)
            )
            return _figures(store, runs)
        finally:
            store.close()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _copy(db: str, path: str) -> None:
    """The ledger as it is now; nothing is written to it, nor is it migrated."""
    size = os.path.getsize(db) if os.path.isfile(db) else sys.exit("--db: there is no file %s" % db)
    if shutil.disk_usage(os.path.dirname(path)).free < 2 * size:
        sys.exit("not enough room for a copy of %s: name a folder with room by --folder" % db)
    place = "file:%s?mode=ro" % quote(os.path.abspath(db))
    with (
        contextlib.closing(sqlite3.connect(place, uri=True)) as source,
        contextlib.closing(sqlite3.connect(path)) as copy,
    ):
        source.backup(copy)


def _figures(store: Any, runs: int) -> List[Dict[str, Any]]:
    from aicostguard import ledger
    from aicostguard.ledger import query

    project = store.default_project()
    receipts = store.look(lambda connection: connection.execute("SELECT count(*) FROM receipts").fetchone()[0])
    print("\nQueries, %d receipts, load %.1f on %d processors" % (receipts, os.getloadavg()[0], os.cpu_count() or 1))

    def ask(asked: Dict[str, str]) -> Any:
        given = {name: [value] for name, value in asked.items()}
        return query.run(store, query.parse(given, project, ledger.now_ms()))

    def page(**asked: str) -> Callable[[], Any]:
        given = {name: [value] for name, value in asked.items()}
        return lambda: query.receipts(store, given, project, ledger.now_ms())

    def first() -> List[Any]:
        return [ask(asked) for asked in FIRST]

    found = [_row(store, "first screen, six questions", first, runs, 0)]
    for asked in FIRST:
        name = " ".join("%s=%s" % pair for pair in asked.items())
        found.append(_row(store, name, lambda asked=asked: ask(asked), runs, 20))  # type: ignore[misc]
    for name, (asked, aim) in OTHERS.items():
        found.append(_row(store, name, lambda asked=asked: ask(asked), runs, aim))  # type: ignore[misc]
    cursor = page(since="30d", limit="100")()["cursor"]
    feature = ask({"since": "30d", "group_by": "feature", "limit": "1"})["rows"][0]["feature"]
    user = ask({"since": "today", "group_by": "user", "limit": "2", "order": "-calls", "user!": ""})["rows"]
    found.append(_row(store, "a page of receipts", page(since="30d", limit="100"), runs, 50))
    if cursor:
        found.append(_row(store, "the page behind it", page(since="30d", limit="100", cursor=cursor), runs, 50))
    found.append(_row(store, "a page of a feature's", page(since="30d", limit="100", feature=feature), runs, 50))
    if user:
        found.append(_row(store, "a page of a user's", page(since="30d", limit="100", user=user[0]["user"]), runs, 50))
    with _coming_in(store, project) as came:
        for asked in FIRST:
            name = "pressed: " + " ".join("%s=%s" % pair for pair in asked.items())
            found.append(_row(store, name, lambda asked=asked: ask(asked), runs, 20))  # type: ignore[misc]
        for name in PRESSED:
            asked, aim = OTHERS[name]
            found.append(_row(store, "pressed: " + name, lambda asked=asked: ask(asked), runs, aim))  # type: ignore[misc]
        found.append(_row(store, "pressed: a page of receipts", page(since="30d", limit="100"), runs, 50))
    print("pressed by %.0f receipts/s" % came())
    return found


@contextlib.contextmanager
def _coming_in(store: Any, project: int) -> Iterator[Callable[[], float]]:
    """Receipts come in meanwhile, `PER_S` of them if the machine can, as `aicg serve` has it; gives how many did."""
    from aicostguard import ledger
    from aicostguard.ledger import ingest, turn
    from benchmarks.ingest import BATCH, envelope

    rng, stop = random.Random(1), threading.Event()
    epoch = "01BENCHPRESSED%012d" % (time.time_ns() // 10**6 % 10**12)
    bodies = [envelope(rng, epoch, 0, 0) for _ in range(40)]
    came = [0, 0.0]

    def send() -> None:
        began = time.monotonic()
        while not stop.wait(max(0.0, began + came[0] / PER_S - time.monotonic())):
            now_ms, first = ledger.now_ms(), int(came[0])
            body = {**bodies[first // BATCH % len(bodies)], "seq": list(range(first, first + BATCH)), "sent_at": now_ms}
            ingest.accept(store, project, {**body, "at": [now_ms] * BATCH}, now_ms)
            came[:] = first + BATCH, time.monotonic() - began

    def follow() -> None:
        while not stop.wait(1.0):
            store.fold()

    threads = [threading.Thread(target=job, name="bench-pressing") for job in (send, follow)]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(turn.SWITCH_S)
    for thread in threads:
        thread.start()
    try:
        yield lambda: came[0] / (came[1] or 1.0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(usual)


def _row(store: Any, name: str, job: Callable[[], Any], runs: int, aim: float) -> Dict[str, Any]:
    steps = _steps(store, job)
    took = []
    for _ in range(runs):
        start = time.perf_counter()
        job()
        took.append((time.perf_counter() - start) * 1000)
    cpu = time.process_time()
    job()
    cpu = (time.process_time() - cpu) * 1000
    p95 = statistics.quantiles(took, n=20)[-1] if len(took) > 1 else took[0]
    says = "p95 %.1f, %s k steps, %.0f ms of processor" % (p95, format(steps // 1000, ","), cpu)
    return {**row(name, took, "ms", says + (", aim: under %.0f" % aim if aim else "")), "p95": p95, "steps": steps}


def _steps(store: Any, job: Callable[[], Any]) -> int:
    """Steps of SQLite's machine, by hundreds."""
    ticks = 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return 0

    connection: sqlite3.Connection = store.look(lambda connection: connection)
    connection.set_progress_handler(tick, STEP)
    try:
        job()
    finally:
        connection.set_progress_handler(None, 0)
    return ticks * STEP
