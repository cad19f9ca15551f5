"""When a budget's period began and when it ends.

Owns the calendar: hours, days, ISO weeks and months of an IANA zone, as half-open spans of Unix milliseconds. Spans of
one period never overlap and leave no gap, whatever the zone's clock does; a day that has begun does not end before the
next one. Pure but for reading the zone's table. If this is wrong, budgets are reset at odd hours, twice, or never.

    hour    begins at minute 0 of the local clock, and anew where the clock is put forward or back
    day     from the first instant of a local date to the first instant of the next
    week    seven such days from Monday on, numbered as ISO 8601 does
    month   from the first instant of its first day

`call`, `session`, `minute` and `total` have no calendar: `span` answers that they began at 0 and never end.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from aicostguard.guard.policy import BadPolicy

HOUR_MS = 3_600_000
UTC = timezone.utc
#: names of UTC that need no table, which a machine may lack
_UTC_NAMES = ("UTC", "Etc/UTC", "Z", "GMT", "Etc/GMT")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class Span(NamedTuple):
    """`since <= instant < until` in Unix milliseconds; `until` is None for what never ends. `name` tells spans of one
    period apart and is what counters are named by (`2026-11-29`, `2026-W48`, `2026-11`; empty without a calendar)."""

    name: str
    since: int
    until: Optional[int]


FOREVER = Span("", 0, None)


def zone(name: str) -> tzinfo:
    """The zone of an IANA name. Raises `BadPolicy` for one that nobody knows."""
    if name in _UTC_NAMES:
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; a path; a folder of zones
        raise BadPolicy(
            "timezone: %r is not a time zone known here; use an IANA name like Europe/Berlin, or UTC "
            "(a machine without such names gets them by: pip install tzdata)" % name
        ) from None


def span(period: str, tz: tzinfo, at_ms: int) -> Span:
    """The span of `period` that the instant lies in."""
    calendar = _CALENDARS.get(period)
    return calendar(tz, at_ms) if calendar else FOREVER


def _seconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _SECOND


def _local(tz: tzinfo, second: int) -> datetime:
    return (_EPOCH + timedelta(seconds=second)).astimezone(tz)


def _offset(tz: tzinfo, second: int) -> int:
    offset = _local(tz, second).utcoffset()
    return offset // _SECOND if offset else 0


def _change(tz: tzinfo, low: int, high: int) -> int:
    """The first second in (low, high] whose offset is not that of `low`; there is at most one change."""
    before = _offset(tz, low)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(tz, middle) == before:
            low = middle
        else:
            high = middle
    return high


def _hour(tz: tzinfo, at_ms: int) -> Span:
    second = at_ms // 1000
    offset = _offset(tz, second)
    since = second - (second + offset) % 3600
    until = since + 3600
    if _offset(tz, since) != offset:
        since = _change(tz, since, second)
    if _offset(tz, until - 1) != offset:
        until = _change(tz, second, until - 1)
    return Span(_local(UTC, since).strftime("%Y-%m-%dT%H:%MZ"), since * 1000, until * 1000)


def _begin(tz: tzinfo, day: date) -> int:
    """The first second of a local date. Where midnight is skipped, that is when the clock was put forward."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=tz)
    first = _seconds(midnight.astimezone(UTC))
    second = _seconds(midnight.replace(fold=1).astimezone(UTC))
    if second < first:  # no such midnight: the change lies between its two readings
        return _change(tz, second - 1, first)
    return first


def _date(tz: tzinfo, at_ms: int) -> date:
    """The date whose day the instant lies in. Almost always what the clock shows."""
    second = at_ms // 1000
    day = _local(tz, second).date()
    while second >= _begin(tz, day + timedelta(days=1)):
        day += timedelta(days=1)
    return day


def _days(tz: tzinfo, name: str, first: date, after: date) -> Span:
    return Span(name, _begin(tz, first) * 1000, _begin(tz, after) * 1000)


def _day(tz: tzinfo, at_ms: int) -> Span:
    day = _date(tz, at_ms)
    return _days(tz, day.isoformat(), day, day + timedelta(days=1))


def _week(tz: tzinfo, at_ms: int) -> Span:
    day = _date(tz, at_ms)
    monday = day - timedelta(days=day.weekday())
    year, week, _ = monday.isocalendar()
    return _days(tz, "%04d-W%02d" % (year, week), monday, monday + timedelta(days=7))


def _month(tz: tzinfo, at_ms: int) -> Span:
    first = _date(tz, at_ms).replace(day=1)
    after = (first + timedelta(days=31)).replace(day=1)
    return _days(tz, "%04d-%02d" % (first.year, first.month), first, after)


_Calendar = Callable[[tzinfo, int], Span]
_CALENDARS: Dict[str, _Calendar] = {"hour": _hour, "day": _day, "week": _week, "month": _month}
CALENDAR_PERIODS: Tuple[str, ...] = tuple(_CALENDARS)
