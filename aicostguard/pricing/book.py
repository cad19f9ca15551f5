"""The price book: rows of dated prices, and the way from a receipt to the row that was in force.

Owns the format of the compiled data, its checks, the resolution of provider, model, tier and date, and the cache of
resolutions. Never opens a connection and never changes a price. If it resolves to a wrong row, money is wrong; if it
resolves to none, the receipt is shown as unpriced.

Rows follow genai-prices: of the dated prices of a model the last one that is active counts, the first one when none
is; variants (service tier, batch) override single prices, the first active one that fits.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set, Tuple, Union

from aicostguard.pricing import charge, names
from aicostguard.pricing.rates import BadPrice, Factor, Rates, build, check_prices, thresholds

#: version of the data's format
SCHEMA = 1

_DAY_MS = 86_400_000
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)\Z")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)\Z")
#: resolutions kept; names come from outside, so the cache is bounded
_MOST = 4096

#: served tiers that cost the standard price. `auto` is what some hosts echo of a request they served at the default.
#: Groq's flex costs the same, https://console.groq.com/docs/flex-processing
_STANDARD = ("default", "standard", "auto", "on_demand")
_STANDARD_AT: Tuple[Tuple[str, str], ...] = (("groq", "flex"),)
#: (book, served tier) → what the price row calls it, where it is not `service_tier`
_TIERS: Dict[Tuple[str, str], Tuple[str, str]] = {
    ("anthropic", "batch"): ("processing", "batch"),
    ("anthropic", "fast"): ("speed", "fast"),
    ("google", "batch"): ("processing", "batch"),
    ("groq", "batch"): ("processing", "batch"),
}
#: (book, region) → factor on every token price.
#: https://platform.claude.com/docs/en/about-claude/pricing#data-residency-pricing
_REGIONS: Dict[Tuple[str, str], Factor] = {("anthropic", "us"): (11, 10)}
#: (book, part of the model's name) → least audio billed, https://console.groq.com/docs/speech-to-text
_LEAST_AUDIO_MS: Tuple[Tuple[str, str, int], ...] = (("groq", "whisper", 10_000),)


class Price(NamedTuple):
    """What one receipt costs. `cost_nanousd` is None when it cannot be priced, and `reason` says why.

    `row` names the price row and the day (or hours) from which it holds: `openai:o3+flex@2026-10-12`. `parts` has one
    `(term, units, rate as text, nano-dollars)` per term; the last column adds up to the cost.
    """

    cost_nanousd: Optional[int]
    row: Optional[str]
    reason: Optional[str]
    parts: Tuple[Tuple[str, int, str, int], ...] = ()


class _When:
    """A condition on the time of the call. `text` is its place in a row's id."""

    __slots__ = ("text", "start", "open_ms", "shut_ms")

    def __init__(self, text: Optional[str], where: str) -> None:
        self.text = text
        self.start: Optional[int] = None
        self.open_ms = self.shut_ms = 0
        if text is None:
            return
        date, hours = _DATE.match(text), _HOURS.match(text)
        if date:
            import datetime

            try:
                day = datetime.date(int(date.group(1)), int(date.group(2)), int(date.group(3)))
            except ValueError:
                raise BadPrice("%s: %r is not a date" % (where, text)) from None
            self.start = (day.toordinal() - datetime.date(1970, 1, 1).toordinal()) * _DAY_MS
        elif hours:
            first, second, third, fourth = (int(part) for part in hours.groups())
            self.open_ms, self.shut_ms = (first * 60 + second) * 60_000, (third * 60 + fourth) * 60_000
        else:
            raise BadPrice("%s: %r is neither a date nor hours of the day" % (where, text))

    def active(self, at_ms: int) -> bool:
        if self.text is None:
            return True
        if self.start is not None:
            return at_ms >= self.start
        now = at_ms % _DAY_MS
        if self.shut_ms < self.open_ms:
            return now >= self.open_ms or now < self.shut_ms
        return self.open_ms <= now < self.shut_ms


class _Variant(NamedTuple):
    when: Mapping[str, str]
    active: _When
    prices: Mapping[str, Any]


class _Tiers:
    """The rates of one row by size of input: crossing a threshold moves the whole request."""

    __slots__ = ("row", "starts", "rates")

    def __init__(self, row: str, book: str, model: str, prices: Mapping[str, Any], factor: Factor) -> None:
        self.row = row
        self.starts = thresholds(prices)
        self.rates: List[Rates] = [build(book, model, prices, above, factor) for above in [None, *self.starts]]

    def at(self, input_tokens: Optional[int]) -> Rates:
        index = 0
        for start in self.starts:
            # a threshold itself is still the lower price; a provider with "200k or more" has 199,999 in its row
            if input_tokens is None or input_tokens <= start:
                break
            index += 1
        return self.rates[index]


class _Plan:
    """Everything known of one (provider, model, tier, region) before the time of the call and the counts."""

    def __init__(
        self, book: str, model: str, data: Mapping[str, Any], wanted: Mapping[str, str], factor: Factor
    ) -> None:
        self.book, self.model, self.wanted, self.factor = book, model, wanted, factor
        where = "%s:%s" % (book, model)
        self.dated = [(_When(when, where), prices) for when, prices in data["prices"]]
        self.variants = [
            _Variant(context, _When(when, where), prices)
            for context, when, prices in data.get("variants", ())
            if wanted and all(wanted.get(key) == value for key, value in context.items())
        ]
        self.least_audio_ms = next((ms for at, part, ms in _LEAST_AUDIO_MS if at == book and part in model), 0)
        self.known: Dict[Tuple[int, ...], Union[_Tiers, str]] = {}
        self.only: Optional[_Tiers] = None
        if len(self.dated) == 1 and not wanted:
            made = self._make((0,))
            if isinstance(made, _Tiers):
                self.only = made

    def at(self, at_ms: int) -> Union[_Tiers, str]:
        """The row in force, or why there is none."""
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

    def _make(self, key: Tuple[int, ...]) -> Union[_Tiers, str]:
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
        row += "@" + (max(dates) if dates else "undated")
        return _Tiers(row, self.book, self.model, prices, self.factor)


class PriceBook:
    """A set of price rows. `data` is the object that `scripts/prices` writes; see docs/pricing.md for its shape.

    Raises BadPrice, naming the row and the value, when a price is negative, not a decimal, or otherwise not usable.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        if data.get("schema") != SCHEMA:
            raise BadPrice("price book: schema %r is not %d" % (data.get("schema"), SCHEMA))
        #: where the rows come from: `genai-prices 0.2.3 (2026-11-22)`
        self.source = "%s %s (%s)" % (data.get("source"), data.get("version"), data.get("date"))
        self._books: Mapping[str, Any] = data["books"]
        self._plans: Dict[Tuple[Any, ...], Union[_Plan, str]] = {}
        _check(self._books)

    def price(self, receipt: Mapping[str, Any], at_ms: int) -> Price:
        """What a receipt (keys of `receipt.FIELDS`) costs for a call at `at_ms` (Unix milliseconds, UTC)."""
        get = receipt.get
        key = (receipt["provider"], receipt["model"], get("service_tier"), get("operation"), get("region"))
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _MOST:
                self._plans.clear()
            plan = self._plans[key] = self._resolve(*key)
        if "usage_missing" in receipt:
            return Price(None, None, "usage missing")
        if isinstance(plan, str):
            return Price(None, None, plan)
        tiers = plan.only or plan.at(at_ms)
        if isinstance(tiers, str):
            return Price(None, None, tiers)
        input_tokens = get("input_tokens")
        rates = tiers.at(_size(input_tokens, get("requests_billed"))) if tiers.starts else tiers.rates[0]
        if input_tokens is not None and charge.SPECIAL.isdisjoint(receipt):
            simple = charge.plain(rates, input_tokens, get("output_tokens"))
            if simple is not None:
                return Price(simple[0], tiers.row, None, simple[1])
        if plan.least_audio_ms and get("requests_billed", 1) > 1:
            return Price(None, None, "the least length billed is that of each request, and their lengths are added up")
        result = charge.full(rates, receipt, plan.least_audio_ms)
        if isinstance(result, charge.Cannot):
            return Price(None, None, result.reason)
        return Price(result[0], tiers.row, None, result[1])

    def find(self, provider: str, model: str) -> Optional[Tuple[str, str]]:
        """`(book, model id)` of the row that prices a model, or None."""
        for place in names.places(provider, model):
            found = self._look(place)
            if found is not None:
                return place.book, found
        return None

    def _look(self, place: names.Place) -> Optional[str]:
        book = self._books.get(place.book)
        if book is None:
            return None
        for name, geography in names.candidates(place.book, place.name):
            found = book["names"].get(name)
            if found is not None and (geography is None or geography in book["models"][found].get("geographies", ())):
                return str(found)
        return None

    def _resolve(
        self, provider: str, model: str, tier: Optional[str], operation: Optional[str], region: Optional[str]
    ) -> Union[_Plan, str]:
        known = False
        for place in names.places(provider, model):
            known = known or place.book in self._books
            found = self._look(place)
            if found is None:
                continue
            data = self._books[place.book]["models"][found]
            if provider in names.NEVER_FREE and not any(prices for _, prices in data["prices"]):
                return "%s:%s is free only at its own host" % (place.book, found)
            wanted: Dict[str, str] = {}
            if operation == "batch":
                wanted["processing"] = "batch"
            if tier is not None and tier not in _STANDARD and (place.book, tier) not in _STANDARD_AT:
                name, value = _TIERS.get((place.book, tier), ("service_tier", tier))
                wanted[name] = value
            if wanted and not place.own:
                return "no price for %s at %s" % (" ".join(sorted(wanted.values())), provider)
            factor = _REGIONS.get((place.book, region), (1, 1)) if region else (1, 1)
            return _Plan(place.book, found, data, wanted, factor)
        if not known:
            return "no prices for provider %s" % provider
        return "no price for model %s of %s" % (model, provider)


def _size(input_tokens: Optional[int], requests: Optional[int]) -> Optional[int]:
    """The size that chooses the price: that of one request.

    A receipt of several (`requests_billed`, a batch) holds only such as lie between the same two thresholds
    (`metering.batches.BANDS`), so that their mean lies there, too.
    """
    if input_tokens is None or not requests or requests < 2:
        return input_tokens
    return -(-input_tokens // requests)


def _check(books: Mapping[str, Any]) -> None:
    good: Set[str] = set()
    times: Set[Optional[str]] = {None}
    for book, content in books.items():
        models = content["models"]
        for model, data in models.items():
            where = "%s:%s" % (book, model)
            if not data["prices"]:
                raise BadPrice("%s: a model needs at least one row" % where)
            for when, prices in data["prices"]:
                check_prices(prices, where, good)
                if when not in times:
                    _When(when, where)
                    times.add(when)
            for context, when, prices in data.get("variants", ()):
                check_prices(prices, where, good)
                if when not in times:
                    _When(when, where)
                    times.add(when)
                if not context:
                    raise BadPrice("%s: a variant must say what it is for" % where)
        if not models.keys() >= set(content["names"].values()):
            raise BadPrice("%s: a name leads to no row" % book)
