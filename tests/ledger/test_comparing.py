"""Comparison and quality: what is joined to what, intervals, the same traffic elsewhere, and dearer calls."""

from __future__ import annotations

import functools
import json
import math
import random
import statistics
from typing import Any, Mapping

import pytest

from aicostguard import ledger, pricing
from aicostguard.ledger import comparing, query, scores, views
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DAY_MS, HOUR_MS, Query
from aicostguard.ledger.scores import quality
from aicostguard.ledger.sqlite import SqliteStore, scored
from tests.ledger.support import NOW, Server, aicg, envelope, epoch, receipt, take

BOOK = pricing.default_book()


def score(store: SqliteStore, *found: Mapping[str, Any]) -> None:
    made = scores.parse({"scores": list(found)}, ledger.now_ms())
    store.change(lambda connection: scored.put(connection, store.default_project(), made))


def compare(store: SqliteStore, **parameters: str) -> dict[str, Any]:
    given = {name: [value] for name, value in parameters.items()}
    return comparing.compare(store, given, store.default_project(), ledger.now_ms())


def by_model(answer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["model"]: row for row in answer["models"]}


@pytest.fixture
def filled(store: SqliteStore) -> SqliteStore:
    bodies = [
        receipt(request="r1", session="s1", latency_ms=100),
        receipt(request="r2", session="s1", latency_ms=300),
        receipt(request="r3", model="gpt-4o-mini"),
        receipt(request="r4", model="unheard-of"),
        receipt(request="r5", model="o3", input_tokens=0, output_tokens=0),
    ]
    take(store, envelope(bodies), price=BOOK.cost)
    return store


@pytest.mark.ids("A29", "ACC:A17", "ACC:A18")
def test_scores_are_joined_to_the_models_that_served(filled: SqliteStore) -> None:
    score(
        filled,
        {"name": "accuracy", "value": 0.5, "request": "r1"},
        {"name": "accuracy", "value": 1, "request": "r2"},
        {"name": "accuracy", "value": 0.25, "request": "r3"},
        {"name": "accuracy", "value": 9, "request": "of nobody"},
        {"name": "thumbs", "value": -1, "session": "s1"},
        {"name": "bleu", "value": 30.5, "run": "nightly", "model": "claude-opus-4-1"},
    )
    found = by_model(compare(filled))
    assert found["gpt-4o"]["quality"]["accuracy"]["mean"] == 0.75
    assert found["gpt-4o"]["quality"]["thumbs"] == {"scores": 1, "mean": -1.0, "low": None, "high": None}
    assert found["gpt-4o"]["avg_quality"] is None, "two scales have no common mean"
    assert found["gpt-4o-mini"]["avg_quality"] == 0.25
    assert found["claude-opus-4-1"]["calls"] == 0 and found["claude-opus-4-1"]["avg_quality"] == 30.5
    assert by_model(compare(filled, score="accuracy"))["gpt-4o"]["avg_quality"] == 0.75
    cost = BOOK.cost(receipt(), NOW).cost_nanousd or 0
    assert found["gpt-4o"]["cost_per_token_usd"] == format(cost / 110 / 1e9, ".15f").rstrip("0")
    assert found["o3"]["cost_per_token_usd"] is found["unheard-of"]["cost_per_token_usd"] is None
    shape = views.look("compare_models", {}, views.Asker(filled, filled.default_project(), ledger.now_ms()))
    assert {tuple(row) for row in shape} == {("model", "avg_quality", "cost_per_token")}
    assert set(by_model(compare(filled, model="gpt-4o"))) == {"gpt-4o"}


def test_a_model_that_the_limit_cuts_off_is_not_one_without_calls(filled: SqliteStore) -> None:
    score(
        filled,
        {"name": "accuracy", "value": 0.5, "request": "r1"},
        {"name": "accuracy", "value": 0.25, "request": "r3"},
        {"name": "accuracy", "value": 1, "run": "nightly", "model": "claude-opus-4-1"},
    )
    answer = compare(filled, limit="1")
    assert [(row["model"], row["calls"]) for row in answer["models"]] == [("gpt-4o", 2), ("claude-opus-4-1", 0)]
    assert answer["more_models"] == 3


@pytest.mark.ids("A29", "A32")
@pytest.mark.parametrize("seed", range(4))
def test_a_comparison_says_what_receipts_and_scores_say_one_by_one(store: SqliteStore, seed: int) -> None:
    rng = random.Random(seed)
    models, now = ("gpt-4o", "gpt-4o-mini", "o3"), ledger.now_ms()
    at = now - now % HOUR_MS - 3 * DAY_MS
    bodies = [
        receipt(
            model=rng.choice(models),
            input_tokens=rng.randrange(5000),
            latency_ms=rng.randrange(5000),
            feature=rng.choice("ab"),
            request=f"r{rng.randrange(30)}",
            session=f"s{rng.randrange(5)}",
        )
        for _ in range(120)
    ]
    times = [at + rng.randrange(2 * DAY_MS) for _ in bodies]
    take(store, envelope(bodies, at=times), price=BOOK.cost)
    given = [
        {"name": rng.choice("xy"), "value": rng.random(), **more}
        for kind, subject in [("request", f"r{n}") for n in range(40)] + [("session", f"s{n}") for n in range(8)]
        for more in ({kind: subject}, {kind: subject, "model": rng.choice(models)})
    ]
    score(store, *given)
    kept = {(one["name"], *(one.get(key, "") for key in ("request", "session", "model"))): one for one in given}
    for since, until in ((at, at + 2 * DAY_MS), (at + 7_000, at + DAY_MS + 1_234_567)):
        for feature in ("", "a"):
            passed = [
                body for body, ms in zip(bodies, times) if since <= ms < until and feature in ("", body["feature"])
            ]
            asked = Query(store.default_project(), since, until, filters={"feature": (feature,)} if feature else {})
            answer = query.run(store, asked._replace(group_by=("model",), latency="approximate"))
            for row in answer["rows"]:
                its = [body for body in passed if body["model"] == row["model"]]
                costs = [BOOK.cost(body, at).cost_nanousd for body in its]
                assert (row["calls"], row["cost_nanousd"]) == (len(its), sum(cost or 0 for cost in costs))
                exact = statistics.median(sorted(body["latency_ms"] for body in its))
                assert row["latency_p50_ms"] == pytest.approx(exact, rel=0.011, abs=1)
            expected: dict[tuple[str, str], list[float]] = {}
            for one in kept.values():
                kind = "request" if "request" in one else "session"
                for model in {body["model"] for body in passed if body[kind] == one[kind]}:
                    if one.get("model", model) == model:
                        expected.setdefault((model, one["name"]), []).append(one["value"])
            for name in ("", "x"):
                wanted = {key: values for key, values in expected.items() if name in ("", key[1])}
                for enough in (0, 10**9):  # from the receipts to their scores, and from the scores to their receipts
                    with pytest.MonkeyPatch.context() as patched:
                        patched.setattr(scored, "_calls", lambda *_, enough=enough: enough or 1)
                        found = store.look(functools.partial(scored.qualities, query=asked, name=name))
                    assert {key: one.scores for key, one in found.items()} == {
                        key: len(values) for key, values in wanted.items()
                    }
                    for key, values in wanted.items():
                        assert found[key].mean == pytest.approx(statistics.fmean(values))


@pytest.mark.ids("A29")
@pytest.mark.parametrize("calls,marks", [(4_000, 40), (400, 4_000), (4_000, 4_000)])
def test_quality_takes_work_for_scores_or_for_calls_and_never_for_each_of_one_with_each_of_the_other(
    store: SqliteStore, calls: int, marks: int
) -> None:
    for first in range(0, calls, 400):
        take(store, envelope([receipt(request=f"r{first + n}") for n in range(400)], first=first))
    for first in range(0, marks, 1_000):
        found = [{"name": "q", "value": n % 7, "request": f"r{first + n}"} for n in range(min(1_000, marks))]
        score(store, *found)
    store.fold()
    ticks: list[int] = []
    connection = store.look(lambda connection: connection)
    connection.set_progress_handler(lambda: ticks.append(1) and None, 100)
    try:
        found_of = by_model(compare(store))["gpt-4o"]["quality"]["q"]
    finally:
        connection.set_progress_handler(None, 0)
    assert found_of["scores"] == min(calls, marks)
    assert 100 * len(ticks) < 20_000 + 150 * min(calls, marks), 100 * len(ticks)


def test_a_score_that_is_sent_again_counts_once(filled: SqliteStore) -> None:
    for value in (0.1, 0.1, 0.7):
        score(filled, {"name": "q", "value": value, "request": "r1"})
    found = by_model(compare(filled))["gpt-4o"]["quality"]["q"]
    assert (found["scores"], found["mean"]) == (1, 0.7)


def test_the_interval_is_students() -> None:
    values = [0.2, 0.4, 0.4, 0.9, 0.6]
    found = quality(len(values), sum(values), sum(value**2 for value in values))
    half = 2.7764 * statistics.stdev(values) / math.sqrt(5)
    assert (found.low, found.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert quality(3, 3.0, 3.0) == (3, 1.0, 1.0, 1.0)
    for freedom, expected in ((1, 12.7062), (30, 2.0423), (31, 2.0395), (60, 2.0003), (1000, 1.9623)):
        assert scores.student(freedom) == pytest.approx(expected, abs=2e-4)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    rng = random.Random(7)
    held = 0
    for _ in range(400):
        values = [rng.gauss(3, 2) for _ in range(6)]
        found = quality(6, sum(values), sum(value**2 for value in values))
        assert found.low is not None and found.high is not None
        held += found.low <= 3 <= found.high
    assert 365 <= held <= 395


@pytest.mark.parametrize(
    "body,field",
    [
        ({"name": "q", "value": 1}, "request"),
        ({"name": "q", "value": 1, "request": "r", "session": "s"}, "request"),
        ({"name": "q", "value": True, "request": "r"}, "value"),
        ({"name": "q", "value": float("nan"), "request": "r"}, "value"),
        ({"name": "q", "value": float("inf"), "request": "r"}, "value"),
        ({"name": "q", "value": 10**400, "request": "r"}, "value"),
        ({"name": "q", "value": "1", "request": "r"}, "value"),
        ({"name": "", "value": 1, "request": "r"}, "name"),
        ({"name": "q", "value": 1, "run": "r"}, "model"),
        ({"name": "q", "value": 1, "run": "r", "model": "a b"}, "model"),
        ({"name": "q", "value": 1, "request": "r\n"}, "request"),
        ({"name": "q", "value": 1, "request": "r", "at": -1}, "at"),
        ({"name": "q", "value": 1, "request": "r", "prompt": "x"}, "prompt"),
        ({"scores": []}, "scores"),
        ({"scores": [1]}, "scores[0]"),
        ({"scores": [{"name": "q", "value": 1, "request": "r"}, {"value": 1}]}, "scores[1].name"),
        ({"scores": [{}] * (scores.MOST_AT_ONCE + 1)}, "scores"),
        ({"scores": [], "name": "q"}, "scores"),
    ],
)
def test_a_score_that_does_not_fit_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        scores.parse(body, NOW)
    assert (refused.value.status, refused.value.field) == (422, field)


@pytest.mark.ids("E18", "Z5", "A32")
def test_the_same_traffic_on_another_model_is_priced_receipt_by_receipt(filled: SqliteStore) -> None:
    answer = compare(filled, baseline="claude-sonnet-4-5")
    there = BOOK.cost(receipt(provider="anthropic", model="claude-sonnet-4-5"), NOW).cost_nanousd or 0
    here = {name: BOOK.cost(receipt(model=name), NOW).cost_nanousd or 0 for name in ("gpt-4o", "gpt-4o-mini")}
    rows = by_model(answer)
    assert rows["gpt-4o"]["on_baseline"]["saved_nanousd"] == 2 * (there - here["gpt-4o"])
    assert rows["gpt-4o-mini"]["on_baseline"]["saved_nanousd"] == there - here["gpt-4o-mini"]
    assert rows["unheard-of"]["on_baseline"]["left_out"] == {"no price today": 1}
    whole = answer["baseline"]
    assert (whole["provider"], whole["calls"], whole["calls_left_out"]) == ("anthropic", 4, 1)
    assert whole["saved_nanousd"] == 3 * there - 2 * here["gpt-4o"] - here["gpt-4o-mini"]
    assert compare(filled, baseline="openai/gpt-4o", model="gpt-4o")["baseline"]["saved_nanousd"] == 0
    for wrong in ("nobody-knows", "nobody/gpt-4o"):
        with pytest.raises(Refused) as refused:
            compare(filled, baseline=wrong)
        assert refused.value.field == "baseline"


def test_a_what_if_says_when_it_would_take_too_long(filled: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MOST_PRICED", 4)
    with pytest.raises(Refused, match="5 receipts"):
        compare(filled, baseline="gpt-4o")
    assert compare(filled, baseline="gpt-4o", model="gpt-4o")["baseline"]["calls"] == 2


@pytest.mark.ids("A33")
def test_a_release_that_makes_calls_dearer_is_found_with_its_interval(store: SqliteStore) -> None:
    moment = NOW - 2 * DAY_MS
    rng = random.Random(3)
    for release, model, ago in (("1.0", "gpt-4o-mini", HOUR_MS), ("1.1", "gpt-4o", -HOUR_MS)):
        chat = [receipt(feature="chat", model=model, input_tokens=rng.randrange(900, 1100)) for _ in range(40)]
        same = [receipt(feature="rag", input_tokens=rng.randrange(900, 1100)) for _ in range(40)]
        body = envelope(
            [*chat, *same, receipt(feature=release)], name=epoch(), ago_ms=2 * DAY_MS + ago, release=release
        )
        take(store, body, price=BOOK.cost)
    chat, rag = comparing.changes(store, store.default_project(), moment)
    assert (chat.feature, chat.models, chat.releases) == ("chat", ("gpt-4o-mini", "gpt-4o"), ("1.0", "1.1"))
    assert chat.sure and chat.low_nanousd is not None and chat.high_nanousd is not None and chat.low_nanousd > 0
    assert chat.low_nanousd < chat.after_nanousd - chat.before_nanousd < chat.high_nanousd
    assert chat.ratio is not None and chat.ratio > 10
    assert (rag.feature, rag.sure) == ("rag", False)
    assert comparing.changes(store, store.default_project(), moment, min_calls=41) == []
    assert len(comparing.changes(store, store.default_project(), moment, filters={"feature": ("rag",)})) == 1


def test_one_call_on_a_side_has_no_interval_and_equal_costs_are_no_change(store: SqliteStore) -> None:
    take(store, envelope([receipt(feature="a")] * 3 + [receipt(feature="b")], ago_ms=2 * HOUR_MS))
    take(store, envelope([receipt(feature="a")] * 3 + [receipt(feature="b")], name=epoch()))
    a, b = sorted(comparing.changes(store, store.default_project(), NOW - HOUR_MS), key=lambda one: str(one.feature))
    assert (a.low_nanousd, a.high_nanousd, a.sure, a.ratio) == (0, 0, False, 1.0)
    assert (b.low_nanousd, b.sure) == (None, False)


def test_scores_and_comparison_over_http(filled: SqliteStore, server: Server) -> None:
    one = json.dumps({"name": "accuracy", "value": 0.5, "request": "r1"}).encode()
    assert server.ask("POST", "/v1/scores", one).body == {"stored": 1}
    many = json.dumps({"scores": [{"name": "accuracy", "value": 1, "request": "r2"}] * 2}).encode()
    assert server.ask("POST", "/v1/scores", many).body == {"stored": 2}
    wrong = server.ask("POST", "/v1/scores", b'{"name": "q", "value": NaN, "request": "r"}')
    assert wrong.status in (400, 422)
    assert server.ask("POST", "/v1/scores", one, key=None).status == 401
    assert server.ask("POST", "/v1/scores", b'{"name": "%s"}' % (b"x" * 600_000)).status == 413
    assert by_model(server.get("/v1/compare").body)["gpt-4o"]["quality"]["accuracy"]["mean"] == 0.75
    assert b"accuracy_mean" in server.get("/v1/compare?format=csv").raw
    assert server.get("/v1/compare?group_by=day").body["field"] == "group_by"
    assert server.get("/v1/compare?baseline=gpt-4o&baseline=o3").body["field"] == "baseline"


def test_the_commands_show_models_and_compare_them(filled: SqliteStore) -> None:
    score(filled, {"name": "accuracy", "value": 0.5, "request": "r1"})
    shown = aicg("compare", "--db", filled.path, "--baseline", "claude-sonnet-4-5").stdout
    assert "accuracy 0.5" in shown and "on claude-sonnet-4-5 (anthropic), the same tokens assumed" in shown
    assert "! 1 calls are left out of this: no price today" in shown
    models = aicg("models", "--db", filled.path, "--since", "7d").stdout.splitlines()
    assert models[0].split() == ["model", "calls", "unpriced", "cost", "a", "call", "1M", "tokens"]
    assert any(line.startswith("gpt-4o ") and "$3.181818" in line for line in models)
    assert json.loads(aicg("models", "--db", filled.path, "--json").stdout)["more_models"] == 0
    assert aicg("compare", "--db", filled.path, "--csv").stdout.startswith("model,calls")


def test_a_cost_that_lacks_calls_without_a_price_says_so(filled: SqliteStore) -> None:
    take(filled, envelope([{"provider": "openai", "model": "gpt-4o", "usage_missing": True}], name=epoch()))
    cost = by_model(compare(filled))["gpt-4o"]["cost_usd"]
    for verb in ("compare", "models"):
        lines = aicg(verb, "--db", filled.path).stdout.splitlines()
        assert [line.split()[0] for line in lines if "≥" in line] == ["gpt-4o"]
        assert f"≥ ${cost} " in next(line for line in lines if line.startswith("gpt-4o "))
