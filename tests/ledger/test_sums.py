"""Sums: whatever way a period is cut and whatever is grouped by, the raw receipts decide."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard import ledger
from aicostguard.ledger import period, query
from aicostguard.ledger.model import DAY_MS, DIMENSIONS, HOUR_MS, MEASURES, TIMES, Query, Row
from aicostguard.ledger.rollup import roll_up
from aicostguard.ledger.sqlite import SqliteStore, schema, sums
from aicostguard.receipt import FIELDS
from tests.ledger.support import NOW, costs, envelope, epoch, receipt, take

_few = st.sampled_from(["a", "b", "c"])
_RECEIPTS = st.fixed_dictionaries(
    {
        "provider": st.sampled_from(["openai", "anthropic"]),
        "model": st.sampled_from(["gpt-4o", "o3", "unheard-of"]),
    },
    optional={
        "input_tokens": st.integers(0, 10**6),
        "output_tokens": st.integers(0, 10**6),
        "cache_read_input_tokens": st.integers(0, 10**6),
        "reported_cost_nanousd": st.integers(0, 10**9),
        "operation": st.sampled_from(["embeddings", "image"]),
        **dict.fromkeys(("feature", "team", "user", "session", "agent", "parent_agent", "project", "request"), _few),
        **dict.fromkeys(("partial", "estimated", "usage_missing"), st.just(True)),
    },
)
#: (receipt, how long ago in ms)
_SENT = st.lists(st.tuples(_RECEIPTS, st.integers(0, 6 * DAY_MS)), min_size=1, max_size=25)
_ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/London"])
_GROUPS = st.lists(st.sampled_from([*DIMENSIONS, *TIMES]), max_size=3, unique=True)


def _fill(store: SqliteStore, sent: list[tuple[dict[str, Any], int]]) -> None:
    for part in (sent[::2], sent[1::2]):
        body = envelope([item for item, _ in part], name=epoch(), service="shop", host="h1")
        body["at"] = [NOW - ago for _, ago in part]
        take(store, body)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=_SENT, groups=_GROUPS, zone=_ZONES, start=st.integers(0, 6 * DAY_MS), length=st.integers(0, 7 * DAY_MS))
def test_sums_equal_the_raw_receipts(
    tmp_path_factory: pytest.TempPathFactory, sent: Any, groups: Any, zone: str, start: int, length: int
) -> None:
    store = ledger.open_ledger(str(tmp_path_factory.mktemp("sums") / "ledger.db"))
    try:
        _fill(store, sent)
        since, until = NOW - start, NOW - start + length
        tz = period.zone(zone)
        asked = Query(
            store.default_project(),
            since,
            until,
            tuple(groups),
            {},
            zone,
            period.offsets(since, until, tz),
            limit=10_000,
        )
        found = store.costs(asked)
        expected: dict[tuple[Any, ...], dict[str, int]] = {}
        for row in _raw(store):
            if since <= row["at_ms"] < until:
                names = tuple(_value(row, name, tz) for name in groups)
                sums = expected.setdefault(names, dict.fromkeys(MEASURES, 0))
                for name, amount in row["measured"].items():
                    sums[name] += amount
        whole = {name: sum(sums[name] for sums in expected.values()) for name in MEASURES}
        assert found.totals == whole
        if groups:
            assert {_shown(names, groups, tz): sums for names, sums in found.rows} == expected
            assert found.groups == len(expected)
    finally:
        store.close()


def _raw(store: SqliteStore) -> list[dict[str, Any]]:
    """Every stored receipt with what it adds to each sum, worked out here from the receipt alone."""
    everything = Query(store.default_project(), 0, NOW + DAY_MS, limit=10**6)
    out = []
    for row in store.receipts(everything):
        amounts = {
            "cost_nanousd": row["cost_nanousd"] or 0,
            "calls": 1,
            "unpriced_calls": int(row["cost_nanousd"] is None),
            "clock_adjusted_calls": int(row["clock_adjusted"]),
            **{f"{flag}_calls": int(row.get(flag, False)) for flag in ("usage_missing", "estimated", "partial")},
        }
        amounts.update({name: row.get(name, 0) for name in MEASURES if name not in amounts})
        out.append({**row, "measured": amounts})
    return out


def _value(row: dict[str, Any], name: str, tz: Any) -> str:
    from datetime import datetime, timedelta

    local = datetime.fromtimestamp(row["at_ms"] / 1000, tz)
    if name == "day":
        return local.date().isoformat()
    if name == "week":  # its Monday
        return (local.date() - timedelta(days=local.weekday())).isoformat()
    if name == "month":
        return local.date().replace(day=1).isoformat()
    if name == "hour":
        return local.replace(minute=0, second=0, microsecond=0).isoformat()
    return str(row.get(name, ""))


def _shown(names: tuple[Any, ...], groups: list[str], tz: Any) -> tuple[str, ...]:
    out = []
    for group, value in zip(groups, names):
        if group in ("day", "week", "month"):
            value = period.day(value)
        elif group == "hour":
            value = period.iso(value, tz)
        out.append(value)
    return tuple(out)


@settings(max_examples=15, deadline=None)
@given(sent=_SENT)
def test_totals_are_the_same_whatever_is_grouped_by(tmp_path_factory: pytest.TempPathFactory, sent: Any) -> None:
    store = ledger.open_ledger(str(tmp_path_factory.mktemp("sums") / "ledger.db"))
    try:
        _fill(store, sent)
        plain = costs(store)["totals"]
        names = [*TIMES, *DIMENSIONS]
        for group_by in [(name,) for name in names] + list(itertools.combinations(names, 2))[::9]:
            for limit in ("1", "10000"):
                answer = costs(store, group_by=",".join(group_by), limit=limit, tz="America/New_York")
                assert answer["totals"] == plain
                parts = [*answer["rows"], *([answer["other"]] if answer["other"] else [])]
                for measure in MEASURES:
                    assert sum(row[measure] or 0 for row in parts) == (plain[measure] or 0), (group_by, measure)
    finally:
        store.close()


def test_one_dimension_never_reads_raw_receipts(store: SqliteStore) -> None:
    take(store, envelope([receipt(feature="a", user="u")]))
    for statement in ("DROP TRIGGER receipts_go_by_record", "DELETE FROM receipts"):
        store.change(lambda connection, statement=statement: connection.execute(statement))
    for name, dimension in DIMENSIONS.items():
        if not dimension.daily:
            continue
        for asked in ({"since": "7d"}, {"since": "30d"}, {"since": "7d", name: ""}, {"since": "7d", "group_by": "day"}):
            answer = costs(store, **{"group_by": name, **asked})
            expected = 0 if name in asked and name in ("provider", "model", "feature", "user") else 1
            assert answer["totals"]["calls"] == expected, (name, asked)
    # hours of a zone that is whole hours away are those of UTC (the rows say so: totals are not cut by the hour)
    for name in ("Europe/Berlin", "America/New_York"):
        assert [row["calls"] for row in costs(store, since="24h", group_by="hour,model", tz=name)["rows"]] == [1], name


@given(since=st.integers(0, 4 * DAY_MS), length=st.integers(0, 4 * DAY_MS), hours=st.booleans(), days=st.booleans())
def test_a_cover_has_no_gap_and_no_overlap(since: int, length: int, hours: bool, days: bool) -> None:
    parts = sorted(sums.cover(since, since + length, hours=hours, days=days), key=lambda part: part[1])
    at = since
    for table, start, end in parts:
        assert start == at
        assert end > start
        step = {"daily": DAY_MS, "hourly": HOUR_MS, "receipts": 1}[table]
        assert start % step == end % step == 0
        if table == "receipts" and hours:
            assert end - start < 2 * HOUR_MS
        at = end
    assert at == since + length or not length


def test_the_hours_of_one_envelope_add_up_to_its_day(store: SqliteStore) -> None:
    body = envelope([receipt()] * 3)
    noon = NOW - NOW % DAY_MS - DAY_MS // 2
    body["at"] = [noon + hour * HOUR_MS - 1 for hour in range(3)]
    take(store, body)
    assert [row["calls"] for row in costs(store, group_by="day")["rows"]] == [3]


@pytest.mark.ids("X6")
def test_days_are_utc_unless_a_zone_is_named(store: SqliteStore) -> None:
    # 2026-03-29 is the day on which Berlin's clocks go from 2 to 3: it has 23 hours.
    tz = period.zone("Europe/Berlin")
    moments = ["2026-03-28T23:30:00+01:00", "2026-03-29T00:30:00+01:00", "2026-03-29T23:30:00+02:00"]
    for moment in moments:
        at = period.start(moment, NOW, tz, "since")
        take(store, receipt(), received_ms=at)
    utc = {row["day"]: row["calls"] for row in costs(store, group_by="day")["rows"]}
    berlin = {row["day"]: row["calls"] for row in costs(store, group_by="day", tz="Europe/Berlin")["rows"]}
    assert utc == {"2026-03-28": 2, "2026-03-29": 1}
    assert berlin == {"2026-03-28": 1, "2026-03-29": 2}
    one_day = {"since": "2026-03-29", "until": "2026-03-30", "tz": "Europe/Berlin"}
    assert costs(store, **one_day)["totals"]["calls"] == 2
    hours = [row["hour"] for row in costs(store, group_by="hour", **one_day)["rows"]]
    assert hours == ["2026-03-29T00:00:00+01:00", "2026-03-29T23:00:00+02:00"]


@pytest.mark.ids("X6")
def test_a_day_that_begins_at_half_past_is_cut_there(store: SqliteStore) -> None:
    tz = period.zone("Asia/Kolkata")
    for moment in ("2026-03-28T18:15:00Z", "2026-03-28T18:45:00Z"):
        take(store, receipt(), received_ms=period.start(moment, NOW, tz, "since"))
    for group_by in ("day", "day,model"):
        rows = costs(store, group_by=group_by, tz="Asia/Kolkata")["rows"]
        assert [(row["day"], row["calls"]) for row in rows] == [("2026-03-28", 1), ("2026-03-29", 1)]
    hours = [row["hour"] for row in costs(store, group_by="hour", tz="Asia/Kolkata")["rows"]]
    assert hours == ["2026-03-28T23:00:00+05:30", "2026-03-29T00:00:00+05:30"]


def test_words_for_periods_mean_what_they_say() -> None:
    tz = period.zone("America/New_York")
    now = period.start("2026-11-22T06:30:00+00:00", 0, tz, "since")

    def said(text: str) -> str:
        return period.iso(period.start(text, now, tz, "since"), tz)

    assert said("today") == "2026-11-22T00:00:00-05:00"
    assert said("1d") == said("today")
    assert said("7d") == "2026-11-16T00:00:00-05:00"
    assert said("month") == "2026-11-01T00:00:00-04:00"
    assert said("24h") == "2026-11-21T01:00:00-05:00"
    assert said("2026-07-01") == "2026-07-01T00:00:00-04:00"
    assert said("2026-07-01T12:00") == "2026-07-01T12:00:00-04:00"
    assert said("2026-07-01T12:00:00Z") == "2026-07-01T08:00:00-04:00"
    assert query.DEFAULT_SINCE == "30d"


def test_the_schema_has_a_column_for_every_key_and_measure() -> None:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    for step in schema.MIGRATIONS:
        for statement in step:
            connection.execute(statement)
    columns = {
        table: {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        for table in ("receipts", "hourly", "daily")
    }
    connection.close()
    assert set(FIELDS) <= columns["receipts"]
    assert set(DIMENSIONS) <= columns["receipts"]
    for table in ("hourly", "daily"):
        assert columns[table] == {*MEASURES, "project_id", "dimension", "start_ms", "value"}


def test_the_clock_of_a_sender_cannot_move_a_receipt_out_of_reach(store: SqliteStore) -> None:
    year = 365 * DAY_MS
    body = envelope([receipt()] * 5, sent_at=NOW)
    # An honest minute, a year 9999, an old spool, before the invention of everything, a clock set back a little.
    body["at"] = [NOW - 60_000, NOW + 7973 * year, NOW - 30 * DAY_MS, 0, NOW + 1000]
    take(store, body)
    everything = Query(store.default_project(), 0, 2**60, limit=10)
    times = sorted((row["at_ms"] - NOW, row["clock_adjusted"]) for row in store.receipts(everything))
    assert times == [(-30 * DAY_MS, False), (-60_000, False), (0, False), (0, True), (0, True)]
    assert costs(store)["totals"]["clock_adjusted_calls"] == 2
    # A clock that is wrong by years, but the same in both readings, does no harm.
    wrong = envelope([receipt()], name=epoch(), sent_at=NOW + 50 * year)
    wrong["at"] = [NOW + 50 * year - 5000]
    take(store, wrong)
    assert costs(store)["totals"]["clock_adjusted_calls"] == 2


def test_a_roll_up_works_only_with_what_occurs() -> None:
    row = Row(1, NOW, False, receipt(input_tokens=0, output_tokens=0, images=0), 0, "free", None)
    made = roll_up([row, row], {"service": "shop"})
    assert made.measures == ("calls",)
    assert made.hourly["model", NOW - NOW % HOUR_MS, "gpt-4o"] == (2,)
    assert made.daily["service", NOW - NOW % DAY_MS, "shop"] == (2,)


def test_hours_and_days_are_told_apart_within_a_batch() -> None:
    hours = [NOW - NOW % DAY_MS + number * HOUR_MS for number in range(-3, 4)]
    rows = [
        Row(seq, at, False, receipt(model=f"m{seq % 2}", input_tokens=10**seq), 1, "row", None)
        for seq, at in enumerate(hours)
    ]
    made = roll_up(rows, {"service": "shop"})
    place = made.measures.index("input_tokens")
    assert {key[1:]: sums[place] for key, sums in made.hourly.items() if key[0] == "model"} == {
        (at, f"m{seq % 2}"): 10**seq for seq, at in enumerate(hours)
    }
    assert [made.hourly["service", at, "shop"][place] for at in hours] == [10**seq for seq in range(7)]
    day = hours[3]
    assert {key[1:]: sums[place] for key, sums in made.daily.items() if key[0] == "model"} == {
        (day - DAY_MS, "m0"): 101,
        (day - DAY_MS, "m1"): 10,
        (day, "m0"): 1_010_000,
        (day, "m1"): 101_000,
    }
