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

SAYS = "an ISO date or time, or 24h, 7d, 30d, today, yesterday, month, all"
_AGO = re.compile(r"([1-9]\d{0,4})([hd])\Z")
_LATEST_MS = 253_402_300_800_000  # the year 10000


def zone(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises `Refused` (422)."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Refused(422, f"{name[:64]!a} is no time zone; use an IANA name like Europe/Berlin", "tz") from None


def start(text: str, now_ms: int, tz: ZoneInfo, field: str) -> int:
    """The moment a text names, in ms. Words and dates name the start of what they say. Raises `Refused` (422).

    `24h` is the start of the hour 24 hours ago; `7d` the start of the day six days ago, so that today and the
    six days before it are meant; `month` the first of this month; `all` the beginning of time.
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
    "month": lambda day: day.replace(day=1),
}


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
