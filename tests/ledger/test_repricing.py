"""A stored cost is immutable, but for an explicit act that is recorded: sums and receipts change together."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, Iterator, Mapping

import pytest

from aicostguard import ledger
from aicostguard.guard import stated
from aicostguard.ledger import repricing
from aicostguard.ledger.budgets import book, counters, rule
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.errors import Busy, LedgerError
from aicostguard.ledger.repricing import Report, Scope
from aicostguard.ledger.sqlite import SqliteStore, contents, file, salvage
from aicostguard.pricing import Price
from tests.ledger.support import NOW, aicg, costs, envelope, epoch, price, receipt, take, totals


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = ledger.open_ledger(str(tmp_path / "ledger.db"))
    yield store
    store.close()


def dearer(asked: Mapping[str, Any], at_ms: int) -> Price:
    """Five nano-dollars a token, for everything that counts tokens."""
    if "input_tokens" not in asked:
        return Price(None, None, "usage missing")
    return Price(5 * (asked["input_tokens"] + asked.get("output_tokens", 0)), "new@2026-11-29", None)


def cheaper(asked: Mapping[str, Any], at_ms: int) -> Price:
    """One nano-dollar for each call that counts tokens."""
    found = dearer(asked, at_ms)
    return found if found.cost_nanousd is None else found._replace(cost_nanousd=1, row="cheap@2026-11-29")


def scope(store: SqliteStore, **more: Any) -> Scope:
    return Scope(store.default_project(), 0, 2 * NOW, **more)


def reprice(store: SqliteStore, wanted: Scope, *, apply: bool = True) -> Report:
    return repricing.reprice(store, wanted, dearer, "test", NOW, apply=apply)


def agree(store: SqliteStore) -> bool:
    connection = file.connect(store.path, write=False)
    try:
        return contents.read(connection).sums_agree
    finally:
        connection.close()


def stored(store: SqliteStore) -> list[tuple[Any, ...]]:
    connection = file.connect(store.path, write=False)
    try:
        return connection.execute(
            "SELECT model, cost_nanousd, price_row, unpriced_reason FROM receipts ORDER BY at_ms, epoch, seq"
        ).fetchall()
    finally:
        connection.close()


@pytest.fixture
def filled(store: SqliteStore) -> SqliteStore:
    bodies = [
        receipt(feature="chat", team="a", user="u1"),
        receipt(feature="chat", model="unheard-of", user="u1"),
        receipt(feature="rag", model="unheard-of", agent="crew", tags={"k": "v"}),
        {"provider": "openai", "model": "gpt-4o", "usage_missing": True},
    ]
    take(store, envelope(bodies, name=epoch(), service="web", host="h1"))
    take(store, envelope([receipt(model="unheard-of")], name=epoch(), ago_ms=3 * 86_400_000, service="batch"))
    return store


@pytest.mark.ids("C8", "C6", "X1")
def test_unpriced_receipts_get_their_price_and_nothing_else_moves(filled: SqliteStore) -> None:
    before = stored(filled)
    done = reprice(filled, scope(filled))
    assert (done.seen, done.changed, done.still_unpriced, done.kept) == (4, 3, 1, 0)
    assert (done.before_nanousd, done.after_nanousd) == (0, 3 * 550)
    assert done.models == [("openai", "unheard-of", 3, 0, 1650)]
    after = stored(filled)
    changed = [new for old, new in zip(before, after) if old != new]
    assert changed == [("unheard-of", 550, "new@2026-11-29", None)] * 3
    assert agree(filled)
    assert totals(filled)["unpriced_calls"] == 1 and totals(filled)["cost_nanousd"] == 330 + 1650
    # a second time there is nothing left to do
    assert reprice(filled, scope(filled)).changed == 0


@pytest.mark.ids("C8")
def test_without_apply_nothing_is_changed_and_the_same_is_told(filled: SqliteStore) -> None:
    before, sums = stored(filled), totals(filled)
    told = reprice(filled, scope(filled), apply=False)
    assert (stored(filled), totals(filled)) == (before, sums)
    assert filled.repricings(filled.default_project()) == []
    done = reprice(filled, scope(filled))
    assert told._replace(number=done.number) == done


@pytest.mark.ids("C8")
def test_every_sum_follows_by_each_dimension_hour_and_day(filled: SqliteStore) -> None:
    reprice(filled, scope(filled))
    for dimension in ("provider", "model", "feature", "team", "agent", "service", "host", "user"):
        rows = {row[dimension]: row for row in costs(filled, group_by=dimension)["rows"]}
        # two dimensions can only be answered from raw receipts: the way to the truth
        raw: dict[str, int] = {}
        for row in costs(filled, group_by=f"{dimension},session")["rows"]:
            raw[row[dimension]] = raw.get(row[dimension], 0) + row["cost_nanousd"]
        assert {name: row["cost_nanousd"] for name, row in rows.items()} == raw, dimension
    assert [row["cost_nanousd"] for row in costs(filled, group_by="day")["rows"]] == [550, 330 + 1100]


@pytest.mark.ids("C8")
def test_a_period_and_a_filter_bound_the_act(filled: SqliteStore) -> None:
    recent = scope(filled)._replace(since_ms=NOW - 86_400_000)
    assert reprice(filled, recent._replace(filters={"feature": ("rag",)})).changed == 1
    assert reprice(filled, recent).changed == 1
    assert totals(filled)["unpriced_calls"] == 2


@pytest.mark.ids("C8")
def test_priced_receipts_change_only_when_asked_for_and_keep_a_price_they_would_lose(filled: SqliteStore) -> None:
    def losing(asked: Mapping[str, Any], at_ms: int) -> Price:
        return Price(None, None, "gone") if asked["model"] == "gpt-4o" else dearer(asked, at_ms)

    everything = scope(filled, unpriced_only=False)
    done = repricing.reprice(filled, everything, losing, "test", NOW, apply=True)
    assert (done.changed, done.kept, done.still_unpriced) == (3, 1, 1)
    assert ("gpt-4o", 330, "fixed", None) in stored(filled)
    done = reprice(filled, everything)
    assert (done.changed, done.before_nanousd, done.after_nanousd) == (1, 330, 550)
    assert agree(filled)


@pytest.mark.ids("C8")
def test_the_act_is_recorded_with_what_was_before(filled: SqliteStore) -> None:
    reprice(filled, scope(filled))
    reprice(filled, scope(filled, unpriced_only=False))
    second, first = filled.repricings(filled.default_project())
    assert (first["changed"], first["before_nanousd"], first["after_nanousd"]) == (3, 0, 1650)
    assert (second["changed"], second["before_nanousd"], second["after_nanousd"]) == (1, 330, 550)
    assert first["source"] == "test" and first["scope"]["unpriced_only"] is True
    connection = file.connect(filled.path, write=False)
    kept = connection.execute(
        "SELECT repricing_id, cost_before, row_before, reason_before, cost_after, row_after FROM repriced ORDER BY 1, 5"
    ).fetchall()
    connection.close()
    assert kept == [(1, None, None, "no price", 550, "new@2026-11-29")] * 3 + [
        (2, 330, "fixed", None, 550, "new@2026-11-29")
    ]


@pytest.mark.ids("C8")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE receipts SET cost_nanousd = 1",
        "UPDATE receipts SET cost_nanousd = NULL",
        "UPDATE receipts SET price_row = 'x' WHERE model = 'gpt-4o'",
        "UPDATE receipts SET input_tokens = 1, cost_nanousd = 7",
    ],
)
def test_the_file_itself_refuses_any_other_change_of_a_cost(filled: SqliteStore, statement: str) -> None:
    reprice(filled, scope(filled))
    before = stored(filled)
    with pytest.raises(LedgerError, match="only by a recorded repricing"):
        filled.change(lambda connection: connection.execute(statement))
    assert stored(filled) == before


@pytest.mark.ids("C8")
def test_a_receipt_that_changed_meanwhile_stops_the_act_and_nothing_of_the_step_is_kept(filled: SqliteStore) -> None:
    page = filled.priced(scope(filled), None, 10)
    reprice(filled, scope(filled))
    number = filled.begin_repricing(scope(filled), "late", NOW)
    late = [repricing.Change(row, 9, "late") for row in page if "input_tokens" in row.receipt]
    before = stored(filled)
    with pytest.raises(Busy):
        filled.apply_repricing(number, filled.default_project(), late)
    assert stored(filled) == before and agree(filled)
    assert filled.repricings(filled.default_project())[0]["changed"] == 0


def test_more_receipts_than_one_step_takes(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "STEP", 7)
    take(store, envelope([receipt(model="unheard-of") for _ in range(40)]))
    take(store, envelope([receipt() for _ in range(10)], name=epoch()))
    done = reprice(store, scope(store))
    assert (done.seen, done.changed, totals(store)["unpriced_calls"]) == (40, 40, 0)
    assert agree(store)


@pytest.mark.ids("C8", "Z1")
def test_the_commands_say_what_would_change_change_it_and_compare(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = ledger.open_ledger(str(path))
    told = [
        receipt(provider="openrouter", model="openai/gpt-4o", reported_cost_nanousd=350_000),
        receipt(provider="openrouter", model="openai/gpt-4o", reported_cost_nanousd=360_000),
        receipt(provider="openrouter", model="nobody/knows", reported_cost_nanousd=5),
        receipt(provider="corp", model="llama-70b"),
    ]
    from aicostguard import pricing

    take(store, envelope(told), price=pricing.price)
    store.close()
    at = ("--db", str(path))
    rows = json.loads(aicg("price", "reported", *at, "--json").stdout)["rows"]
    assert [tuple(row.values()) for row in rows] == [
        ("openrouter", "openai/gpt-4o", 2, 0, 710_000, 700_000, 1, -10_000, 0),
        ("openrouter", "nobody/knows", 1, 1, 0, 0, 0, 0, 5),
    ]
    shown = aicg("price", "reported", *at).stdout
    assert "-0.00001" in shown
    assert "would change" in aicg("reprice", *at).stdout
    (tmp_path / "prices.json").write_text(
        json.dumps({"version": 1, "prices": [{"provider": "corp", "model": "llama-70b", "input_per_million": 1,
                                              "output_per_million": 2}]}), "utf-8")  # fmt: skip
    asked = json.loads(aicg("reprice", *at, "--json").stdout)
    assert (asked["changed"], asked["applied"], asked["after_nanousd"]) == (1, False, 120_000)
    done = json.loads(aicg("reprice", *at, "--where", "provider=corp", "--apply", "--json").stdout)
    assert (done["changed"], done["applied"], done["still_unpriced"]) == (1, True, 0)
    assert done["source"].endswith("+ prices.json")
    (act,) = json.loads(aicg("reprice", *at, "--history", "--json").stdout)["repricings"]
    assert act["changed"] == 1 and act["scope"]["filters"] == {"provider": ["corp"]}
    wrong = aicg("reprice", *at, "--since", "tomorrowish")
    assert wrong.returncode == 2 and "since" in wrong.stderr


def test_the_fixed_price_of_these_tests_is_what_they_say() -> None:
    assert price(receipt(), NOW).cost_nanousd == 330


@pytest.mark.ids("C8")
def test_budgets_count_what_receipts_cost_now(filled: SqliteStore) -> None:
    project = filled.default_project()
    desk = Desk(filled, lambda: NOW)
    desk.put(project, stated.budget({"name": "all", "limit_usd": 1, "period": "total"}), "test")
    desk.put(-1, stated.budget({"name": "cap", "limit_usd": 1, "period": "total"}), "test")

    def spent() -> list[int]:
        desk.catch_up()

        def read(connection: sqlite3.Connection) -> list[int]:
            every = book.over(connection, project)
            return [counters.balance(connection, kept, rule.scope(kept.budget, {}), NOW).spent for kept in every]

        return filled.look(read)

    assert spent() == [330] * 2, "its own, and its organisation's"
    reprice(filled, scope(filled))
    assert spent() == [330 + 1650] * 2


def recorded(store: SqliteStore) -> list[tuple[Any, ...]]:
    """Each change, with what its act was called."""
    return store.look(
        lambda connection: connection.execute(
            "SELECT source, epoch, seq, cost_before, row_before, reason_before, cost_after, row_after FROM repriced "
            "JOIN repricings ON id = repricing_id ORDER BY 1, 2, 3"
        ).fetchall()
    )


@pytest.mark.ids("C8", "C6", "D1")
def test_salvage_brings_the_record_of_repricings_along(filled: SqliteStore, tmp_path: Path) -> None:
    reprice(filled, scope(filled))
    repricing.reprice(filled, scope(filled), dearer, "again", NOW + 1, apply=True)
    repricing.reprice(filled, scope(filled, unpriced_only=False), cheaper, "later", NOW + 2, apply=True)
    acts, changes = filled.repricings(filled.default_project()), recorded(filled)
    assert [act["source"] for act in acts] == ["later", "again", "test"] and len(changes) == 3 + 4
    new = ledger.open_ledger(str(tmp_path / "new.db"))
    for _ in range(2):  # twice is once
        salvage.salvage(filled.path, new)
        assert new.repricings(new.default_project()) == acts
        assert (recorded(new), stored(new), totals(new)) == (changes, stored(filled), totals(filled))
    assert reprice(new, scope(new, unpriced_only=False)).changed, "a later act goes on, under a number of its own"
    assert agree(new)
    new.close()


@pytest.mark.ids("C8", "C6")
def test_a_record_is_not_taken_over_for_what_costs_something_else_here(filled: SqliteStore, tmp_path: Path) -> None:
    new = ledger.open_ledger(str(tmp_path / "new.db"))
    salvage.salvage(filled.path, new)  # as a backup is: before the act
    repricing.reprice(new, scope(new), cheaper, "other", NOW + 5, apply=True)
    reprice(filled, scope(filled))
    before = stored(new)
    salvage.salvage(filled.path, new)
    assert stored(new) == before
    assert {row[0] for row in recorded(new)} == {"other"}
    acts = new.repricings(new.default_project())
    assert [(act["source"], act["id"]) for act in acts] == [("other", 1), ("test", 2)], "of both it is known"
    new.close()
