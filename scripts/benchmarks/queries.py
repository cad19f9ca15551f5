"""How fast a full ledger answers: the first screen, breakdowns, top users, drill-down and percentiles.

On a file that `ingest.prefill` makes, or on one that is given (`--db`), in one process without HTTP: what is measured
is the query path. Beside the time stand the steps of SQLite's machine, which are the same on a busy machine: what is
flat in the number of receipts has nearly as many in a file of ten times the size.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from typing import Any, Callable, Dict, List, Tuple

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
    "top 20 users, today": ({"since": "today", "group_by": "user", "limit": "20"}, 0),
    "top 20 users, 30 days": ({"since": "30d", "group_by": "user", "limit": "20"}, 150),
}
STEP = 100


def queries(rows: int, runs: int, db: str | None = None, folder: str | None = None) -> List[Dict[str, Any]]:
    """Figures on a file of `rows` receipts, or on the ledger at `db`, which is only read (and migrated)."""
    from aicostguard import ledger
    from benchmarks.ingest import prefill

    place = tempfile.mkdtemp(prefix="aicg-bench-", dir=folder)
    try:
        path = db or os.path.join(place, "ledger.db")
        if db is None:
            prefill(path, rows)
        store = ledger.open_ledger(path)
        try:
            return _figures(store, runs)
        finally:
            store.close()
    finally:
        shutil.rmtree(place, ignore_errors=True)


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

    found = [_row(store, "first screen, six questions", lambda: [ask(asked) for asked in FIRST], runs, 20)]
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
    return found


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
    says = "%s k steps, %.0f ms of processor" % (format(steps // 1000, ","), cpu)
    p95 = statistics.quantiles(took, n=20)[-1] if len(took) > 1 else took[0]
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
