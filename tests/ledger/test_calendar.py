"""Hours, days, weeks and months as a calendar on the wall has them: where clocks change, and at the edges of years.

The oracle knows Python's calendar and the receipts that were sent, and nothing of sums, covers or SQL. The moment of
asking is fixed, so that the changes of the clock are in every run.
"""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Iterator, Mapping
from zoneinfo import ZoneInfo

import pytest

from aicostguard import ledger
from aicostguard.ledger import ingest, period, query
from aicostguard.ledger.budgets import rule
from aicostguard.ledger.model import HOUR_MS
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import envelope, epoch, price, receipt

#: whole hours, half ones, quarters; a change at midnight, of half an hour, backwards in spring
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Africa/Cairo", "America/Santiago"),
    *("Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham", "Australia/Lord_Howe"),
)
NOW = int(datetime(2027, 1, 2, 12, 20, tzinfo=timezone.utc).timestamp() * 1000)
_SINCE = "2025-12-20"
#: around an edge: the last and the first moment, and an hour and a half on either side
_AROUND = (-HOUR_MS - 1, -HOUR_MS // 2, -1, 0, HOUR_MS // 2 - 1, HOUR_MS // 2, HOUR_MS, HOUR_MS + HOUR_MS // 2)


def _edges(zone: str) -> Iterator[int]:
    """Changes of the clock, found by looking at it every hour; months and years of the zone."""
    tz = ZoneInfo(zone)
    at = datetime(2025, 12, 21, tzinfo=timezone.utc)
    while at.year < 2027:
        after = at + timedelta(hours=1)
        if at.astimezone(tz).utcoffset() != after.astimezone(tz).utcoffset():
            yield int(after.timestamp() * 1000)
        at = after
    for year, month in ((2026, 1), (2026, 2), (2026, 3), (2026, 7), (2027, 1)):
        yield int(datetime(year, month, 1, tzinfo=tz).timestamp() * 1000)


@pytest.fixture(scope="module")
def sent() -> list[tuple[int, dict[str, Any]]]:
    """(when, receipt): each moment once, each cost its own."""
    moments = sorted({edge + by for zone in ZONES for edge in _edges(zone) for by in _AROUND})
    return [
        (
            at,
            receipt(
                feature="abc"[n % 3], input_tokens=2**n % 1_000_003, model="unheard-of" if n % 11 == 0 else "gpt-4o"
            ),
        )
        for n, at in enumerate(moments)
    ]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[int, dict[str, Any]]]) -> Iterator[SqliteStore]:
    store = ledger.open_ledger(str(Path(tmp_path_factory.mktemp("calendar")) / "ledger.db"))
    try:
        for place in range(0, len(sent), 90):
            part = sent[place : place + 90]
            body = envelope([one for _, one in part], name=epoch())
            body.update(sent_at=NOW, at=[at for at, _ in part])
            ingest.accept(store, store.default_project(), body, NOW, price=price)
        yield store
    finally:
        store.close()


def _called(at_ms: int, unit: str, tz: ZoneInfo) -> str:
    """What a calendar in that zone calls the hour, day, week or month."""
    at = datetime.fromtimestamp(at_ms / 1000, tz)
    if unit == "hour":  # of the same clock: it began so many minutes ago
        began = at_ms - at_ms % 60_000 - at.minute * 60_000
        return datetime.fromtimestamp(began / 1000, tz).isoformat()
    if unit == "week":
        return (at.date() - timedelta(days=at.weekday())).isoformat()
    return at.date().isoformat()[: 7 if unit == "month" else None]


def _expected(sent: Any, unit: str, tz: ZoneInfo, feature: str = "") -> tuple[Mapping[Any, int], Mapping[Any, int]]:
    costs: Counter[Any] = Counter()
    calls: Counter[Any] = Counter()
    for at_ms, one in sent:
        if feature in ("", one["feature"]):
            key = (_called(at_ms, unit, tz), one["model"])
            calls[key] += 1
            costs[key] += 0 if one["model"] == "unheard-of" else 3 * (one["input_tokens"] + one["output_tokens"])
    return costs, calls


@pytest.mark.ids("X6")
@pytest.mark.parametrize("zone", ZONES)
def test_time_is_cut_as_the_calendar_of_the_zone_has_it(filled: SqliteStore, sent: Any, zone: str) -> None:
    tz = ZoneInfo(zone)
    for unit in ("hour", "day", "week", "month"):
        for feature in ("", "b"):  # sums of one dimension, and receipts
            asked = {"since": [_SINCE], "tz": [zone], "group_by": [f"{unit},model"], "limit": ["10000"]}
            given = {**asked, **({"feature": [feature]} if feature else {})}
            answer = query.run(filled, query.parse(given, filled.default_project(), NOW))
            costs, calls = _expected(sent, unit, tz, feature)
            found = {(row[unit], row["model"]): row for row in answer["rows"]}
            assert {key: row["calls"] for key, row in found.items()} == calls, unit
            assert {key: row["cost_nanousd"] or 0 for key, row in found.items()} == costs, unit
            assert answer["totals"]["cost_nanousd"] == sum(costs.values())


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_by_its_date_and_the_day_of_a_budget_are_the_same_day(filled: SqliteStore, sent: Any, zone: str) -> None:
    tz = ZoneInfo(zone)
    days: Counter[str] = Counter(_called(at_ms, "day", tz) for at_ms, _ in sent)
    for day, calls in days.items():
        after = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
        asked = {"since": [day], "until": [after], "tz": [zone]}
        parsed = query.parse(asked, filled.default_project(), NOW)
        assert query.run(filled, parsed)["totals"]["calls"] == calls, day
        assert rule.bounds("day", zone, parsed.since_ms) == (parsed.since_ms, parsed.until_ms)
        assert rule.bounds("day", zone, parsed.until_ms - 1) == (parsed.since_ms, parsed.until_ms)
    for at_ms, _ in sent[::7]:
        since, until = rule.bounds("month", zone, at_ms)
        assert until is not None
        named = datetime.fromtimestamp(at_ms / 1000, tz).strftime("%Y-%m-01")
        assert since == period.start(named, NOW, tz, "since") <= at_ms < until


@pytest.mark.parametrize("zone", ZONES)
def test_what_a_period_is_compared_with_is_what_it_says(filled: SqliteStore, sent: Any, zone: str) -> None:
    """The sums of the period before are those of asking for it by the times that the answer names."""
    for since in ("today", "yesterday", "24h", "7d", "week", "month", "30d", "2026-03-01", "2026-12-15"):
        given = {"since": [since], "tz": [zone], "compare": ["previous"], "group_by": ["feature"]}
        answer = query.run(filled, query.parse(given, filled.default_project(), NOW))
        start, end = (datetime.fromisoformat(answer["compared_with"][name]) for name in ("since", "until"))
        assert end <= datetime.fromisoformat(answer["since"])
        inside = [one for at, one in sent if start.timestamp() * 1000 <= at < end.timestamp() * 1000]
        priced = [one for one in inside if one["model"] != "unheard-of"]
        before = answer["totals"]["before"]
        assert (before["calls"], before["unpriced_calls"]) == (len(inside), len(inside) - len(priced)), since
        assert (before["cost_nanousd"] or 0) == sum(3 * (one["input_tokens"] + 10) for one in priced), since
        assert sum(row["before"]["calls"] for row in answer["rows"]) == len(inside)
