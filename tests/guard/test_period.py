"""Spans of time, against what zoneinfo says of every instant."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicostguard.guard import period
from aicostguard.guard.policy import BadPolicy

#: clocks that do every odd thing: half hours, midnight skipped or had twice, a whole day skipped, 23:01 after 00:01
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Kolkata",
    "Asia/Beirut",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Africa/Casablanca",
)
instants = st.integers(0, 2**31 * 1000 - 1)
periods = st.sampled_from(("hour", "day", "week", "month"))


def changes(name: str):
    """Instants at which the zone's clock was put forward or back, between 1970 and 2037."""
    tz, found = ZoneInfo(name), []
    at = datetime(1970, 1, 1, tzinfo=timezone.utc)
    while at.year < 2037:
        after = at + timedelta(hours=6)
        if at.astimezone(tz).utcoffset() != after.astimezone(tz).utcoffset():
            found.append(int(at.timestamp()) * 1000)
        at = after
    return found


NEAR = {name: changes(name) or [0] for name in ZONES}


@st.composite
def moments(draw):
    """A zone, and an instant that is often near a change of its clock."""
    name = draw(st.sampled_from(ZONES))
    if draw(st.booleans()):
        return name, draw(instants)
    return name, max(0, draw(st.sampled_from(NEAR[name])) + draw(st.integers(-3, 3 * 8)) * 1_800_000)


@pytest.mark.ids("D5", "X6")
@settings(max_examples=600, deadline=None)
@given(moments(), periods)
def test_spans_meet_hold_their_instants_and_begin_as_the_clock_says(moment, kind) -> None:
    name, at = moment
    tz = period.zone(name)
    span = period.span(kind, tz, at)
    assert span.since <= at < span.until
    for inside in (span.since, span.until - 1):
        assert period.span(kind, tz, inside) == span
    assert period.span(kind, tz, span.until).since == span.until
    assert period.span(kind, tz, span.since - 1).until == span.since or span.since == 0
    first = datetime.fromtimestamp(span.since / 1000, ZoneInfo(name))
    before = datetime.fromtimestamp(span.since / 1000 - 1, ZoneInfo(name))
    jumped = first.utcoffset() != before.utcoffset()
    if kind == "hour":
        assert jumped or (first.minute, first.second) == (0, 0)
        return
    assert jumped or (first.hour, first.minute, first.second) == (0, 0, 0)
    if kind == "week":
        assert first.weekday() == 0
        assert span.name == "%04d-W%02d" % first.isocalendar()[:2]
    elif kind == "month":
        assert first.day == 1 and span.name == first.strftime("%Y-%m")
    else:
        assert span.name == first.date().isoformat()


@pytest.mark.ids("D5", "ACC:B08")
@pytest.mark.parametrize(
    "zone, day, hours",
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Europe/Berlin", "2026-11-29", 24),
        ("America/Sao_Paulo", "2018-11-04", 23),  # began at 01:00
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("UTC", "2026-03-29", 24),
    ],
)
def test_days_on_which_the_clock_is_changed(zone, day, hours) -> None:
    noon = datetime.fromisoformat(day + "T12:00:00").replace(tzinfo=ZoneInfo(zone))
    span = period.span("day", period.zone(zone), int(noon.timestamp() * 1000))
    assert span.name == day and (span.until - span.since) / 3_600_000 == hours


@pytest.mark.ids("D5")
@pytest.mark.parametrize(
    "zone, at, since, until",
    [
        # Lord Howe, half an hour back at 2:00 and forward at 2:00
        ("Australia/Lord_Howe", "2026-04-04T14:50", "2026-04-04T14:00", "2026-04-04T15:00"),
        ("Australia/Lord_Howe", "2026-04-04T15:10", "2026-04-04T15:00", "2026-04-04T15:30"),
        ("Australia/Lord_Howe", "2026-10-03T15:20", "2026-10-03T14:30", "2026-10-03T15:30"),
        ("Australia/Lord_Howe", "2026-10-03T15:40", "2026-10-03T15:30", "2026-10-03T16:00"),
        # St John's, an hour back at 0:01
        ("America/St_Johns", "2006-10-29T02:30", "2006-10-29T02:30", "2006-10-29T02:31"),
        ("America/St_Johns", "2006-10-29T02:40", "2006-10-29T02:31", "2006-10-29T03:30"),
    ],
)
def test_hours_in_which_the_clock_is_changed(zone, at, since, until) -> None:
    moment, *ends = (int(datetime.fromisoformat(text + "+00:00").timestamp()) * 1000 for text in (at, since, until))
    for instant in (moment, ends[0], ends[1] - 1):
        assert period.span("hour", ZoneInfo(zone), instant)[1:] == tuple(ends)


@pytest.mark.ids("D5")
@pytest.mark.parametrize("kind, name", [("day", "2006-10-29"), ("week", "2006-W43"), ("month", "2006-10")])
def test_a_day_that_has_begun_is_not_gone_back_from(kind, name) -> None:
    """St John's went from 0:01 back to 23:01 of the day before: what was counted in the new day stays in it."""
    tz = ZoneInfo("America/St_Johns")
    first = int(datetime(2006, 10, 29, 2, 30, 30, tzinfo=timezone.utc).timestamp()) * 1000
    assert {period.span(kind, tz, first + minutes * 60_000).name for minutes in (0, 10, 60, 22 * 60)} == {name}


@pytest.mark.ids("D5")
@pytest.mark.parametrize("name", ["Europe/Berln", "Mars/Olympus", "/etc/passwd", "../UTC", "America", ""])
def test_a_zone_that_nobody_knows_is_refused_with_the_remedy(name) -> None:
    with pytest.raises(BadPolicy, match="IANA name like Europe/Berlin"):
        period.zone(name)


@pytest.mark.parametrize("name", ["UTC", "Etc/UTC", "Z", "GMT", "Etc/GMT"])
def test_utc_needs_no_table(name) -> None:
    assert period.zone(name) is timezone.utc


def test_what_has_no_calendar_never_ends() -> None:
    for name in ("call", "session", "minute", "total"):
        assert period.span(name, period.UTC, 12345) == ("", 0, None)


@pytest.mark.ids("D5")
def test_a_midnight_in_the_middle_of_what_is_skipped() -> None:
    """Toronto put its clocks from 23:30 to 00:30: the next day begins there, not at its midnight that never was."""
    noon = int(datetime(1919, 3, 31, 12, tzinfo=timezone.utc).timestamp() * 1000)
    day = period.span("day", ZoneInfo("America/Toronto"), noon)
    assert datetime.fromtimestamp(day.since / 1000, timezone.utc) == datetime(1919, 3, 31, 4, 30, tzinfo=timezone.utc)
    assert period.span("day", ZoneInfo("America/Toronto"), day.since - 1).until == day.since
