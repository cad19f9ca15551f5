"""What each kind of rule sees, when it fires, in which words, and what the watch costs."""

from __future__ import annotations

import re
import sqlite3
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.alerts import baseline, readings, words
from aicostguard.ledger.alerts import rule as rules
from aicostguard.ledger.budgets import rule as budget_rule
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.keeping import labels
from aicostguard.ledger.model import TIMES
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.alerting import DAY, HOUR, MINUTE, NOON, Town
from tests.ledger.support import receipt, take


@pytest.fixture
def town(store: SqliteStore) -> Town:
    return Town(store)


@pytest.mark.ids("X5", "D06")
def test_the_stated_defaults_are_there_from_the_start_and_can_be_set(town: Town) -> None:
    rows = {row["name"]: row for row in town.office.rules()["rules"]}
    stated = {name: (rows[name]["threshold"], rows[name]["action"]) for name in list(rows)[:4]}
    assert stated == {
        "hourly_spend": ("100", "warn"),
        "daily_spend": ("500", "alert"),
        "single_request": ("1", "flag"),
        "rate_spike": ("2", "investigate"),
    }
    for name in stated:
        assert town.office.change_rule(name, {"threshold": "7.25"})["threshold"] == "7.25"
    town.office.remove_rule("daily_spend")
    town.watch.tick()
    names = [row["name"] for row in town.again().office.rules()["rules"]]
    assert "daily_spend" not in names, "what was removed stays removed"
    assert names.count("hourly_spend") == 1


@pytest.mark.ids("D06", "D07", "E15", "X2")
def test_hourly_and_daily_spend_fire_above_their_thresholds_in_the_sources_words(town: Town) -> None:
    town.only("hourly_spend", "daily_spend")
    town.spend(100)
    assert town.look() == [], "what reaches the threshold exactly does not exceed it"
    town.spend(23.456)
    assert [(row["text"], row["value"], row["threshold"], row["action"]) for row in town.look()] == [
        ("Hourly spend $123.46 exceeds threshold", "123.456", "100", "warn")
    ]
    for _ in range(4):
        town.now_ms += HOUR
        town.spend(99)
        town.look()
    assert town.texts()[-1:] == ["Daily spend $519.46 exceeds threshold"]


@pytest.mark.ids("D06")
def test_one_dear_request_is_flagged_once_an_hour(town: Town) -> None:
    town.only("single_request")
    town.spend(1)
    assert town.look() == []
    town.spend(1.5, model="o3", feature="plan")
    (found,) = town.look()
    assert found["text"] == "Single request $1.50 exceeds threshold (o3, plan)"
    assert "model=o3" in found["url"]
    town.spend(2)
    town.look()
    assert [row["id"] for row in town.every()] == [found["id"]], "told once within the hour"
    town.now_ms += HOUR
    town.spend(3)
    assert [row["value"] for row in town.look()] == ["3"]


def test_a_request_that_comes_in_late_is_flagged_all_the_same(town: Town) -> None:
    town.only("single_request")
    town.spend(5, ago_ms=5 * HOUR)
    assert [row["value"] for row in town.look()] == ["5"]


def test_what_comes_in_after_the_hour_counts_for_the_hour_it_was_spent_in(town: Town) -> None:
    town.only("hourly_spend")
    town.now_ms = NOON + 60_000
    town.spend(150, ago_ms=120_000)
    (found,) = town.look()
    assert "since=2026-11-25T11" in found["url"].replace("%3A", ":")
    town.spend(101)
    assert [row["value"] for row in town.look()] == ["101"], "the new hour by itself"
    assert [row["value"] for row in town.every()] == ["150", "101"]


def test_spend_is_told_apart_by_a_label_and_only_of_calls_that_match(town: Town) -> None:
    town.only()
    town.office.add_rule({"name": "teams", "kind": "spend", "threshold": 10, "per": "team"})
    town.office.add_rule(
        {"name": "search", "kind": "spend", "threshold": 10, "period": "month", "match": {"team": "search"}}
    )
    town.spend(11, team="search")
    town.spend(12, team="ads")
    town.spend(9, team="mail")
    town.watch.check(town.project)
    assert sorted(town.texts()) == [
        "Daily spend $11.00 exceeds threshold (team=search)",
        "Daily spend $12.00 exceeds threshold (team=ads)",
        "Monthly spend $11.00 exceeds threshold (team=search)",
    ]


@pytest.mark.ids("X6")
def test_the_day_of_a_rule_is_that_of_its_zone(town: Town) -> None:
    town.only()
    town.office.add_rule({"name": "utc", "kind": "spend", "threshold": 10})
    town.office.add_rule({"name": "tokyo", "kind": "spend", "threshold": 10, "timezone": "Asia/Tokyo"})
    town.spend(11, ago_ms=DAY // 4)  # 06:00 UTC is 15:00 in Tokyo; four hours on, Tokyo has a new day
    town.now_ms += 4 * HOUR
    town.watch.check(town.project)
    assert [row["rule"] for row in town.open()] == ["utc"]


def history(town: Town, weeks: int, hourly: float) -> None:
    """So many weeks, in which each hour cost the same."""
    for hours in range(1, weeks * 7 * 24 + 1, 1):
        town.spend(hourly, ago_ms=hours * HOUR)


@pytest.mark.ids("E16", "D06")
def test_a_runaway_of_50_dollars_in_ten_minutes_is_caught_within_a_minute(town: Town) -> None:
    town.only("rate_spike")
    history(town, 1, 2)
    assert town.look() == []
    began = town.now_ms
    while not town.open():
        assert town.now_ms - began < 10 * MINUTE
        town.spend(5)  # a loop: five dollars a minute
        town.pass_time(MINUTE, 1000)
    (found,) = town.open()
    assert float(found["value"]) <= 15, "long before the fifty dollars are gone"
    assert "median of this hour of the day" in found["text"]
    assert found["action"] == "investigate"


def test_what_is_usual_is_what_the_same_hours_of_the_week_cost(town: Town) -> None:
    town.only("rate_spike")
    for week in range(1, 6):
        town.spend(180, ago_ms=week * 7 * DAY)
    town.spend(1, ago_ms=36 * DAY)
    town.spend(50)
    assert town.look() == [], "fifty in ten minutes are not twice the 180 an hour of Wednesday noons"
    town.spend(11)
    (found,) = town.look()
    assert found["text"].startswith("Spend rate is 2.0× normal: $61.00 in 10 minutes, usually $30.00")
    assert "this hour of the week, 5 weeks" in found["text"]


def test_hours_that_differ_from_each_other_make_no_spike_of_one_more(store: SqliteStore) -> None:
    steady = baseline.of([100, 100, 101, 99, 100], "")
    wild = baseline.of([20, 180, 100, 60, 140], "")
    assert steady.median == wild.median == 100
    assert steady.line(2_000_000, HOUR) == 200
    assert wild.line(2_000_000, HOUR) == 100 + 3 * round(1.4826 * 40)
    outlier = baseline.of([100, 100, 101, 99, 100_000], "")
    assert outlier.median == 100, "one wild hour moves nothing"


def test_little_history_is_said_and_cents_do_not_alarm(town: Town) -> None:
    town.only("rate_spike")
    town.spend(9)
    assert town.look() == [], "below the minimum nothing is a spike"
    town.spend(2)
    (found,) = town.look()
    assert found["text"] == "Spend rate: $11.00 in 10 minutes; there is no history yet to compare it with"


def test_a_few_hours_of_history_are_better_than_none(town: Town) -> None:
    town.only("rate_spike")
    for hours in range(1, 12):
        town.spend(120, ago_ms=hours * HOUR)
    town.spend(30)
    assert town.look() == []
    town.spend(15)
    assert "for want of more history" in town.look()[0]["text"]


def queried(town: Town, name: str, measure: str, threshold: Any, below: bool = False, **query: str) -> None:
    """Add a rule that asks for something, of the last day where nothing else is said."""
    stated = {"name": name, "kind": "query", "measure": measure, "threshold": threshold}
    comparison = {"comparison": "below"} if below else {}
    town.office.add_rule({**stated, **comparison, "query": {"since": "24h", **query}})


def test_any_saved_query_can_be_a_rule(town: Town) -> None:
    town.only()
    queried(town, "dear answers", "cost_per_call_usd", "0.05", group_by="feature")
    queried(town, "silence", "calls", 12, below=True, since="today")
    town.spend(1, calls=10, feature="chat")
    town.spend(0.01, calls=1, feature="tags")
    town.watch.check(town.project)
    assert sorted(town.texts()) == [
        "dear answers: cost_per_call_usd $0.10 is above $0.05 (feature=chat)",
        "silence: calls 11 is below 12",
    ]
    town.spend(0.1, calls=3, feature="tags")
    town.watch.check(town.project)
    town.pass_time(7 * MINUTE)
    assert [row["rule"] for row in town.open()] == ["dear answers"]


def test_a_cost_that_nobody_knows_is_not_below_anything(town: Town) -> None:
    town.only()
    queried(town, "idle", "cost_usd", "0.5", below=True, group_by="model")
    town.spend(1, model="unheard-of", calls=2)
    town.spend(0.25, model="gpt-4o")
    town.watch.check(town.project)
    assert town.texts() == ["idle: cost_usd $0.25 is below $0.50 (model=gpt-4o)"]


@pytest.mark.parametrize("time", TIMES)
def test_the_link_of_a_rule_by_time_leads_to_its_period(town: Town, time: str) -> None:
    town.only()
    queried(town, "busy", "calls", 1, group_by=f"{time},model")
    town.spend(1, calls=5)
    town.watch.check(town.project)
    (alert,) = town.open()
    given = dict(parse_qsl(urlsplit(alert["url"]).query))
    assert time not in given
    assert (given["model"], given["group_by"]) == ("gpt-4o", f"{time},model")


@pytest.mark.ids("X1")
def test_a_model_without_a_price_is_told_of_until_it_has_one(town: Town) -> None:
    town.only("unpriced_models")
    town.spend(1, model="unheard-of", calls=2)
    (found,) = town.look()
    assert found["text"] == "Model unheard-of has no price: 2 calls of the last day are in no sum"
    town.now_ms += 2 * DAY
    town.pass_time(6 * MINUTE)
    assert town.open() == []


def test_receipts_that_never_came_are_told_of(town: Town) -> None:
    town.only("delivery_gaps")
    body = {
        "schema": 1,
        "agent": "0.1.0",
        "epoch": "01GAPGAP",
        "sent_at": town.now_ms,
        "host": "web-1",
        "service": "shop",
    }
    more = {"seq": [0, 5], "at": [town.now_ms] * 2, "receipts": [receipt()] * 2}
    take(town.store, {**body, **more}, received_ms=town.now_ms)
    assert town.look() == [], "they may still come"
    town.pass_time(62 * MINUTE)
    assert town.texts() == ["4 receipts of the last day are lost (host=web-1, service=shop)"]


def test_a_label_with_more_values_than_sums_have_room_for_is_told_of(town: Town) -> None:
    town.only("labels_full")
    labels.set_bound(town.store, None, "user", 2, town.now_ms, Actor("test"))
    labels.set_bound(town.store, None, "feature,model", 1, town.now_ms, Actor("test"))
    for user in "ab":
        town.spend(1, user=user, feature="f", service="shop")
    assert town.look() == [], "what has room exactly is not full"
    for user in "cda":
        town.spend(1, user=user, feature="f", service="jobs")
    (found,) = town.look()
    day = "2026-11-25"
    assert found["text"] == (
        f"Label user has more than 2 values on {day}: 2 calls stand under (other), the first from service jobs; "
        "aicg labels says more"
    )
    assert (found["group"], found["value"], found["action"]) == ({"label": "user"}, "2", "investigate")
    assert found["url"] == "https://costs.example/delivery?since=24h"
    town.spend(1, user="a", feature="g")
    assert [row["group"]["label"] for row in town.look()] == ["user", "feature,model"]
    assert "Label feature × model has more than 1 value on" in town.texts()[1]
    town.pass_time(DAY + 10 * MINUTE)
    assert town.open() == [], "no day came to be full within the last"
    assert town.office.change_rule("labels_full", {"threshold": "3"})["threshold"] == "3"
    for user in "abcde":
        town.spend(1, user=user)
    assert town.look() == [], "so many are let pass"
    town.spend(1, user="f")
    assert [row["value"] for row in town.look()] == ["4"]


def test_a_project_that_was_there_before_a_rule_is_given_it_once(town: Town) -> None:
    first = {row["name"] for row in town.office.rules()["rules"]}
    town.office.remove_rule("labels_full")
    town.office.remove_rule("daily_spend")
    town.watch.tick()
    own = None
    for _ in range(3):
        town.store.change(lambda connection: connection.execute("UPDATE alert_projects SET rules = 8"))
        again = town.again()
        again.watch.tick()
        thresholds = {row["name"]: row["threshold"] for row in again.office.rules()["rules"]}
        assert set(thresholds) == first - {"daily_spend"}
        assert thresholds["labels_full"] == own or own is None, "what has its name stays as it is"
        own = again.office.change_rule("labels_full", {"threshold": "5"})["threshold"]
    again.office.remove_rule("labels_full")
    assert "labels_full" not in {row["name"] for row in town.again().office.rules()["rules"]}


@pytest.mark.ids("A33")
@pytest.mark.parametrize(
    "new, why",
    [
        ({"model": "o3", "release": "1.0"}, "most calls now have model o3 instead of gpt-4o"),
        ({"model": "gpt-4o", "release": "1.1"}, "most calls now have release 1.1 instead of 1.0"),
        ({"model": "gpt-4o", "release": "1.0"}, "neither model nor release changed for most calls"),
    ],
)
def test_a_model_or_a_release_that_makes_calls_dearer_is_told_of(town: Town, new: dict[str, Any], why: str) -> None:
    town.only("cost_per_call")
    town.spend(10, calls=1000, feature="plan", release="1.0", ago_ms=3 * DAY)
    town.spend(10, calls=1000, feature="chat", release="1.0", ago_ms=3 * DAY)
    town.spend(1.1, calls=100, feature="chat", **new)
    town.spend(5, calls=40, feature="plan", **new)
    assert town.look() == [], "a tenth more is no alarm, and forty calls are too few to say"
    town.spend(2.5, calls=100, feature="plan", **new)
    town.pass_time(6 * MINUTE)
    (text,) = town.texts()
    assert text.startswith("Cost per call of plan rose by ")
    assert text.endswith(why)


def test_less_than_nothing_is_said_with_its_sign() -> None:
    assert words.between(-1_000_000, 2_000_000_000) == "-$0.001 to $2.00 more"
    assert words.between(-2_500_000_000, -10_000_000) == "-$2.50 to -$0.01 more"


@pytest.mark.parametrize(
    "nano,said",
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (20_449, "$0.0000204"),
        (40_000, "$0.00004"),
        (123_456, "$0.000123"),
        (9_999_999, "$0.01"),
        (10_000_000, "$0.01"),
        (-20_449, "-$0.0000204"),
        (1_234_567_895_000_000, "$1,234,567.90"),
    ],
)
def test_small_amounts_are_told_apart(nano: int, said: str) -> None:
    assert words.cents(nano) == said


def test_an_amount_above_its_line_does_not_look_like_it() -> None:
    rule = rules.read({"name": "dear", "kind": "query", "query": {"since": "24h"}, "threshold": "1"})
    assert words.asked(rule, 1_004_000_000, {}) == "dear: cost_usd $1.004 is above $1.000"
    assert words.asked(rule, 1_504_000_000, {}) == "dear: cost_usd $1.50 is above $1.00"


@pytest.mark.ids("A33")
def test_one_dear_call_among_many_is_chance_and_no_alarm(town: Town) -> None:
    town.only("cost_per_call")
    town.spend(10, calls=1000, feature="plan", release="1.0", ago_ms=3 * DAY)
    town.spend(0.99, calls=99, feature="plan", release="1.1")
    town.spend(1, feature="plan", release="1.1")
    assert town.look() == [], "twice as dear on average, by one call alone"
    town.spend(1, calls=30, feature="plan", release="1.1")
    town.spend(1.2, calls=30, feature="plan", release="1.1")
    town.pass_time(6 * MINUTE)
    (text,) = town.texts()
    assert re.search(
        r"; \$0\.0\d+ to \$0\.0\d+ more a call with 95 % confidence; most calls now have release 1\.1", text
    ), text


@pytest.mark.ids("ACC:A15")
def test_thresholds_of_budgets_are_alerts_until_the_period_is_over(town: Town) -> None:
    town.only("budget_thresholds")
    stated = budget_rule.read({"name": "team", "limit_usd": 100, "per": ["team"], "period": "day"})
    town.desk.put(town.project, stated, "test")
    town.spend(80, team="a")
    town.now_ms += 16_000
    town.watch.tick()
    (found,) = town.open()
    assert (found["budget"], found["scope"], found["threshold"]) == ("team", {"team": "a"}, 0.75)
    assert (found["spent_usd"], found["limit_usd"]) == ("80", "100")
    town.spend(15, team="a")
    town.now_ms += 16_000
    town.watch.tick()
    assert [row["threshold"] for row in town.open()] == [0.75, 0.9]
    town.now_ms += DAY
    town.watch.tick()
    assert town.open() == []


BAD = [
    ({"kind": "spend", "threshold": 1}, "name", "is missing"),
    ({"name": "x", "threshold": 1}, "kind", "known are spend, single_request"),
    ({"name": "x", "kind": "spent", "threshold": 1}, "kind", "'spent' cannot be used: use one of spend,"),
    ({"name": "x", "kind": "spend"}, "threshold", "is missing: use an amount in USD"),
    ({"name": "x", "kind": "spend", "threshold": -1}, "threshold", "-1 cannot be used"),
    ({"name": "x", "kind": "spend", "threshold": True}, "threshold", "True cannot be used"),
    ({"name": "x", "kind": "spend", "threshold": "0.0000000001"}, "threshold", "no finer than a nano-dollar"),
    ({"name": "x", "kind": "spend", "threshold": 1, "treshold": 1}, "treshold", "did you mean threshold?"),
    ({"name": "x", "kind": "spend", "threshold": 1, "period": "year"}, "period", "use one of hour, day, week, month"),
    ({"name": "x", "kind": "spend", "threshold": 1, "timezone": "Berlin"}, "timezone", "did you mean Europe/Berlin?"),
    ({"name": "x", "kind": "spend", "threshold": 1, "match": {"tema": "a"}}, "match", "did you mean team?"),
    ({"name": "x", "kind": "spend", "threshold": 1, "window_minutes": 5}, "window_minutes", "a spend rule has no such"),
    ({"name": "x", "kind": "rate_spike", "window_minutes": 0}, "window_minutes", "from 1 to 1440"),
    ({"name": "x", "kind": "query", "threshold": 1}, "query", "is missing: use the parameters of GET /v1/costs"),
    ({"name": "x", "kind": "query", "threshold": 1, "query": {"sinse": "1d"}}, "query", "sinse is not a parameter"),
    ({"name": "x", "kind": "query", "threshold": 1, "query": {}, "measure": "cost"}, "measure", "use one of cost_usd,"),
    ({"name": "x", "kind": "spend", "threshold": 1, "clear": 2}, "clear", "use a share"),
    (
        {"name": "x", "kind": "spend", "threshold": 1, "notify": ["fires"]},
        "notify",
        "use a list of firing and resolved",
    ),
    ({"name": "x", "kind": "spend", "threshold": 1, "action": "page"}, "action", "use one of warn, alert, flag"),
    ({"name": "x", "kind": "spend", "threshold": 1, "channels": ["ops"]}, "channels", "there are none yet"),
    ({"name": "daily_spend", "kind": "spend", "threshold": 1}, "name", "is taken"),
]


@pytest.mark.parametrize("given, field, says", BAD)
def test_a_wrong_rule_is_refused_by_name(town: Town, given: dict[str, Any], field: str, says: str) -> None:
    before = town.office.rules()
    with pytest.raises(Refused) as refused:
        town.office.add_rule(given)
    assert refused.value.status == 422
    assert refused.value.field == field
    assert says in str(refused.value)
    assert town.office.rules() == before


@pytest.mark.parametrize(
    "stated", [*rules.DEFAULTS, {"name": "q", "kind": "query", "threshold": "1.5", "query": {"team": ["a", "b"]}}]
)
def test_a_rule_that_is_written_out_means_the_same(stated: dict[str, Any]) -> None:
    read = rules.read(stated)
    assert rules.read(rules.written(read)) == read
    assert rules.loaded(rules.dumped(read)) == read


def test_a_rule_that_fails_is_shown_and_stops_no_other(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ZeroDivisionError("a secret value")

    monkeypatch.setattr(readings, "READERS", {**readings.READERS, "rate_spike": fails})
    town.spend(150)
    assert [row["rule"] for row in town.look()] == ["hourly_spend", "single_request"]
    faults = {row["name"]: row["fault"] for row in town.office.rules()["rules"] if row["fault"]}
    assert faults == {"rate_spike": "ZeroDivisionError: it failed; the ledger's log says where"}
    monkeypatch.undo()
    town.pass_time(2 * MINUTE)
    assert not [row for row in town.office.rules()["rules"] if row["fault"]], "gone with its cause"


def test_a_rule_that_cannot_be_read_is_shown_too(town: Town) -> None:
    town.store.change(
        lambda connection: connection.execute(
            "UPDATE alert_rules SET rule = replace(rule, ':\"spend\"', ':\"newer\"') WHERE name = 'daily_spend'"
        )
    )
    town.spend(150)
    assert [row["rule"] for row in town.look()] == ["hourly_spend", "single_request", "rate_spike"]
    row = next(row for row in town.office.rules()["rules"] if row["name"] == "daily_spend")
    assert "cannot be used" in row["fault"]


def count(town: Town, job: Any) -> list[str]:
    """The statements that a job runs."""
    ran: list[str] = []
    look = town.store.look

    def traced(work: Any) -> Any:
        def job(connection: sqlite3.Connection) -> Any:
            connection.set_trace_callback(lambda text: ran.append(text) if text.startswith("SELECT") else None)
            try:
                return work(connection)
            finally:
                connection.set_trace_callback(None)

        return look(job)

    costs = town.store.costs
    town.store.look = traced  # type: ignore[method-assign]
    town.store.costs = lambda query: (ran.append("SELECT costs"), costs(query))[1]  # type: ignore[func-returns-value]
    try:
        job()
    finally:
        town.store.look, town.store.costs = look, costs  # type: ignore[method-assign]
    return ran


def test_looking_costs_as_much_for_many_receipts_as_for_few(town: Town) -> None:
    town.look()
    town.spend(1)
    town.now_ms += 6_000
    few = count(town, town.watch.tick)
    town.spend(50, calls=3_000)
    town.now_ms += 6_000
    town.watch.tick()  # some rules begin to fire
    town.spend(1)
    town.now_ms += 6_000
    many = count(town, town.watch.tick)
    assert len(few) <= 30
    assert len(many) <= len(few) + 3
    town.now_ms += 1_000
    assert len(count(town, town.watch.tick)) == 1, "nothing came in and nothing is due: one question"


def test_a_rule_that_takes_long_rests_the_longer(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard.ledger.alerts import watch

    times = iter(range(0, 10_000, 10))
    monkeypatch.setattr(watch.time, "monotonic", lambda: next(times))  # every look takes ten seconds
    town.only("hourly_spend")
    looks = []
    for _ in range(600):
        town.now_ms += 1_000
        town.spend(0.001)
        looks.append(town.watch.tick())
    assert sum(looks) == 4, "ten seconds of 190 at most, however much comes in"
