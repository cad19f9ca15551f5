"""A full ledger, by counted work and never by time: what a first screen asks is bounded, whatever is in the file.

The file is the bench's (`scripts/bench queries`): 30 days, 30 models, 200 features, 50,000 users; here of 300,000
receipts, beside one of a tenth. A million would take this test more than a minute on a slow machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from aicostguard import ledger
from aicostguard.ledger import query
from aicostguard.ledger.keeping import keeper, pace
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import ROOT

FULL = 300_000
#: steps that a question of the first screen takes at most in a file of five million (2.7 million, by the bench)
MOST = 3_000_000


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqliteStore, SqliteStore]]:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(ROOT / "scripts"))
        patched.setattr(pace, "REST", 0)
        from benchmarks.ingest import prefill

        opened = []
        for rows in (FULL // 10, FULL):
            path = str(Path(tmp_path_factory.mktemp("full")) / "ledger.db")
            prefill(path, rows)
            opened.append(ledger.open_ledger(path))
            keeper.tally(opened[-1], ledger.now_ms())
        yield opened[0], opened[1]
        for store in opened:
            store.close()
        for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
            del sys.modules[name]


def work(store: SqliteStore, job: Any) -> tuple[int, list[str]]:
    """Steps of SQLite's machine, by tens, and the statements that took them."""
    ticks, said = [], []
    connection = store.look(lambda connection: connection)
    connection.set_progress_handler(lambda: ticks.append(1) and None, 10)
    connection.set_trace_callback(said.append)
    try:
        job(store)
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_trace_callback(None)
    return 10 * len(ticks), said


def asking(**asked: str) -> Any:
    given = {name.replace("NOT", "!"): [value] for name, value in asked.items()}
    return lambda store: query.run(store, query.parse(given, store.default_project(), ledger.now_ms()))


def paging(**asked: str) -> Any:
    given = {name: [value] for name, value in asked.items()}
    return lambda store: query.receipts(store, given, store.default_project(), ledger.now_ms())


@pytest.mark.ids("A07")
def test_a_first_screen_reads_no_receipts_and_does_not_grow_with_them(stores: tuple[SqliteStore, SqliteStore]) -> None:
    from benchmarks.queries import FIRST

    for asked in FIRST:
        steps, said = work(stores[1], asking(**asked))
        assert steps < MOST, (asked, steps)  # a look at every receipt would be more than that
        assert not [text for text in said if "FROM receipts" in text], asked


@pytest.mark.ids("A07")
def test_what_moved_most_of_two_hundred_features_costs_a_part_of_reading_all_their_sums(
    stores: tuple[SqliteStore, SqliteStore],
) -> None:
    steps, said = work(
        stores[1], asking(since="7d", group_by="feature", compare="previous", order="-change", limit="10")
    )
    assert steps < 500_000, steps
    assert not [text for text in said if "FROM receipts" in text]


@pytest.mark.ids("A07")
def test_the_first_users_of_a_month_cost_a_part_of_reading_all_their_sums(
    stores: tuple[SqliteStore, SqliteStore],
) -> None:
    _, full = stores
    (cells,) = full.look(
        lambda connection: connection.execute("SELECT count(*) FROM daily WHERE dimension = 'user'").fetchone()
    )
    assert cells > FULL // 3
    for since in ("7d", "30d"):
        steps, said = work(full, asking(since=since, group_by="user", limit="20"))
        # Today is read name by name; of the other days one row each, and the sums of the twenty.
        assert steps < 6 * cells, (since, steps, cells)
        assert not [text for text in said if "FROM receipts" in text]


@pytest.mark.ids("A08")
def test_a_page_of_receipts_costs_a_page_wherever_it_is(stores: tuple[SqliteStore, SqliteStore]) -> None:
    cursor = paging(since="30d", limit="100")(stores[1])["cursor"]
    pages = [paging(since="30d", limit="100"), paging(since="30d", limit="100", cursor=cursor)]
    pages.append(paging(since="30d", limit="100", feature="feature_1"))
    for page in pages:
        (few, _), (many, _) = (work(store, page) for store in stores)
        assert many < 2 * few + 5_000, (few, many)
