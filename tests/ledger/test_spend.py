"""Spend for Prometheus: what it says is what the query path says; counters never shrink; nobody reads another's."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aicostguard import ledger
from aicostguard.ledger import repricing, spend
from aicostguard.ledger.access import keyring, places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.principal import ROLES
from aicostguard.ledger.model import OTHER
from aicostguard.ledger.repricing import Scope
from aicostguard.ledger.sqlite import SqliteStore, copying, taken
from aicostguard.pricing import Price
from tests.ledger.support import NOW, Server, envelope, epoch, price, receipt, take
from tests.ledger.watched import at_noon, costs

BY = Actor("test")
#: counter → measure of the query path
COUNTERS = {
    "aicg_calls_total": "calls",
    "aicg_unpriced_calls_total": "unpriced_calls",
    "aicg_usage_missing_calls_total": "usage_missing_calls",
    "aicg_estimated_calls_total": "estimated_calls",
    "aicg_partial_calls_total": "partial_calls",
    "aicg_cost_dollars_total": "cost_nanousd",
}


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    at_noon(monkeypatch)


class Sample(dict[str, str]):
    """Labels of one sample, with its value."""

    value: float


def samples(text: str, name: str) -> list[Sample]:
    out = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                out.append(Sample(sample.labels))
                out[-1].value = sample.value
    return out


def scraped(server: Server, **more: Any) -> str:
    reply = server.get("/v1/metrics", **more)
    assert reply.status == 200, reply
    return reply.raw.decode()


def nano(value: float) -> int:
    return round(value * 10**9)


def added(text: str, name: str, by: str = "") -> Counter[str]:
    out: Counter[str] = Counter()
    for sample in samples(text, name):
        out[sample.get(by, "")] += nano(sample.value) if "dollars" in name else int(sample.value)
    return out


def calls() -> list[dict[str, Any]]:
    return [
        receipt(feature="ask", team="search", latency_ms=120),
        receipt(feature="ask", team="sales", input_tokens=12_345_678, cache_read_input_tokens=60),
        receipt(feature="sum", model="gpt-4o-mini", estimated=True, reasoning_output_tokens=4),
        receipt(model="unheard-of", feature="ask"),
        receipt(provider="anthropic", model="claude", operation="embeddings", partial=True),
        {"provider": "openai", "model": "gpt-4o", "usage_missing": True},
    ]


#: unit as it is told → (measure, how many of the measure one of it is)
BILLED_BY = {
    "images": ("images", 1),
    "characters": ("characters", 1),
    "audio_seconds": ("audio_ms", 1000),
    "video_seconds": ("video_ms", 1000),
    "web_searches": ("web_searches", 1),
    "tool_calls": ("tool_calls_billed", 1),
    "search_units": ("search_units", 1),
    "requests": ("requests_billed", 1),
}


def begun(store: SqliteStore) -> None:
    spend.counted(store, NOW)


def counted(store: SqliteStore) -> Counter[str]:
    """What the counters of the first project add up to, by measure."""
    store.fold()
    out: Counter[str] = Counter()
    for row in store.look(lambda connection: taken.rows(connection, [1])):
        out.update(row.sums)
    return out


@pytest.mark.ids("Z9", "E20")
def test_counters_and_gauges_say_what_the_query_path_says(server: Server, store: SqliteStore) -> None:
    scraped(server)
    assert server.post(envelope(calls(), name=epoch(), environment="production")).body["accepted"] == 6
    assert server.post(envelope(calls()[:3], name=epoch())).body["accepted"] == 3
    text = scraped(server)
    totals = costs(store, since="all")["totals"]
    for name, measure in COUNTERS.items():
        assert added(text, name)[""] == totals[measure], name
        for by in (*spend.BREAKDOWNS, "operation"):
            rows = costs(store, group_by=by)["rows"]
            wanted = {row[by] or ("chat" if by == "operation" else ""): row[measure] or 0 for row in rows}
            found = added(text, name, by)
            assert +found == +Counter(wanted), (name, by)
    for type_, measure in (("input", "input_tokens"), ("output", "output_tokens")):
        assert added(text, "aicg_tokens_total", "type")[type_] == totals[measure]
    parts = added(text, "aicg_token_parts_total", "part")
    assert parts == {"cache_read_input": 120, "reasoning_output": 8}
    for period in spend.PERIODS:
        totals = costs(store, since=period)["totals"]
        for measure in ("calls", "unpriced_calls", "usage_missing_calls", "estimated_calls", "input_tokens"):
            assert added(text, f"aicg_{period}_{measure}")[""] == totals[measure]
        assert added(text, f"aicg_{period}_cost_dollars")[""] == totals["cost_nanousd"]
        for by in spend.BREAKDOWNS:
            rows = costs(store, since=period, group_by=by)["rows"]
            known = {row[by] or "": row["cost_nanousd"] for row in rows if row["cost_nanousd"] is not None}
            assert dict(added(text, f"aicg_{period}_{by}_cost_dollars", by)) == known


@pytest.mark.ids("Z9", "E20")
def test_what_is_billed_otherwise_than_by_the_token_is_counted_by_its_unit(server: Server, store: SqliteStore) -> None:
    scraped(server)
    made = [receipt(**{measure: 1500 + place}) for place, (measure, _) in enumerate(BILLED_BY.values())]
    for body in (made, made[::2]):
        assert server.post(envelope(body, name=epoch())).body["refused"] == []
    text = scraped(server)
    told: dict[str, float] = {}
    for sample in samples(text, "aicg_units_total"):
        told[sample["unit"]] = told.get(sample["unit"], 0) + sample.value
    totals = costs(store)["totals"]
    assert told == {unit: totals[measure] / size for unit, (measure, size) in BILLED_BY.items()}
    assert min(told.values()) > 0


def test_cost_that_nobody_knows_is_no_zero(server: Server) -> None:
    scraped(server)
    server.post(envelope([receipt(model="unheard-of"), receipt()], name=epoch()))
    text = scraped(server)
    for name in ("aicg_cost_dollars_total", "aicg_today_model_cost_dollars"):
        assert {sample["model"] for sample in samples(text, name)} == {"gpt-4o"}, name
    assert added(text, "aicg_unpriced_calls_total", "model") == {"unheard-of": 1, "gpt-4o": 0}


def test_repricing_moves_gauges_and_no_counter(server: Server, store: SqliteStore) -> None:
    scraped(server)
    server.post(envelope(calls(), name=epoch()))
    before = scraped(server)

    def free(asked: Any, at_ms: int) -> Price:
        return Price(1, "cheap@2026-11-29", None)

    wanted = Scope(1, 0, 2 * NOW, unpriced_only=False)
    assert repricing.reprice(store, wanted, free, "test", NOW, apply=True).changed == 6
    after = scraped(server)
    assert costs(store)["totals"]["cost_nanousd"] == 6
    assert added(after, "aicg_today_cost_dollars") == {"": 6}
    for name in COUNTERS:
        assert added(after, name, "model") == added(before, name, "model"), "what came in is what came in"


def test_each_receipt_is_counted_once_whatever_comes_twice(store: SqliteStore) -> None:
    begun(store)
    sent = envelope(calls(), name=epoch())
    take(store, sent)
    take(store, sent)
    assert counted(store)["calls"] == 6
    found = store.look(taken.gather)
    assert found is None
    take(store, envelope(calls(), name=epoch()))
    one, two = store.look(taken.gather), store.look(taken.gather)
    assert one is not None and two is not None
    for gathered in (one, two):  # two processes of the same file
        store.change(lambda connection, gathered=gathered: taken.put(connection, gathered))
    assert counted(store)["calls"] == 12
    again = ledger.open_ledger(store.path)
    take(again, envelope(calls(), name=epoch()))
    assert counted(again)["calls"] == counted(store)["calls"] == 18
    again.close()


def test_killed_between_what_was_gathered_and_what_was_kept_nothing_is_lost_or_doubled(store: SqliteStore) -> None:
    begun(store)
    take(store, envelope(calls(), name=epoch()))
    found = store.look(taken.gather)
    assert found is not None

    def broken(connection: sqlite3.Connection) -> None:
        taken.put(connection, found)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store.change(broken)
    assert counted(store)["calls"] == 6


def test_arrivals_are_kept_until_they_are_counted(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard.ledger.sqlite import arrived

    monkeypatch.setattr(arrived, "REMEMBERED", 1)
    monkeypatch.setattr(arrived, "FORGET_EVERY", 1)
    monkeypatch.setattr(taken, "RUNS_AT_ONCE", 2)
    begun(store)
    for _ in range(5):
        take(store, envelope([receipt()], name=epoch()))
        store.change(lambda connection: connection.execute("UPDATE spread_to SET arrival = 10000"))
    assert counted(store)["calls"] == 5


def test_it_begins_with_the_first_question_and_costs_nobody_anything_before(store: SqliteStore) -> None:
    take(store, envelope(calls(), name=epoch()))
    assert counted(store) == {} and store.look(taken.since) is None
    begun(store)
    assert counted(store) == {}
    take(store, envelope([receipt()], name=epoch()))
    assert counted(store)["calls"] == 1


def test_a_restored_ledger_counts_from_nothing_under_another_name(tmp_path: Path) -> None:
    store = ledger.open_ledger(str(tmp_path / "ledger.db"))
    begun(store)
    take(store, envelope(calls(), name=epoch()))
    assert counted(store)["calls"] == 6
    was = store.look(taken.since)
    copying.backup(store.path, str(tmp_path / "copy.db"))
    store.close()
    copying.restore(str(tmp_path / "copy.db"), store.path, replace=True)
    store = ledger.open_ledger(store.path)
    begun(store)
    now = store.look(taken.since)
    assert counted(store) == {} and was is not None and now is not None and was.instance != now.instance
    take(store, envelope([receipt()], name=epoch()))
    assert counted(store)["calls"] == 1
    store.close()


def test_labels_without_end_make_rows_with_an_end(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "MOST", 3)
    begun(store)
    seen: dict[tuple[str, ...], int] = {}
    for at in range(12):
        model = "gpt-4o" if at < 6 else f"model-{at}"
        take(store, envelope([receipt(feature=f"f{at}", model=model)], name=epoch()))
        store.fold()
        rows = {row.labels: row.sums["calls"] for row in store.look(lambda c: taken.rows(c, [1]))}
        assert all(rows[labels] >= was for labels, was in seen.items()), "no row shrinks"
        assert sum(rows.values()) == at + 1, "none is lost"
        seen = rows
    assert len(seen) == 7
    of_model = {labels for labels in seen if labels[3:] == (OTHER,) * 3 and labels[0] == "openai"}
    assert ("openai", "gpt-4o", "", OTHER, OTHER, OTHER) in of_model and len(of_model) == 3
    assert seen[(OTHER,) * 6] == 4
    monkeypatch.setattr(taken, "MOST_OF_ALL", 1)
    other = store.change(lambda c: places.add_project(c, 1, "other", BY, NOW)).id
    ledger.ingest.accept(store, other, envelope([receipt()], name=epoch()), NOW, price=price)
    store.fold()
    assert [row.labels for row in store.look(lambda c: taken.rows(c, [other]))] == [(OTHER,) * 6]


def test_a_breakdown_is_of_the_dearest_and_of_all_others(
    server: Server, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spend, "TOP", 2)
    server.post(envelope([receipt(feature=f"f{n}", input_tokens=n) for n in range(1, 6)], name=epoch()))
    found = added(scraped(server), "aicg_today_feature_cost_dollars", "feature")
    assert found == {"f5": 45, "f4": 42, OTHER: 108}
    assert sum(found.values()) == costs(store)["totals"]["cost_nanousd"]


@pytest.fixture
def keys(store: SqliteStore) -> dict[str, str]:
    """Keys of two organisations; `default` has the projects `default` and `b`, `else` has `c`."""

    def job(connection: sqlite3.Connection) -> dict[str, str]:
        b = places.add_project(connection, 1, "b", BY, NOW).id
        other = places.add_organisation(connection, "else", BY, NOW).id
        c = places.add_project(connection, other, "c", BY, NOW).id

        def key(project: int, role: str = "admin", reach: str = "project") -> str:
            return keyring.add(connection, project, ROLES[role], BY, ledger.now_ms(), reach=reach)[0]

        return {
            "a": key(1),
            "b": key(b),
            "c": key(c),
            "sender": key(1, "ingest"),
            "reader": key(1, "read"),
            "wide": key(1, reach="organisation"),
            "every": key(1, reach="ledger"),
        }

    store.default_project()
    return store.change(job)


@pytest.mark.ids("E20")
def test_who_scrapes_reads_what_its_key_may_read(
    server: Server, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        rule = {"name": f"cap-{name}", "limit_usd": "2.5"}
        assert server.ask("POST", "/v1/budgets", json.dumps(rule).encode(), key=keys[name]).status == 201
    shared = json.dumps({"name": "cap-shared", "limit_usd": 9, "reach": "organisation"}).encode()
    assert server.ask("POST", "/v1/budgets", shared, key=keys["wide"]).status == 201
    scraped(server, key=keys["every"])
    for name in ("a", "b", "c"):
        server.post(envelope([receipt(feature=f"of-{name}")], name=epoch()), key=keys[name])
    seen = {
        "a": ({"of-a"}, {"cap-a"}),
        "reader": ({"of-a"}, {"cap-a"}),
        "b": ({"of-b"}, {"cap-b"}),
        "wide": ({"of-a", "of-b"}, {"cap-a", "cap-b", "cap-shared"}),
        "every": ({"of-a", "of-b", "of-c"}, {"cap-a", "cap-b", "cap-c", "cap-shared"}),
    }
    for fresh_s in (0.0, 3600.0):  # the second time from what is kept
        monkeypatch.setattr(spend, "FRESH_S", fresh_s)
        for name, (features, budgets) in seen.items():
            text = scraped(server, key=keys[name])
            for counter in ("aicg_calls_total", "aicg_today_feature_cost_dollars", "aicg_month_feature_cost_dollars"):
                assert {sample["feature"] for sample in samples(text, counter)} == features, (name, counter)
            assert {sample["budget"] for sample in samples(text, "aicg_budget_limit_dollars")} == budgets
            others = {"of-a", "of-b", "of-c"} - features
            assert not any(word in text for word in others), name
    text = scraped(server, key=keys["every"], AICG_Project="else/c")
    assert {sample["feature"] for sample in samples(text, "aicg_calls_total")} == {"of-c"}
    assert server.get("/v1/metrics", key=keys["a"], AICG_Project="b").status == 404
    assert server.get("/v1/metrics", key=keys["sender"]).status == 403
    assert server.get("/v1/metrics", key=None).status == 401
    assert server.get("/v1/metrics?since=today").body["field"] == "since"
    assert "of-a" not in server.get("/metrics", key=keys["every"]).raw.decode()


def test_budgets_are_told_and_not_whose(server: Server, store: SqliteStore) -> None:
    for rule in (
        {"name": "month", "limit_usd": "0.000002", "period": "month"},
        {"name": "each", "limit_usd": "0.0000005", "per": ["user"], "period": "day", "alert_at": []},
        {"name": "words", "limit_tokens": 1000, "period": "day"},
        {"name": "times", "limit_requests": 3, "period": "day"},
    ):
        reply = server.ask("POST", "/v1/budgets", json.dumps(rule).encode())
        assert reply.status == 201, reply
    server.post(envelope([receipt(user="ada"), receipt(user="ada"), receipt(user="bob")], name=epoch()))
    text = scraped(server)
    told = {sample["budget"]: sample.value for sample in samples(text, "aicg_budget_spent_dollars")}
    assert told == {"month": 9.9e-07}
    limits = {sample["budget"]: sample.value for sample in samples(text, "aicg_budget_limit_dollars")}
    assert limits == {"month": 2e-06, "each": 5e-07}
    assert [sample.value for sample in samples(text, "aicg_budget_spent_tokens")] == [330]
    assert [sample.value for sample in samples(text, "aicg_budget_limit_requests")] == [3]
    states = {(s["budget"], s["state"]): s.value for s in samples(text, "aicg_budget_scopes") if s.value}
    assert states == {
        ("month", "ok"): 1,
        ("words", "ok"): 1,
        ("times", "exceeded"): 1,
        ("each", "ok"): 1,
        ("each", "exceeded"): 1,
    }
    assert "ada" not in text and "bob" not in text


def test_openmetrics_is_told_to_who_asks_for_it(server: Server) -> None:
    server.post(envelope(calls(), name=epoch()))
    reply = server.get("/v1/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.raw.endswith(b"# EOF\n")


def _steps(store: SqliteStore) -> int:
    """How many steps SQLite's machine takes for an answer, by the hundred; what is to be counted is counted before."""
    projects = store.look(places.projects)
    spend.read(store, projects, [-1], ledger.now_ms())
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection = store.look(lambda one: one)  # which is the one that is used next
    connection.set_progress_handler(count, 10)
    try:
        spend.read(store, projects, [-1], ledger.now_ms())
    finally:
        connection.set_progress_handler(None, 0)
    return steps * 10


def test_an_answer_costs_the_same_however_many_receipts_there_are(store: SqliteStore) -> None:
    begun(store)

    def some(times: int) -> None:
        bodies = [receipt(feature=f"f{n % 20}", team=f"t{n % 5}") for n in range(500)]
        for _ in range(times):
            take(store, envelope(bodies, name=epoch(), environment="production"))

    some(1)
    few = _steps(store)
    some(9)
    many = _steps(store)
    assert few and many < 1.2 * few, (few, many)


def test_the_same_question_within_seconds_is_asked_once(
    server: Server, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spend, "FRESH_S", 3600.0)
    read: list[int] = []
    real = spend.read
    monkeypatch.setattr(spend, "read", lambda *given: read.append(1) or real(*given))  # type: ignore[func-returns-value]
    texts = {scraped(server) for _ in range(5)}
    assert len(texts) == 1 and read == [1]
