"""Periods as people write them: `24h`, `7d`, `month`, a date, a time; in the zone they live in.

Owns the meaning of those words and the zone's changes of offset inside a period. If it is off by an hour,
every report is, twice a year.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import HOUR_MS

SAYS = "an ISO date or time, or 24h, 7d, 30d, today, yesterday, week, month, all"
_AGO = re.compile(r"([1-9]\d{0,4})([hd])\Z")
#: the year 2200: what lies behind it has no zone, no period before it, and no receipts
_LATEST_MS = 7_258_118_400_000


def zone(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises `Refused` (422)."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Refused(422, f"{name[:64]!a} is no time zone; use an IANA name like Europe/Berlin", "tz") from None


def start(text: str, now_ms: int, tz: ZoneInfo, field: str) -> int:
    """The moment a text names, in ms. Words and dates name the start of what they say. Raises `Refused` (422).

    `24h` is the start of the hour 24 hours ago; `7d` the start of the day six days ago, so that today and the
    six days before it are meant; `week` the last Monday, `month` the first of this month; `all` the beginning of time.
    """
    now = datetime.fromtimestamp(now_ms / 1000, tz)
    found = _AGO.match(text)
    try:
        if found and found.group(2) == "h":
            return (now_ms - int(found.group(1)) * HOUR_MS) // HOUR_MS * HOUR_MS
        if found:
            return _midnight(now.date() - timedelta(days=int(found.group(1)) - 1), tz)
        if text in _WORDS:
            return _midnight(_WORDS[text](now.date()), tz)
        if text == "all":
            return 0
        if text == "now":
            return now_ms
        if re.match(r"\d{4}-\d\d-\d\d\Z", text):
            return _midnight(date.fromisoformat(text), tz)
        moment = datetime.fromisoformat(text)
        return _ms(moment if moment.tzinfo else moment.replace(tzinfo=tz))
    except (ValueError, OverflowError):
        raise Refused(422, f"{text[:64]!a} is not {SAYS}", field) from None


_WORDS = {
    "today": lambda day: day,
    "yesterday": lambda day: day - timedelta(days=1),
    "tomorrow": lambda day: day + timedelta(days=1),
    "week": lambda day: day - timedelta(days=day.weekday()),
    "month": lambda day: day.replace(day=1),
}


def previous(
    since_ms: int, until_ms: int, now_ms: int, tz: ZoneInfo, said: str = "", *, ends: bool = True
) -> tuple[int, int]:
    """The period before `[since_ms, until_ms)`, for comparing: as many days of the zone, or as many months.

    A period that begins with a month is compared with the month before. Of one that is not over yet, only as much of
    the other counts as has passed of this one, up to the end of the hour. How the start is `said` decides where two
    words mean the same moment: on the first, `today` is a day and `month` a month; `week` is compared with the week
    before, however much of it has passed. Of hours nobody said where they end (`ends`): they end now.
    """
    hour_ms = -(-now_ms // HOUR_MS) * HOUR_MS
    ago = _AGO.match(said)
    hours = ago is not None and ago.group(2) == "h"
    if not ends and (hours or not _whole(since_ms, tz)):
        until_ms = max(since_ms, hour_ms)
    since, until, now = (
        datetime.fromtimestamp(ms / 1000, tz) for ms in (since_ms, until_ms, max(since_ms, min(hour_ms, until_ms)))
    )
    if hours or not (_whole(since_ms, tz) and _whole(until_ms, tz)):
        length = until_ms - since_ms
        return since_ms - length, _ms(now) - length
    months = (until.year - since.year) * 12 + until.month - since.month
    if ago is None and said not in _OF_DAYS and since.day == 1 and (until.day == 1 or months == 0):
        months = max(1, months)
        first = _months_before(since.date(), months)
        end = now.date() - since.date() + first
        begin = _midnight(first, tz)
        last = since_ms if now >= until and until.day == 1 else _ms(datetime.combine(end, now.time(), tz))
        return begin, min(last, since_ms)
    days = timedelta(days=(until.date() - since.date()).days)
    if said == "week":
        days = timedelta(weeks=-(-days // timedelta(weeks=1)))
    end = now.date() - days
    return _midnight(since.date() - days, tz), min(_ms(datetime.combine(end, now.time(), tz)), since_ms)


#: words that are days, on the first of a month, too
_OF_DAYS = ("today", "yesterday", "week")


def _whole(at_ms: int, tz: ZoneInfo) -> bool:
    """Whether a day begins there; where the clock is put forward at midnight, that is one o'clock."""
    return at_ms == _midnight(datetime.fromtimestamp(at_ms / 1000, tz).date(), tz)


def _months_before(day: date, months: int) -> date:
    number = day.year * 12 + day.month - 1 - months
    return date(number // 12, number % 12 + 1, 1)


def _midnight(day: date, tz: ZoneInfo) -> int:
    return _ms(datetime.combine(day, time(), tz))


def _ms(moment: datetime) -> int:
    since = moment.astimezone(timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return min(max(0, since // timedelta(milliseconds=1)), _LATEST_MS)


def offsets(since_ms: int, until_ms: int, tz: ZoneInfo) -> tuple[tuple[int, int], ...]:
    """`(from_ms, offset_ms)` for each stretch of `[since, until)` with one offset from UTC, the first at `since`."""
    out = [(since_ms, _offset(since_ms, tz))]
    step = 7 * 24 * HOUR_MS  # no zone changes twice within a week and back
    at = since_ms
    while at < until_ms:
        later = min(at + step, until_ms)
        if _offset(later, tz) != out[-1][1]:
            low, high = at, later
            while high - low > 1:
                middle = (low + high) // 2
                if _offset(middle, tz) == out[-1][1]:
                    low = middle
                else:
                    high = middle
            out.append((high, _offset(high, tz)))
        at = later
    return tuple(item for item in out if item[0] < until_ms or item is out[0])


def _offset(at_ms: int, tz: ZoneInfo) -> int:
    found = datetime.fromtimestamp(at_ms / 1000, tz).utcoffset()
    return 0 if found is None else found // timedelta(milliseconds=1)


def iso(at_ms: int, tz: ZoneInfo) -> str:
    """A moment as text, with its offset: `2026-11-22T06:00:00+01:00`."""
    precision = "milliseconds" if at_ms % 1000 else "seconds"
    return datetime.fromtimestamp(at_ms / 1000, tz).isoformat(timespec=precision)


def day(local_ms: int) -> str:
    """The date of local milliseconds, as the store returns them for `group_by=day`."""
    return datetime.fromtimestamp(local_ms / 1000, timezone.utc).date().isoformat()
