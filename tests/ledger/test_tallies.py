"""Tallies: the first of very many names are the same with them and without, whatever is asked and whatever changes."""

from __future__ import annotations

import itertools
import random
from typing import Any, Iterator

import pytest

from aicostguard.ledger import lanes, repricing
from aicostguard.ledger.keeping import keeper, pace
from aicostguard.ledger.model import DAY_MS, Query
from aicostguard.ledger.repricing import Scope
from aicostguard.ledger.sqlite import SqliteStore, costs, tallies
from tests.ledger.support import NOW, Priced, envelope, epoch, receipt, take

TODAY = NOW - NOW % DAY_MS
DAYS = 6


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "LEAST", 5)
    monkeypatch.setattr(pace, "REST", 0)
    monkeypatch.setattr(lanes, "WIDTH", 16)


def day(store: SqliteStore, number: int, users: int = 40) -> None:
    """Receipts of a day, so many days ago; a few of nobody, and most users now and then."""
    rng = random.Random(number)
    body = envelope(
        [
            receipt(
                input_tokens=rng.randrange(1, 40),
                **({"user": f"u{rng.randrange(users)}"} if rng.random() < 0.9 else {}),
            )
            for _ in range(60)
        ],
        name=epoch(),
    )
    body["at"] = [TODAY - number * DAY_MS + min(rng.randrange(DAY_MS), NOW - TODAY) for _ in body["receipts"]]
    take(store, body, received_ms=NOW)


@pytest.fixture
def filled(store: SqliteStore) -> SqliteStore:
    for number in range(DAYS, 0, -1):
        day(store, number)
    assert keeper.tally(store, NOW) == 2 * DAYS  # users and hosts
    day(store, 0, users=60)  # some of today's have no number yet
    return store


def questions(store: SqliteStore) -> Iterator[Query]:
    project = store.default_project()
    spans = [
        (TODAY - 6 * DAY_MS, TODAY + DAY_MS),
        (TODAY - 3 * DAY_MS - 5, TODAY - DAY_MS + 7),
        (TODAY - DAY_MS, TODAY),
    ]
    for (since, until), order, largest, excluded, compares, limit in itertools.product(
        spans,
        ("cost_nanousd", "calls", "input_tokens", "change"),
        (True, False),
        ({}, {"user": ("",)}, {"user": ("u1", "u55", "nobody")}),
        (True, False),
        (2, 9),
    ):
        before = (since - 2 * DAY_MS, since) if compares or order == "change" else None
        yield Query(
            project,
            since,
            until,
            ("user",),
            limit=limit,
            order=order,
            descending=largest,
            excluded=excluded,
            before=before,
        )


def check(store: SqliteStore, monkeypatch: pytest.MonkeyPatch, every: int = 17) -> int:
    """Ask everything, or a part of it, with tallies and without; gives how often tallies chose."""
    chose = 0
    first = tallies.first

    def spy(*given: Any) -> Any:
        nonlocal chose
        found = first(*given)
        chose += found is not None
        return found

    asked = list(questions(store))[::every]
    with monkeypatch.context() as patched:
        patched.setattr(costs.tallies, "first", spy)
        found = [store.costs(one) for one in asked]
        patched.setattr(costs.tallies, "first", lambda *_: None)
        for one, answer in zip(asked, found):
            assert answer == store.costs(one), one
    return chose


def test_the_first_users_are_the_same_with_tallies_and_without(
    filled: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(filled, monkeypatch, every=1) > 100  # all but those by tokens


def test_a_day_that_changes_is_read_as_it_is_until_it_is_tallied_again(
    filled: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def marks() -> list[int]:
        found = filled.look(
            lambda connection: connection.execute(
                "SELECT start_ms FROM tally_days WHERE dimension = 'user' AND state = 'made' ORDER BY 1"
            ).fetchall()
        )
        return [(TODAY - start) // DAY_MS for (start,) in found]

    assert marks() == [6, 5, 4, 3, 2, 1]
    day(filled, 3)  # late arrivals
    assert marks() == [6, 5, 4, 2, 1]
    check(filled, monkeypatch)
    scope = Scope(filled.default_project(), TODAY - 5 * DAY_MS, TODAY - 4 * DAY_MS, unpriced_only=False)
    repricing.reprice(filled, scope, lambda body, _: Priced(7 * body["input_tokens"], "new"), "test", NOW, apply=True)
    assert marks() == [6, 4, 2, 1]
    check(filled, monkeypatch)
    assert keeper.tally(filled, NOW) == 4  # the days' hosts, too
    assert marks() == [6, 5, 4, 3, 2, 1]
    check(filled, monkeypatch)


def test_what_changes_while_a_day_is_tallied_wins(store: SqliteStore) -> None:
    day(store, 1)
    (users,) = [one for one in store.look(lambda connection: tallies.due(connection, NOW)) if one.dimension == "user"]
    changed = []

    def look(job: Any) -> Any:
        found = store.look(job)
        if not changed:
            changed.append(day(store, 1))
        return found

    assert not tallies.make(users, lambda step, *given: store.change(lambda c: step(c, *given)), look, lambda: 7)
    assert users in store.look(lambda connection: tallies.due(connection, NOW))
    assert tallies.make(users, lambda step, *given: store.change(lambda c: step(c, *given)), store.look, lambda: 7)


def test_a_day_of_few_names_and_the_day_of_today_are_not_tallied(store: SqliteStore) -> None:
    take(store, envelope([receipt(user="u1")], ago_ms=2 * DAY_MS))
    day(store, 0)
    assert keeper.tally(store, NOW) == 2 and keeper.tally(store, NOW) == 0
    assert store.look(lambda connection: connection.execute("SELECT count(*) FROM tallies").fetchone()) == (0,)


def test_a_list_of_first_users_reads_no_sums_of_days_that_are_tallied(filled: SqliteStore) -> None:
    """Counted: a tallied day costs a row, and the sums of those that are chosen."""
    asked = Query(filled.default_project(), TODAY - 6 * DAY_MS, TODAY, ("user",), limit=3)

    def steps() -> int:
        ticks = []
        connection = filled.look(lambda connection: connection)
        connection.set_progress_handler(lambda: ticks.append(1) and None, 1)
        try:
            filled.costs(asked)
        finally:
            connection.set_progress_handler(None, 0)
        return len(ticks)

    few = steps()
    for number in range(6, 0, -1):
        day(filled, number, users=5000)
    assert steps() > 1.5 * few
    keeper.tally(filled, NOW)
    assert steps() < 1.1 * few


def test_a_total_that_would_leave_its_lane_is_not_added_up(
    filled: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "FULL", 1)
    asked = Query(filled.default_project(), TODAY - 6 * DAY_MS, TODAY, ("user",), limit=3)
    assert filled.look(lambda connection: tallies.first(connection, asked)) is None


def test_lanes_hold_what_was_laid_into_them() -> None:
    rng = random.Random(3)
    days = [{rng.randrange(100): rng.randrange(2**50) for _ in range(20)} for _ in range(40)]
    packed = [lanes.pack(one.items()) for one in days]
    laid = lanes.Laid({chunk for one in packed for chunk in one})
    total = laid.total((chunk, data) for one in packed for chunk, data in one.items())
    for number in range(100):
        if number // 16 in laid.chunks:
            assert laid.number(laid.place(number)) == number
            assert total[laid.place(number)] == sum(one.get(number, 0) for one in days)
