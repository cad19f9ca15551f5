"""What is known of one model of a book before the time of the call and the counts: its rows, dated and tiered.

Owns conditions on time, the choice of the row in force, and the scaling of a row by a regional factor or a user's own
terms. Pure. If it chooses another row, money is wrong by the difference of two days or two tiers.

Rows follow genai-prices: of the dated prices of a model the last one that is active counts, the first one when none
is; variants (service tier, batch) override single prices, the first active one that fits.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from aicostguard.pricing.rates import BadPrice, Exact, Rates, Scale, build, thresholds

_DAY_MS = 86_400_000
_EVER = (float("-inf"), float("inf"))
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)\Z")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)\Z")


def day_ms(text: str) -> Optional[int]:
    """Unix milliseconds at which the day `YYYY-MM-DD` begins in UTC; None when the text is no such day."""
    match = _DATE.match(text)
    if match is None:
        return None
    import datetime

    try:
        day = datetime.date(int(match.group(1)), int(match.group(2)), int(match.group(3)))
    except ValueError:
        return None
    return (day.toordinal() - datetime.date(1970, 1, 1).toordinal()) * _DAY_MS


class When:
    """A condition on the time of the call. `text` is its place in a row's id."""

    __slots__ = ("text", "start", "open_ms", "shut_ms")

    def __init__(self, text: Optional[str], where: str) -> None:
        self.text = text
        self.start: Optional[int] = None
        self.open_ms = self.shut_ms = 0
        if text is None:
            return
        hours = _HOURS.match(text)
        if hours:
            first, second, third, fourth = (int(part) for part in hours.groups())
            self.open_ms, self.shut_ms = (first * 60 + second) * 60_000, (third * 60 + fourth) * 60_000
            return
        self.start = day_ms(text)
        if self.start is None:
            kind = "not a date" if _DATE.match(text) else "neither a date nor hours of the day"
            raise BadPrice("%s: %r is %s" % (where, text, kind))

    def active(self, at_ms: int) -> bool:
        if self.text is None:
            return True
        if self.start is not None:
            return at_ms >= self.start
        now = at_ms % _DAY_MS
        if self.shut_ms < self.open_ms:
            return now >= self.open_ms or now < self.shut_ms
        return self.open_ms <= now < self.shut_ms


class Variant(NamedTuple):
    """Prices of a tier or of batch processing, which override those of the standard row."""

    when: Mapping[str, str]
    active: When
    prices: Mapping[str, Any]


class Tiers:
    """The rates of one row by size of input: crossing a threshold moves the whole request."""

    __slots__ = ("row", "starts", "rates", "least_audio_ms", "dearest")

    def __init__(
        self, row: str, book: str, model: str, prices: Mapping[str, Any], scale: Scale, least_audio_ms: int
    ) -> None:
        self.row = row
        self.starts = thresholds(prices)
        self.rates: List[Rates] = [build(book, model, prices, above, scale) for above in [None, *self.starts]]
        #: audio is billed at least this long
        self.least_audio_ms = least_audio_ms
        #: kept by `ceiling`
        self.dearest: Optional[List[Optional[Tuple[Exact, Exact, Exact]]]] = None

    def at(self, input_tokens: Optional[int]) -> Rates:
        index = 0
        for start in self.starts:
            # a threshold itself is still the lower price; a provider with "200k or more" has 199,999 in its row
            if input_tokens is None or input_tokens <= start:
                break
            index += 1
        return self.rates[index]


Found = Union[Tiers, str]


class Plan:
    """Everything known of one (provider, model, tier, region) before the time of the call and the counts."""

    def __init__(
        self,
        book: str,
        model: str,
        data: Mapping[str, Any],
        wanted: Mapping[str, str],
        scale: Scale,
        least_audio_ms: int = 0,
    ) -> None:
        self.book, self.model, self.wanted, self.scale = book, model, wanted, scale
        self.least_audio_ms = least_audio_ms
        where = "%s:%s" % (book, model)
        self.dated = [(When(when, where), prices) for when, prices in data["prices"]]
        self.variants = [
            Variant(context, When(when, where), prices)
            for context, when, prices in data.get("variants", ())
            if wanted and all(wanted.get(key) == value for key, value in context.items())
        ]
        self.known: Dict[Tuple[int, ...], Found] = {}
        whens = [when for when, _ in self.dated] + [variant.active for variant in self.variants]
        #: the moments at which another row may come into force; None where hours of the day decide
        self.turns: Optional[List[int]] = None
        if not any(when.text is not None and when.start is None for when in whens):
            self.turns = [when.start for when in whens if when.start is not None]
        #: (from, until, the row in force between them): of the last question, as most are about now
        self.span: Tuple[float, float, Found] = (0, 0, "")
        self.only: Optional[Tiers] = None
        if len(self.dated) == 1 and not wanted:
            made = self._make((0,))
            if isinstance(made, Tiers):
                self.only = made

    def at(self, at_ms: int) -> Found:
        """The row in force, or why there is none."""
        since, until, found = self.span
        if since <= at_ms < until:
            return found
        found = self._at(at_ms)
        if self.turns is not None:
            since = max((turn for turn in self.turns if turn <= at_ms), default=_EVER[0])
            until = min((turn for turn in self.turns if turn > at_ms), default=_EVER[1])
            self.span = since, until, found
        return found

    def _at(self, at_ms: int) -> Found:
        index = 0
        for number in range(len(self.dated) - 1, 0, -1):
            if self.dated[number][0].active(at_ms):
                index = number
                break
        key = (index, *(n for n, variant in enumerate(self.variants) if variant.active.active(at_ms)))
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._make(key)
        return found

    def _make(self, key: Tuple[int, ...]) -> Found:
        when, standard = self.dated[key[0]]
        prices: Dict[str, Any] = {}
        dates = [when.text] if when.text else []
        answered: Dict[str, str] = {}
        for number in key[1:]:
            variant = self.variants[number]
            if variant.active.text and not answered.keys() >= variant.when.keys():
                dates.append(variant.active.text)
            answered.update(variant.when)
            for name, value in variant.prices.items():
                prices.setdefault(name, value)
        row = "%s:%s" % (self.book, self.model)
        for name, value in self.wanted.items():
            if name not in answered:
                return "no price for %s %s of %s at that time" % (name.replace("_", " "), value, row)
        for name, value in standard.items():
            prices.setdefault(name, value)
        row += "".join("+" + self.wanted[name] for name in sorted(answered))
        row += "@" + (max(dates) if dates else "undated") + self.scale.suffix
        return Tiers(row, self.book, self.model, prices, self.scale, self.least_audio_ms)


class Choice:
    """Plans that follow each other in time, where a user's own terms begin or end.

    `starts` are the moments (Unix ms, rising) from which the plan of the same place holds; the first is None: always.
    """

    __slots__ = ("starts", "plans", "only")

    def __init__(self, starts: Sequence[Optional[int]], plans: Sequence[Union[Plan, str]]) -> None:
        self.starts, self.plans = starts, plans
        self.only: Optional[Tiers] = None

    def at(self, at_ms: int) -> Found:
        """The row in force, or why there is none."""
        index = 0
        for number, start in enumerate(self.starts):
            if start is not None and at_ms >= start:
                index = number
        plan = self.plans[index]
        if isinstance(plan, str):
            return plan
        return plan.only or plan.at(at_ms)
