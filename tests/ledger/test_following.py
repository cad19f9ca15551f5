"""What follows ingest by the second, spreads of latencies and spend by the minute: each receipt once, in few rows."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aicostguard.ledger import spread
from aicostguard.ledger.alerts import minutes
from aicostguard.ledger.model import DAY_MS, HOUR_MS, SPREAD, TIMED
from aicostguard.ledger.sqlite import SqliteStore, spreads
from tests.ledger.support import NOW, envelope, epoch, receipt, take

_MS = st.one_of(st.none(), st.sampled_from([0, 1, 19_999, 20_000]), st.integers(0, 10**10))
_RECEIPTS = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.integers(0, 60).map(lambda hours: NOW - hours * HOUR_MS),
        *[st.sampled_from(["", "a", "b"])] * len(SPREAD),
        *[_MS] * len(TIMED),
    ),
    min_size=1,
    max_size=40,
)


@given(_RECEIPTS)
def test_spreads_are_those_of_each_receipt_by_itself(receipts: list[tuple[Any, ...]]) -> None:
    expected: dict[int, dict[Any, list[list[int]]]] = {HOUR_MS: {}, DAY_MS: {}}
    for project, at_ms, *said in receipts:
        for (name, hourly), value in zip(SPREAD.items(), said):
            for span in (HOUR_MS, DAY_MS) if hourly else (DAY_MS,):
                for place, ms in enumerate(said[len(SPREAD) :]):
                    if ms is not None:
                        key = project, name, at_ms - at_ms % span, value
                        expected[span].setdefault(key, [[] for _ in TIMED])[place].append(ms)
    made = spreads.cells_of(list(zip(*receipts)))
    assert made == {
        span: {key: [spread.of(times) for times in both] for key, both in cells.items()}
        for span, cells in expected.items()
    }


def test_what_came_in_a_second_is_read_in_one_row(store: SqliteStore) -> None:
    for _ in range(3):
        take(store, envelope([receipt(latency_ms=random.randrange(9_000)) for _ in range(200)], name=epoch()))
    rows: list[int] = []

    class Spy:
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def execute(self, *given: Any) -> Any:
            found = self.connection.execute(*given).fetchall()
            rows.append(len(found))

            class Answer:
                fetchone = staticmethod(lambda: found[0])
                fetchall = staticmethod(lambda: found)

            return Answer

    gathered = store.look(lambda connection: spreads.gather(Spy(connection)))  # type: ignore[arg-type]
    assert gathered is not None and sum(rows) == 3
    cells = gathered.added[DAY_MS]
    assert {spread.count(both[0]) for key, both in cells.items() if key[1] == "model"} == {600}


def test_a_late_receipt_is_in_no_minute_and_may_be_the_dearest(store: SqliteStore) -> None:
    sent = [receipt(input_tokens=10, request=str(number)) for number in range(6)]
    body = envelope([*sent, receipt(input_tokens=10**6, feature="late")], name=epoch())
    body["at"] = [*(NOW - number * 20_000 for number in range(6)), NOW - 26 * HOUR_MS]
    take(store, body)
    counted = minutes.catch_up(store, NOW)
    assert minutes.catch_up(store, NOW) == counted  # once
    whole = store.look(lambda connection: minutes.window(connection, 1, 0, NOW + 1))
    assert whole.calls == 6 and whole.unpriced_calls == 0
    costs = store.look(
        lambda connection: connection.execute("SELECT cost_nanousd, feature FROM receipts ORDER BY seq").fetchall()
    )
    assert whole.cost_nanousd == sum(cost for cost, _ in costs[:6])
    dearest = store.look(lambda connection: minutes.dearest(connection, 1, 0))
    assert dearest == minutes.Dearest(costs[6][0], NOW - 26 * HOUR_MS, "openai", "gpt-4o", "late")
