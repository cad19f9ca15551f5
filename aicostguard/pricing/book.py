"""The price book: rows of dated prices, and the way from a receipt to the row that was in force.

Owns the format of the compiled data, its checks, the resolution of provider, model, tier and region, and the cache of
resolutions. Never opens a connection and never changes a price. If it resolves to a wrong row, money is wrong; if it
resolves to none, the receipt is shown as unpriced.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Optional, Set, Tuple

from aicostguard.pricing import ceiling, charge, names, quick, resolve
from aicostguard.pricing.own import Own
from aicostguard.pricing.plan import When
from aicostguard.pricing.rates import BadPrice, check_prices

#: version of the data's format
SCHEMA = 1

#: resolutions kept; names come from outside, so the cache is bounded
_MOST = 4096


class Price(NamedTuple):
    """What one receipt costs. `cost_nanousd` is None when it cannot be priced, and `reason` says why.

    `row` names the price row and the day (or hours) from which it holds: `openai:o3+flex@2026-10-12`. `parts` has one
    `(term, units, rate as text, nano-dollars)` per term; the last column adds up to the cost.
    """

    cost_nanousd: Optional[int]
    row: Optional[str]
    reason: Optional[str]
    parts: Tuple[Tuple[str, int, str, int], ...] = ()


class PriceBook:
    """A set of price rows. `data` is the object that `scripts/prices` writes; see docs/pricing.md for its shape.

    Raises BadPrice, naming the row and the value, when a price is negative, not a decimal, or otherwise not usable.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        if data.get("schema") != SCHEMA:
            raise BadPrice("price book: schema %r is not %d" % (data.get("schema"), SCHEMA))
        #: where the rows come from: `genai-prices 0.2.3 (2026-11-22)`
        self.source = "%s %s (%s)" % (data.get("source"), data.get("version"), data.get("date"))
        #: a user's own names, prices and discounts, which go before the rows
        self.own: Optional[Own] = None
        self._books: Mapping[str, Any] = data["books"]
        self._plans: Dict[Tuple[Any, ...], resolve.Resolved] = {}
        _check(self._books)

    def with_own(self, own: Optional[Own]) -> PriceBook:
        """The same rows with a user's own terms on top; this book stays as it is."""
        book = PriceBook.__new__(PriceBook)
        book.source, book.own, book._books, book._plans = self.source, own, self._books, {}
        return book

    def price(self, receipt: Mapping[str, Any], at_ms: int) -> Price:
        """What a receipt (keys of `receipt.FIELDS`) costs for a call at `at_ms` (Unix milliseconds, UTC)."""
        get = receipt.get
        key = (receipt["provider"], receipt["model"], get("service_tier"), get("operation"), get("region"))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(key)
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
        steps = quick.steps_of(rates, receipt)
        if steps is not None:
            found = quick.terms(steps, receipt)
            if found is not None:
                return Price(found[0], tiers.row, None, found[1])
        if tiers.least_audio_ms and get("requests_billed", 1) > 1:
            return Price(None, None, "the least length billed is that of each request, and their lengths are added up")
        result = charge.full(rates, receipt, tiers.least_audio_ms)
        if isinstance(result, charge.Cannot):
            return Price(None, None, result.reason)
        return Price(result[0], tiers.row, None, result[1])

    def cost(self, receipt: Mapping[str, Any], at_ms: int) -> Price:
        """As `price`, without its parts and in a third of the time: what a ledger asks of every receipt."""
        get = receipt.get
        plan = self._plans.get(
            (receipt["provider"], receipt["model"], get("service_tier"), get("operation"), get("region"))
        )
        # What is not known yet, cannot be priced or is odd is the other's to say.
        if not isinstance(plan, str) and plan is not None and "usage_missing" not in receipt:
            tiers = plan.only or plan.at(at_ms)
            if not isinstance(tiers, str):
                rates = tiers.rates[0]
                if tiers.starts:
                    rates = tiers.at(_size(get("input_tokens"), get("requests_billed")))
                if charge.UNUSUAL.isdisjoint(receipt):
                    cost = charge.usual(rates, receipt)
                else:
                    steps = quick.steps_of(rates, receipt)
                    cost = None if steps is None else quick.cost(steps, receipt)
                if cost is not None:
                    return Price(cost, tiers.row, None)
        return self.price(receipt, at_ms)._replace(parts=())

    def ceiling(
        self,
        provider: str,
        model: str,
        *,
        input_tokens_max: int,
        output_tokens_max: int,
        at_ms: int,
        service_tier: Optional[str] = None,
        operation: Optional[str] = None,
        region: Optional[str] = None,
    ) -> Optional[int]:
        """The most that one request within these token counts can cost by the row in force at `at_ms`, in nano-dollars.

        Whatever part of the tokens turns out to be cached, written to a cache, audio, image or reasoning, and wherever
        between zero and the maximum the counts end: no price is above it. Fees per request are in; fees for searches
        and tools are not, their number is not bounded by tokens. None when the call is unpriced, or its row charges by
        the image or the second of video.
        """
        key = (provider, model, service_tier, operation, region)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(key)
        if isinstance(plan, str):
            return None
        tiers = plan.only or plan.at(at_ms)
        if isinstance(tiers, str):
            return None
        return ceiling.ceiling(tiers, input_tokens_max, output_tokens_max)

    def find(self, provider: str, model: str) -> Optional[Tuple[str, str]]:
        """`(book, model id)` of the row that prices a model, or None. Own terms are not asked."""
        return resolve.find(self._books, provider, model)

    def rows(self) -> Mapping[str, Any]:
        """The books, as they stand in the data: names and models of each."""
        return self._books

    def owner(self, model: str) -> Optional[str]:
        """The provider whose price a model has when only its name is known: its maker's, else the only host's.

        None when nobody lists it, and when several hosts do, each at a price of its own.
        """
        for provider in names.MAKERS:
            if self.find(provider, model) is not None:
                return provider
        hosts = [book for book in self._books if book not in names.RESELLERS and self.find(book, model) is not None]
        return hosts[0] if len(hosts) == 1 else None

    def _plan(self, key: Tuple[Any, ...]) -> resolve.Resolved:
        if len(self._plans) >= _MOST:
            self._plans.clear()
        plan = self._plans[key] = resolve.resolve(self._books, self.own, resolve.Ask(*key))
        return plan


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
                    When(when, where)
                    times.add(when)
            for context, when, prices in data.get("variants", ()):
                check_prices(prices, where, good)
                if when not in times:
                    When(when, where)
                    times.add(when)
                if not context:
                    raise BadPrice("%s: a variant must say what it is for" % where)
        if not models.keys() >= set(content["names"].values()):
            raise BadPrice("%s: a name leads to no row" % book)
