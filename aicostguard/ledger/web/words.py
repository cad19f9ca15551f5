"""Figures as people read them: money, counts, shares, times; with the exact value behind each.

Owns rounding for the eye, and nothing that is added up afterwards. What is not known is said as such, never as zero.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Mapping
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from aicostguard.ledger.amounts import usd

#: what stands where nothing is known
NONE = "–"
_BIG = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))


def money(nano: int | None) -> str:
    """$12,345.67; below a cent two digits that count: $0.0012; – where there is no price."""
    if nano is None:
        return NONE
    sign, amount = "-" if nano < 0 else "", Decimal(abs(nano)) / 10**9
    if amount == 0 or amount >= Decimal("0.0995"):
        return f"{sign}${amount.quantize(Decimal('0.01'), ROUND_HALF_EVEN):,}"
    digits = min(9, 1 - amount.adjusted())
    return f"{sign}${amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN):f}"


def signed(nano: int | None) -> str:
    """A change: +$3.20, -$0.12, ±$0.00."""
    if nano is None:
        return NONE
    return "±$0.00" if nano == 0 else ("+" if nano > 0 else "") + money(nano)


def exact(nano: int | None) -> str:
    """All of it, for whoever looks closer."""
    return "no price is known" if nano is None else f"${usd(nano)}"


def number(value: float | None) -> str:
    """12,345."""
    return NONE if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """1.23 M where not each one counts; below ten thousand all digits."""
    if value is None:
        return NONE
    for size, letter in _BIG:
        if abs(value) >= size and abs(value) >= 10_000:
            scaled = value / size
            return f"{scaled:.0f}{letter}" if scaled >= 100 else f"{scaled:.3g}{letter}"
    return f"{value:,.0f}"


def share(part: float | None) -> str:
    """12.3%; what is not quite nothing or all says so."""
    if part is None:
        return NONE
    percent = part * 100
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    return f"{percent:,.0f}%" if percent == int(percent) or percent >= 100 else f"{percent:.1f}%"


def change(ratio: float | None) -> str:
    """From a ratio to what came before: 1.5 is +50%."""
    if ratio is None:
        return NONE
    percent = (ratio - 1) * 100
    return "±0%" if abs(percent) < 0.05 else f"{percent:+,.0f}%" if abs(percent) >= 10 else f"{percent:+.1f}%"


def milliseconds(value: float | None) -> str:
    """842 ms, 1.24 s, 2 min 5 s."""
    if value is None:
        return NONE
    if value < 1000:
        return f"{value:.0f} ms"
    if value < 60_000:
        return f"{value / 1000:.3g} s"
    minutes, seconds = divmod(round(value / 1000), 60)
    return f"{minutes} min {seconds} s"


def moment(text: str | None, tz: str = "UTC") -> str:
    """A time of the API in a zone: 29 Nov, 14:05; with the year where it is not this one."""
    if not text:
        return NONE
    at = datetime.fromisoformat(text).astimezone(ZoneInfo(tz))
    this_year = datetime.now(at.tzinfo).year == at.year
    return f"{at.day} {at:%b, %H:%M}" if this_year else f"{at.day} {at:%b %Y, %H:%M}"


def day(text: str) -> str:
    """2026-11-29 as 29 Nov."""
    at = datetime.fromisoformat(text)
    return f"{at.day} {at:%b}"


def days(since: str, until: str) -> str:
    """A period of the API, whose end is not in it: by its first and its last day, or to the minute if it cuts a day."""
    if since[11:16] == until[11:16] == "00:00" and since < until:
        last = (date.fromisoformat(until[:10]) - timedelta(days=1)).isoformat()
        return since[:10] if last == since[:10] else f"{since[:10]} to {last}"
    return f"{since[:16]} to {until[:16]}".replace("T", " ")


def ago(text: str | None, now_ms: int) -> str:
    """How long since, or until: 3 min ago, in 2 days."""
    if not text:
        return NONE
    seconds = now_ms / 1000 - datetime.fromisoformat(text).timestamp()
    amount = span(abs(seconds))
    return "now" if amount == "0 s" else f"{amount} ago" if seconds > 0 else f"in {amount}"


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for size, unit in ((86_400, "day"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}" + ("s" if unit == "day" and count != 1 else "")
    return f"{int(seconds)} s"


#: what a receipt without tokens counts → how that is said
_UNITS = {"images": "image", "characters": "character", "search_units": "search unit", "web_searches": "search"}
_TIMES = {"audio_ms": "audio", "video_ms": "video"}


def units(receipt: Mapping[str, Any]) -> str:
    """What a receipt counts that is no token: `2 images`, `61.5 s audio`; empty for nothing."""
    said = [f"{n:,} {one if n == 1 else one + ('es' if one.endswith('ch') else 's')}"
            for name, one in _UNITS.items() if (n := receipt.get(name))]  # fmt: skip
    said += [f"{n / 1000:,.10g} s {what}" for name, what in _TIMES.items() if (n := receipt.get(name))]
    return ", ".join(said)


def iso(at_ms: int) -> str:
    """A moment as the API says it."""
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).isoformat()


def titled(shown: str, whole: str, kind: str = "") -> Markup:
    """A figure with the exact one behind it."""
    css = Markup(' class="{}"').format(kind) if kind else ""
    return Markup('<span{} title="{}">{}</span>').format(css, whole, shown)


def nano(text: str | None) -> int | None:
    """Nano-dollars of an exact amount as the API writes it."""
    return None if text is None else int(Decimal(text) * 10**9)


def as_money(nano: int | None) -> Markup:
    return titled(money(nano), exact(nano), "" if nano is not None else "none")


def as_short(value: int | None) -> Markup:
    return titled(short(value), number(value))


def as_name(value: object, none: str = "not said") -> Markup:
    """A label's value; what says nothing is told apart from one that reads so."""
    if value is None or value == "":
        return Markup('<span class="none">({})</span>').format(none)
    return Markup('<span class="name" title="{0}">{0}</span>').format(value)


def as_time(text: str | None, tz: str = "UTC") -> Markup:
    if not text:
        return escape(NONE)
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(text, moment(text, tz))


FILTERS = {
    "nano": nano,
    "instant": iso,
    "money": as_money,
    "signed": signed,
    "exact": exact,
    "number": number,
    "short": as_short,
    "units": units,
    "share": share,
    "change": change,
    "ms": milliseconds,
    "time": as_time,
    "day": day,
    "days": days,
    "ago": ago,
    "name": as_name,
}
