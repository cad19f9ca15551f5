"""Where the time of a receipt goes inside the ledger: processor time of each stage, without HTTP and in one thread.

Batches as `ingest` sends them. Processor time, because a machine that does something else as well lengthens every other
kind; even so its caches are not ours alone, so the least of all batches is shown beside the median.
"""

from __future__ import annotations

import gc
import gzip
import json
import os
import random
import tempfile
import time
from typing import Any, Callable, Dict, List, TypeVar

from benchmarks.common import row
from benchmarks.ingest import BATCH, envelope

T = TypeVar("T")
#: those that come first in the file, and the first time that anything is done
WARM_UP = 10


class _Clock:
    def __init__(self) -> None:
        self.took: Dict[str, List[float]] = {}

    def __call__(self, stage: str, job: Callable[..., T], *values: Any) -> T:
        start = time.thread_time()
        try:
            return job(*values)
        finally:
            self.took.setdefault(stage, []).append((time.thread_time() - start) / BATCH * 1e6)


def stages(batches: int) -> List[Dict[str, Any]]:
    """µs of processor time a receipt for each stage, over `batches` batches of 500 into a fresh file."""
    from aicostguard import ledger
    from aicostguard.ledger import body, ingest
    from aicostguard.ledger.sqlite import file, write

    rng, now_ms, clock = random.Random(500), ledger.now_ms(), _Clock()
    sent = [
        gzip.compress(
            json.dumps(envelope(rng, "01BENCHSTAGES0001", turn * BATCH, now_ms), separators=(",", ":")).encode()
        )
        for turn in range(batches + WARM_UP)
    ]
    with tempfile.TemporaryDirectory(prefix="aicg-bench-") as folder:
        path = os.path.join(folder, "ledger.db")
        store = ledger.open_ledger(path)
        project = store.default_project()
        store.close()
        connection = file.connect(path, write=True)
        gc.collect()
        gc.freeze()
        usual = gc.get_threshold()
        gc.set_threshold(50_000, 20, 50)  # as `aicg serve` does
        for data in sent:
            plain = clock("inflate", body.plain, data, "gzip")
            parsed = clock("parse", ingest.parse, plain)
            batch = clock("check, time and price", ingest.prepare, project, parsed, now_ms)
            steps = clock("columns and sums", write.ready, batch, batch.rows)
            connection.execute("BEGIN IMMEDIATE")
            clock("SQLite: rows, sums and books", write.apply, connection, batch, steps)
            clock("SQLite: commit", connection.execute, "COMMIT")
        connection.close()
        gc.set_threshold(*usual)
        gc.unfreeze()
    print("\nIngest by stages, processor time a receipt, %d batches of %d" % (batches, BATCH))
    kept = {name: took[WARM_UP:] for name, took in clock.took.items()}
    whole = [sum(parts) for parts in zip(*kept.values())]
    return [row(name, took, "µs") for name, took in {**kept, "all of it": whole}.items()]
