"""Queries: every way of asking gives what the receipts themselves say, worked out here one by one."""

from __future__ import annotations

import itertools
import json
import random
import statistics
from datetime import datetime, timedelta
from typing import Any, Iterator, Mapping, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard import ledger
from aicostguard.ledger import ingest, period, query, repricing, spread
from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.model import DAY_MS, DIMENSIONS, HOUR_MS, MEASURES, PAIRS, TIMES, Query
from aicostguard.ledger.repricing import Scope
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import NOW, Priced, costs, envelope, epoch, price, receipt, take

_FEW = st.sampled_from(["a", "b", "c"])
_RECEIPTS = st.fixed_dictionaries(
    {"provider": st.sampled_from(["openai", "anthropic"]), "model": st.sampled_from(["gpt-4o", "o3", "unheard-of"])},
    optional={
        "input_tokens": st.integers(0, 10**6),
        "output_tokens": st.integers(0, 10**6),
        "cache_read_input_tokens": st.integers(1, 10**6),
        "latency_ms": st.integers(0, 10**6),
        "ttft_ms": st.integers(0, 10**6),
        **dict.fromkeys(("feature", "team", "user", "session", "agent", "parent_agent"), _FEW),
        **dict.fromkeys(("estimated", "usage_missing"), st.just(True)),
        "tags": st.dictionaries(st.sampled_from(["tier", "a.b-c"]), _FEW),
    },
)
_TAGS = ("tags.tier", "tags.a.b-c")
#: around the days on which clocks change in Europe and in America: (receipt, when)
_YEAR = int(datetime.fromisoformat("2026-03-01T00:00:00+00:00").timestamp() * 1000)
_SENT = st.lists(st.tuples(_RECEIPTS, st.integers(0, 45 * DAY_MS)), min_size=1, max_size=20)
_ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Berlin"])
_PAIRED = st.sampled_from([*PAIRS, *[pair[::-1] for pair in PAIRS]]).map(list)
_GROUPS = st.one_of(st.lists(st.sampled_from([*DIMENSIONS, *TIMES, *_TAGS]), max_size=3, unique=True), _PAIRED)
_FILTERS = st.dictionaries(
    st.sampled_from(["model", "feature", "team", "user", "agent", "parent_agent", *_TAGS]),
    st.lists(st.sampled_from(["a", "b", "gpt-4o", ""]), min_size=1, max_size=2, unique=True).map(tuple),
    max_size=1,
)


def cached(body: Mapping[str, Any], at_ms: int) -> Priced:
    """As `price`, and of what is read from a cache two thirds off."""
    found = price(body, at_ms)
    if found.cost_nanousd is None:
        return found
    return Priced(found.cost_nanousd - 2 * min(body["input_tokens"], body.get("cache_read_input_tokens", 0)))


def dearer(body: Mapping[str, Any], at_ms: int) -> Priced:
    """Another table: five a token, three of them off for a cached one, and no model without a price."""
    found = cached(body, at_ms)
    whole = body.get("input_tokens", 0) + body.get("output_tokens", 0)
    off = min(body.get("input_tokens", 0), body.get("cache_read_input_tokens", 0))
    return Priced(5 * whole - 3 * off, "dearer") if body["model"] != "o3" else found


def fill(store: SqliteStore, sent: Sequence[tuple[dict[str, Any], int]]) -> None:
    """Two processes send them; one of them everything twice."""
    for number, part in enumerate((sent[::2], sent[1::2])):
        body = envelope([item for item, _ in part], name=epoch(), service="shop", environment="e%d" % number)
        body["at"] = [at for _, at in part]
        body["sent_at"] = _YEAR + 60 * DAY_MS
        for _ in range(1 + number):
            take(store, body, received_ms=_YEAR + 60 * DAY_MS, price=cached)


def raw(store: SqliteStore) -> list[dict[str, Any]]:
    return store.receipts(Query(store.default_project(), 0, 2**50, limit=10**6))


def measured(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The sums of some receipts, from the receipts alone."""
    sums = dict.fromkeys(MEASURES, 0)
    for row in rows:
        one = {**{name: row.get(name) or 0 for name in MEASURES if not name.endswith("_calls")}, "calls": 1}
        one["unpriced_calls"] = int(row["cost_nanousd"] is None)
        one.update({f"{flag}_calls": int(row.get(flag, False)) for flag in ("usage_missing", "estimated", "partial")})
        one["clock_adjusted_calls"] = int(row["clock_adjusted"])
        one.update(timed_calls=int("latency_ms" in row), first_token_calls=int("ttft_ms" in row))
        for name, amount in one.items():
            sums[name] += amount
    return sums


def value(row: Mapping[str, Any], name: str, tz: Any) -> str | None:
    local = datetime.fromtimestamp(row["at_ms"] / 1000, tz)
    if name == "hour":
        return local.replace(minute=0, second=0, microsecond=0).isoformat()
    day = local.date()
    if name in TIMES:
        first = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}[name]
        return first.isoformat()[: 7 if name == "month" else None]
    return said(row, name) or None


def said(row: Mapping[str, Any], name: str) -> str:
    """What a receipt says under a name; "" for nothing."""
    found = row.get("tags", {}).get(name.removeprefix("tags.")) if name.startswith("tags.") else row.get(name)
    return "" if found is None else str(found)


def passes(row: Mapping[str, Any], filters: Mapping[str, Sequence[str]], excluded: Mapping[str, Sequence[str]]) -> bool:
    return all(said(row, name) in wanted for name, wanted in filters.items()) and not any(
        said(row, name) in unwanted for name, unwanted in excluded.items()
    )


@pytest.fixture
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SqliteStore]]:
    made: list[SqliteStore] = []
    yield made
    for one in made:
        one.close()


@pytest.mark.ids("A07", "A34", "X6")
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=_SENT,
    groups=_GROUPS,
    zone=_ZONES,
    filters=_FILTERS,
    excluded=_FILTERS,
    start=st.integers(0, 40 * 24),
    length=st.integers(0, 40 * 24),
    compares=st.booleans(),
    reprices=st.booleans(),
)
def test_every_query_says_what_the_receipts_say(
    tmp_path_factory: pytest.TempPathFactory,
    sent: Any,
    groups: list[str],
    zone: str,
    filters: Any,
    excluded: Any,
    start: int,
    length: int,
    compares: bool,
    reprices: bool,
) -> None:
    store = ledger.open_ledger(str(tmp_path_factory.mktemp("queries") / "ledger.db"))
    try:
        fill(store, [(item, _YEAR + ago) for item, ago in sent])
        if reprices:
            scope = Scope(store.default_project(), 0, 2**50, unpriced_only=False)
            repricing.reprice(store, scope, dearer, "test", NOW, apply=True)
        tz = period.zone(zone)
        since = _YEAR + start * HOUR_MS
        until = since + length * HOUR_MS
        before = (since - 10 * DAY_MS, since - 3 * DAY_MS) if compares and not set(groups) & set(TIMES) else None
        asked = Query(
            store.default_project(), since, until, tuple(groups), filters, zone, limit=10_000,
            excluded=excluded, before=before, latency="exact",
        )  # fmt: skip
        answer = query.run(store, asked)
        chosen = [row for row in raw(store) if passes(row, filters, excluded)]
        now = [row for row in chosen if since <= row["at_ms"] < until]
        then = [row for row in chosen if before and before[0] <= row["at_ms"] < before[1]]
        assert {name: answer["totals"][name] or 0 for name in MEASURES} == measured(now)
        expected: dict[tuple[Any, ...], tuple[list[Any], list[Any]]] = {}
        for part, rows in enumerate((now, then)):
            for row in rows if groups else ():
                expected.setdefault(tuple(value(row, name, tz) for name in groups), ([], []))[part].append(row)
        told = {tuple(row[name] for name in groups): row for row in answer["rows"]}
        assert told.keys() == expected.keys()
        for key, (mine, earlier) in expected.items():
            sums, was = measured(mine), measured(earlier)
            assert {name: told[key][name] or 0 for name in MEASURES} == sums
            latencies = [row["latency_ms"] for row in mine if "latency_ms" in row]
            assert told[key]["latency_p95_ms"] == (None if not latencies else _percentile(latencies, 95))
            if before is not None:
                assert (told[key]["before"]["cost_nanousd"] or 0) == was["cost_nanousd"]
                assert told[key]["before"]["calls"] == was["calls"]
    finally:
        store.close()


def _percentile(values: list[int], share: int) -> float:
    """As numpy has it by default."""
    if len(values) == 1:
        return float(values[0])
    return round(statistics.quantiles(values, n=100, method="inclusive")[share - 1], 2)


@settings(max_examples=25, deadline=None)
@given(sent=_SENT, group=st.sampled_from(["", "provider", "model", "feature", "team", "user", "day", "week"]))
def test_percentiles_of_spreads_are_off_by_one_per_cent_at_most(
    tmp_path_factory: pytest.TempPathFactory, sent: Any, group: str
) -> None:
    store = ledger.open_ledger(str(tmp_path_factory.mktemp("queries") / "ledger.db"))
    try:
        fill(store, [(item, _YEAR + ago) for item, ago in sent])
        store.fold()
        zone = {"tz": "Asia/Kolkata"} if group == "week" else {}
        more = {"since": "2026-03-01", "until": "2026-04-30", "group_by": group, **zone}
        near, exact = costs(store, latency="1", **more), costs(store, exact="1", **more)
        assert near["totals"]["approximate"] is True and exact["totals"]["approximate"] is False
        for one, other in zip([*near["rows"], near["totals"]], [*exact["rows"], exact["totals"]]):
            for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "ttft_p50_ms"):
                if other[name] is None:
                    assert one[name] is None
                else:
                    assert abs(one[name] - other[name]) <= spread.BOUND * other[name] + 0.15
    finally:
        store.close()


@given(st.lists(st.lists(st.integers(0, 10**10), max_size=30), min_size=1, max_size=6))
def test_spreads_add_up_in_any_order(parts: list[list[int]]) -> None:
    spreads = [spread.of(part) for part in parts]
    whole = spread.of([value for part in parts for value in part])
    shuffled = random.Random(1).sample(spreads, len(spreads))
    assert spread.total(spreads) == whole == spread.total(shuffled)
    added = spread.EMPTY
    for one in spreads:
        added = spread.add(added, one)
    assert added == whole
    assert spread.count(whole) == sum(map(len, parts))


@given(st.integers(1, 10**10))
def test_no_time_is_far_from_the_middle_of_its_bin(ms: int) -> None:
    assert abs(spread.middle(spread.bin_of(ms)) - ms) <= spread.BOUND * ms * 1.000001


def test_a_spread_that_is_full_takes_no_more() -> None:
    full = spread.of_counts({7: spread.FULL})
    assert spread.add(full, spread.of([5])) == full


@pytest.mark.ids("A29")
def test_what_caches_saved_is_what_the_same_tokens_would_have_cost(store: SqliteStore) -> None:
    from aicostguard import pricing

    bodies = [
        receipt(input_tokens=10_000, cache_read_input_tokens=8_000),
        receipt(provider="anthropic", model="claude-sonnet-4-5", input_tokens=9_000, cache_creation_input_tokens=9_000),
        receipt(model="unheard-of", cache_read_input_tokens=5),
        receipt(),
    ]
    take(store, envelope(bodies), price=pricing.default_book().cost)
    expected = 0
    for body in bodies:
        plain = {name: number for name, number in body.items() if not name.startswith("cache_")}
        costs_now, would = (pricing.price(one, NOW).cost_nanousd for one in (body, plain))
        expected += 0 if costs_now is None or would is None else would - costs_now
    rows = {row["model"]: row for row in costs(store, group_by="model")["rows"]}
    assert rows["gpt-4o"]["cache_savings_nanousd"] > 0
    assert rows["claude-sonnet-4-5"]["cache_savings_nanousd"] < 0
    assert rows["claude-sonnet-4-5"]["cache_savings_usd"].startswith("-0.")
    assert costs(store)["totals"]["cache_savings_nanousd"] == expected


def test_averages_and_shares_are_of_what_is_known(store: SqliteStore) -> None:
    bodies = [receipt(latency_ms=100), receipt(latency_ms=201), receipt(model="unheard-of"), receipt(estimated=True)]
    take(store, envelope(bodies))
    totals = costs(store)["totals"]
    assert (totals["cost_per_call_usd"], totals["latency_avg_ms"], totals["ttft_avg_ms"]) == ("0.00000033", 150.5, None)
    assert (totals["unpriced_share"], totals["estimated_share"], totals["unmeasured_share"]) == (0.25, 0.25, 0.0)
    nothing = costs(store, team="nobody")["totals"]
    assert nothing["cost_nanousd"] == 0 and nothing["unpriced_share"] is nothing["cost_per_call_usd"] is None


@pytest.mark.ids("A07")
@pytest.mark.parametrize("name", ["feature", "model", "team"])
def test_the_first_few_are_the_first_of_all(store: SqliteStore, name: str) -> None:
    rng = random.Random(name)
    values = {"feature": "abcdefghi", "model": ["gpt-4o", "o3", "o4-mini", "unheard-of"], "team": ["x", "y"]}
    bodies = [
        receipt(input_tokens=rng.randrange(900), **{key: rng.choice(few) for key, few in values.items()})
        for _ in range(150)
    ]
    fill(store, [(body, _YEAR + rng.randrange(9 * DAY_MS)) for body in bodies])
    since, until = _YEAR + 5 * DAY_MS - 3 * HOUR_MS, _YEAR + 9 * DAY_MS - 7 * HOUR_MS
    asked = Query(store.default_project(), since, until, (name,), latency="approximate", limit=10_000)
    filters: Sequence[dict[str, Any]] = (
        {},
        {"filters": {name: tuple(values[name][:2])}},
        {"excluded": {name: (values[name][0],)}},
        {"filters": {"service": ("shop",)}},
    )
    for before, more in itertools.product((None, (_YEAR, _YEAR + 4 * DAY_MS - 6 * HOUR_MS)), filters):
        for order, down in itertools.product(("cost_nanousd", "tokens", "calls", name, "change"), (True, False)):
            if order == "change" and before is None:
                continue
            its = asked._replace(before=before, order=order, descending=down, **more)
            whole, few = query.run(store, its), query.run(store, its._replace(limit=3))
            assert few["rows"] == whole["rows"][:3] and few["totals"] == whole["totals"], its
            assert (few["other"] or {"groups": 0})["groups"] == max(0, len(whole["rows"]) - 3)


def test_rows_and_the_rest_add_up_when_compared(store: SqliteStore) -> None:
    for ago, team in ((0, "a"), (0, "b"), (8, "a"), (8, "c")):
        take(store, envelope([receipt(team=team)] * (1 + ago), name=epoch(), ago_ms=ago * DAY_MS))
    answer = costs(store, since="7d", group_by="team", compare="previous", order="-change", limit="2")
    (first, second), other = answer["rows"], answer["other"]
    assert [(row["team"], row["calls"], row["before"]["calls"]) for row in (first, second)] == [
        ("b", 1, 0),
        ("a", 1, 9),
    ]
    assert (first["ratio"], second["ratio"], other["ratio"]) == (None, round(1 / 9, 6), 0.0)
    assert (other["groups"], other["calls"], other["before"]["calls"]) == (1, 0, 9)
    assert answer["totals"]["before"]["calls"] == 18
    assert answer["totals"]["change_nanousd"] == (2 - 18) * 330
    assert set(answer["compared_with"]) == {"since", "until"}


@pytest.mark.parametrize(
    "since,until,now,zone,expected",
    [
        ("2026-11-01", "2026-11-16", "2026-11-15T17:20", "UTC", ("2026-10-01T00:00", "2026-10-15T18:00")),
        ("2026-03-01", "2026-04-01", "2026-05-02T01:00", "Europe/Berlin", ("2026-02-01T00:00", "2026-03-01T00:00")),
        ("2026-03-31", "2026-04-01", "2026-03-31T12:00", "Europe/Berlin", ("2026-03-30T00:00", "2026-03-30T12:00")),
        ("2026-03-26", "2026-04-02", "2026-04-05T00:00", "Europe/Berlin", ("2026-03-19T00:00", "2026-03-26T00:00")),
        ("2026-05-31", "2026-06-01", "2026-05-31T02:00", "UTC", ("2026-05-30T00:00", "2026-05-30T02:00")),
        ("2026-03-01", "2026-03-31", "2026-03-30T05:00", "UTC", ("2026-02-01T00:00", "2026-03-01T00:00")),
        ("2026-11-15T05:00", "2026-11-15T09:00", "2026-11-20T00:00", "UTC", ("2026-11-15T01:00", "2026-11-15T05:00")),
    ],
)
def test_the_period_before(since: str, until: str, now: str, zone: str, expected: tuple[str, str]) -> None:
    tz = period.zone(zone)
    at = [period.start(text, 0, tz, "since") for text in (since, until, now)]
    found = period.previous(*at, tz)
    assert tuple(period.iso(ms, tz)[:16] for ms in found) == expected


@pytest.mark.parametrize(
    "since,until,now,zone,expected",
    [
        # On the first, today is a day and month a month: both begin at the same moment.
        ("today", "", "2026-12-01T10:20", "UTC", ("2026-11-30T00:00", "2026-11-30T11:00")),
        ("month", "", "2026-12-01T10:20", "UTC", ("2026-11-01T00:00", "2026-11-01T11:00")),
        ("2026-12-01", "", "2026-12-01T10:20", "UTC", ("2026-11-01T00:00", "2026-11-01T11:00")),
        ("yesterday", "today", "2027-01-02T10:20", "UTC", ("2026-12-31T00:00", "2027-01-01T00:00")),
        ("7d", "", "2026-12-07T10:20", "Asia/Kolkata", ("2026-11-24T00:00", "2026-11-30T10:30")),
        ("30d", "", "2026-11-30T10:20", "UTC", ("2026-10-02T00:00", "2026-10-31T11:00")),
        # A Monday beside a Monday, not beside a Sunday.
        ("week", "", "2026-11-30T10:20", "Europe/Berlin", ("2026-11-23T00:00", "2026-11-23T11:00")),
        ("week", "", "2026-12-02T10:20", "Europe/Berlin", ("2026-11-23T00:00", "2026-11-25T11:00")),
        # Hours end now: what lies before them ends where they begin, at midnight, too.
        ("24h", "", "2026-11-30T10:20", "UTC", ("2026-11-28T09:00", "2026-11-29T10:00")),
        ("24h", "", "2026-11-30T00:20", "UTC", ("2026-11-27T23:00", "2026-11-29T00:00")),
        ("24h", "", "2026-03-29T12:00", "Europe/Berlin", ("2026-03-27T11:00", "2026-03-28T11:00")),
        ("2026-11-30T08:00", "", "2026-11-30T10:20", "UTC", ("2026-11-30T05:00", "2026-11-30T08:00")),
        ("2026-11-30T08:00", "2026-11-30T20:00", "2026-11-30T10:20", "UTC", ("2026-11-29T20:00", "2026-11-29T23:00")),
        # This day began at one o'clock.
        ("today", "", "2026-04-24T10:20", "Africa/Cairo", ("2026-04-23T00:00", "2026-04-23T11:00")),
        # Nothing has passed of what is to come.
        ("2026-12-05", "2026-12-08", "2026-11-30T10:20", "UTC", ("2026-12-02T00:00", "2026-12-02T00:00")),
    ],
)
def test_the_period_before_what_a_word_says(
    since: str, until: str, now: str, zone: str, expected: tuple[str, str]
) -> None:
    tz = period.zone(zone)
    asked = {"since": [since], "until": [until], "tz": [zone], "compare": ["previous"]}
    before = query.parse(asked, 1, period.start(now, 0, tz, "now")).before
    assert before is not None
    assert tuple(period.iso(ms, tz)[:16] for ms in before) == expected


def test_one_dimension_and_the_pairs_are_answered_without_the_receipts(store: SqliteStore) -> None:
    """First screen and breakdowns read sums alone, so that they take as long with a thousand times the receipts."""
    rows = [receipt(feature="f%d" % (n % 5), team="t", user="u%d" % n, latency_ms=n) for n in range(200)]
    take(store, envelope(rows, environment="production"))
    store.fold()
    for statement in ("DROP TRIGGER receipts_go_by_record", "DELETE FROM receipts"):
        store.change(lambda connection, statement=statement: connection.execute(statement))  # type: ignore[misc]
    questions: list[dict[str, str]] = [
        {"since": "30d", "latency": "1"},
        {"since": "30d", "group_by": "day,model"},
        {"since": "30d", "group_by": "week,feature", "tz": "Europe/Berlin"},
        {"since": "today", "group_by": "model", "latency": "1"},
        {"since": "month", "group_by": "feature", "compare": "previous"},
        {"since": "30d", "group_by": "feature", "latency": "1"},
        {"since": "30d", "group_by": "user", "limit": "20"},
        {"since": "30d", "group_by": "feature,model"},
        {"since": "30d", "group_by": "month,team,model"},
        {"since": "30d", "group_by": "model", "feature": "f1"},
        {"since": "30d", "group_by": "model", "environment": "production"},
        {"since": "30d", "group_by": "team", "model!": "o3"},
    ]
    for asked in questions:
        totals = costs(store, **asked)["totals"]
        assert totals["calls"] == (40 if "feature" in asked else 200), asked
        if "latency" in asked:
            assert totals["latency_p50_ms"] is not None


def test_the_first_screen_visits_as_many_rows_however_many_receipts_there_are(store: SqliteStore) -> None:
    """Counted in steps of SQLite's machine: no clock, so that a busy machine changes nothing."""
    questions = [
        {"since": "30d"},
        {"since": "30d", "group_by": "day,model"},
        {"since": "today", "group_by": "feature", "compare": "previous"},
        {"since": "30d", "group_by": "feature,model"},
    ]
    counted: list[list[int]] = []
    for batch in range(2):
        for number in range(1 + 20 * batch):
            bodies = [receipt(feature="f%d" % (n % 7), model="gpt-4o" if n % 2 else "o3") for n in range(70)]
            take(store, envelope(bodies, name=epoch(), ago_ms=(number % 3) * HOUR_MS if batch else 0))
        counted.append([_steps(store, asked) for asked in questions])
    for few, many in zip(*counted):
        assert many < 3 * few + 2_000, counted


def _steps(store: SqliteStore, asked: Mapping[str, str]) -> int:
    """How many hundreds of steps SQLite's machine takes for a question, by the hundred."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection = store.look(lambda one: one)  # which is the one that is used next
    connection.set_progress_handler(count, 10)
    try:
        costs(store, **asked)
    finally:
        connection.set_progress_handler(None, 0)
    return steps * 10


@pytest.mark.ids("A36", "A08")
def test_pages_of_receipts_stay_put_while_more_come_in(store: SqliteStore) -> None:
    take(store, envelope([receipt(request="r%d" % n) for n in range(25)], ago_ms=5_000))
    seen: list[str] = []
    cursor = None
    while True:
        given = {"limit": ["10"], "since": ["7d"], **({"cursor": [cursor]} if cursor else {})}
        page = query.receipts(store, given, store.default_project(), NOW)
        seen += [row["request"] for row in page["receipts"]]
        cursor = page["cursor"]
        if cursor is None:
            break
        take(store, envelope([receipt(request="new")] * 3, name=epoch()))  # newer ones, and one in the very same ms
        take(store, envelope([receipt(request="late")], name=epoch(), ago_ms=6 * DAY_MS))
    assert seen[:25] == ["r%d" % n for n in reversed(range(25))]
    assert set(seen[25:]) == {"late"}
    for wrong in ("x", "1.2", "1.2.", "1.2.a b", "9" * 30):
        with pytest.raises(Refused) as refused:
            query.receipts(store, {"cursor": [wrong]}, store.default_project(), NOW)
        assert refused.value.field == "cursor"


def test_a_label_leads_to_its_receipts_by_an_index(store: SqliteStore) -> None:
    plans = []

    def look(connection: Any, name: str) -> list[Any]:
        from aicostguard.ledger.sqlite import read

        class Spy:
            def execute(self, text: str, values: Any) -> Any:
                plans.append(" ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + text, values)))
                return connection.execute(text, values)

        spy: Any = Spy()
        return read.receipts(spy, Query(1, 0, NOW, filters={name: ("x",)}))

    for name in ("request", "session", "user"):
        store.look(lambda connection, name=name: look(connection, name))  # type: ignore[misc]
        assert f"receipts_by_{name}" in plans[-1]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York"])
@pytest.mark.parametrize("since", ["1971-01-01", "1971-01-02T05:00", "9998-01-01", "9999-12-30"])
def test_a_period_may_end_as_late_as_dates_go(store: SqliteStore, since: str, zone: str) -> None:
    take(store, envelope([receipt()]))
    for until in ("9999-12-31", "9999-12-31T11:59:59-12:00"):
        for compare in ("", "previous"):
            answer = costs(store, since=since, until=until, tz=zone, compare=compare)
            assert answer["totals"]["calls"] == (since < "2000")


@pytest.mark.parametrize(
    "parameters,field",
    [
        ({"compare": "next"}, "compare"),
        ({"compare": "previous", "group_by": "day"}, "compare"),
        ({"compare": "previous", "since": "all"}, "compare"),
        ({"order": "change"}, "order"),
        ({"latency": "yes"}, "latency"),
        ({"exact": "2"}, "exact"),
        ({"prompt!": "x"}, "prompt!"),
        ({"group_by": "year"}, "group_by"),
    ],
)
def test_what_is_refused_names_its_parameter(store: SqliteStore, parameters: dict[str, str], field: str) -> None:
    with pytest.raises(Refused) as refused:
        costs(store, **parameters)
    assert (refused.value.status, refused.value.field) == (422, field)


def test_a_file_of_the_release_before_is_filled_with_what_came_later(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums, pairs, spreads and savings of old receipts are those that ingest would have made, killed or not."""
    import sqlite3

    from aicostguard import pricing
    from aicostguard.ledger.sqlite import backfill, schema
    from aicostguard.ledger.sqlite.queried import QUERIES

    store = ledger.open_ledger(str(tmp_path / "ledger.db"))
    bodies = [
        receipt(feature="f%d" % (n % 3), latency_ms=10 * n, user="u", **({"ttft_ms": n} if n % 2 else {}))
        for n in range(40)
    ]
    bodies += [receipt(input_tokens=5_000, cache_read_input_tokens=4_000), receipt(model="unheard-of")]
    for number in range(3):
        sent = envelope(bodies, name=epoch(), environment="e%d" % (number // 2), ago_ms=number * DAY_MS)
        take(store, sent, price=pricing.default_book().cost)
    store.fold()
    tables = ("hourly", "daily", "hourly_spreads", "daily_spreads")

    def everything(store: SqliteStore) -> Any:
        def look(connection: sqlite3.Connection) -> list[Any]:
            found = []
            for table in tables:
                names = sorted(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
                found.append(sorted(connection.execute(f"SELECT {', '.join(names)} FROM {table}")))
            return found

        return store.look(look), raw(store)

    before = everything(store)
    store.close()
    connection = sqlite3.connect(tmp_path / "old.db")
    version = schema.MIGRATIONS.index(QUERIES)
    for step in schema.MIGRATIONS[:version]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("ATTACH ? AS new", (str(tmp_path / "ledger.db"),))
    for table in ("organisations", "projects", "receipts", "hourly", "daily", "arrivals"):
        names = ", ".join(f'"{row[1]}"' for row in connection.execute(f"PRAGMA main.table_info({table})"))
        only = " WHERE dimension NOT LIKE '%,%'" if table in ("hourly", "daily") else ""
        connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}{only}")
    connection.commit()
    connection.close()
    filled: list[int] = []
    fill_day = backfill._fill

    def killed(connection: sqlite3.Connection, project_id: int, day_ms: int, price: Any) -> None:
        fill_day(connection, project_id, day_ms, price)
        filled.append(day_ms)
        if len(filled) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(backfill, "_fill", killed)
        ledger.open_ledger(str(tmp_path / "old.db"))
    monkeypatch.setattr(backfill, "_fill", lambda *given: filled.append(given[2]) or fill_day(*given))
    again = ledger.open_ledger(str(tmp_path / "old.db"))
    try:
        days = sorted({row["at_ms"] - row["at_ms"] % DAY_MS for row in before[1]})
        assert filled == [*days[:2], *days[1:]]  # the one at which it was killed is done anew
        assert not again.look(lambda c: c.execute("SELECT 1 FROM sqlite_master WHERE name = 'backfill'").fetchone())
        assert everything(again) == before
        with pytest.raises(LedgerError, match="only by a recorded repricing"):
            again.change(lambda connection: connection.execute("UPDATE receipts SET cost_nanousd = 1"))
    finally:
        again.close()


def test_the_savings_of_a_receipt_are_kept_with_it(store: SqliteStore) -> None:
    body = receipt(cache_read_input_tokens=50)
    take(store, envelope([body]), price=cached)
    (row,) = raw(store)
    assert row["cache_savings_nanousd"] == ingest.savings(body, row["cost_nanousd"], NOW, cached) == 100
    assert json.dumps(row)
