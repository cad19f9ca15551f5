"""Prices for people's own code: `PricingRegistry`, `ModelPricing` and `CostCalculator`.

Owns the public surface of prices in Python. Exact inside; a float stands only in what a caller is given to look at. A
model that nobody listed or registered raises, it never has a default price. If a name here leads to another model's
row, a calculator is wrong where the ledger is right.

A model is named as its provider names it (`gpt-4o`, then the provider is its maker), or with the provider in front
(`azure/gpt-4o`), or beside `provider=`. Names that a user registered go first; they also stand for longer names that
begin with them and that the book does not list (`my-model` for `my-model-v2`), the longest one counts. Names of the
book never stand for longer ones: `gpt-4o` is not `gpt-4o-audio-preview`.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from aicostguard import pricing
from aicostguard.pricing.book import Price, PriceBook
from aicostguard.pricing.own import Own, OwnPrice, Scope
from aicostguard.pricing.rates import BadPrice, check_prices

Dollars = Union[int, float, str]

#: what may follow a registered name in a longer one
_BORDERS = "-.:@/_"
#: a provider as other tools write it in front of a model → as receipts have it
_FRONTS = {
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "together_ai": "together",
    "vertex_ai": "vertex",
}
#: one for all, so that a `ModelPricing` can still be copied
_registering = threading.Lock()


class Term(NamedTuple):
    """One term of a cost: what was counted, how many, the price as its provider writes it, and US dollars."""

    name: str
    units: int
    rate: str
    cost_usd: float


class Breakdown(NamedTuple):
    """A cost in US dollars and in exact nano-dollars, its price row, and its terms, which add up to it."""

    model: str
    cost_usd: float
    cost_nanousd: int
    row: str
    terms: Tuple[Term, ...]

    @property
    def input_cost_usd(self) -> float:
        """What the prompt costs, cached and written parts included."""
        return _sum(self.terms, ("input", "cache"))

    @property
    def output_cost_usd(self) -> float:
        """What the answer costs, reasoning included."""
        return _sum(self.terms, ("output",))


class ModelPricing:
    """Prices by model: those of the book that ships with the package, and those that are registered here.

    `book` is another price book; `PriceBook.with_own` gives one with the terms of a prices file. Safe to share between
    threads.
    """

    def __init__(self, book: Optional[PriceBook] = None) -> None:
        self._book = (book or pricing.default_book()).with_own(book.own if book else None)
        self._registered: Tuple[str, ...] = ()
        self._known: Dict[Tuple[Optional[str], str], Tuple[str, str]] = {}

    def register(
        self,
        name: str,
        *,
        input_per_million: Dollars,
        output_per_million: Dollars,
        cached_per_million: Optional[Dollars] = None,
    ) -> None:
        """Give a model a price of your own in US dollars per million tokens; it goes before the book's.

        Without `cached_per_million`, cached input costs what other input costs. Raises ValueError for a price that is
        negative or no number.
        """
        if type(name) is not str or not name.strip():
            raise ValueError("a model's name must be a text, not %r" % (name,))
        name = name.strip().lower()
        prices = {
            "input": decimal("input_per_million", input_per_million),
            "output": decimal("output_per_million", output_per_million),
        }
        if cached_per_million is not None:
            prices["cache_read"] = decimal("cached_per_million", cached_per_million)
        check_prices(prices, name, set())
        with _registering:  # two at once would each go on from the same book, and one be lost
            own = self._book.own or Own(source="registered")
            self._book = self._book.with_own(own.plus(OwnPrice(Scope(model=name), prices)))
            self._registered = tuple(sorted({*self._registered, name}, key=len, reverse=True))
            self._known = {}

    def __repr__(self) -> str:
        return "%s(registered=%r)" % (type(self).__name__, sorted(self._registered))

    def price(
        self,
        model: str,
        usage: Mapping[str, Any],
        *,
        provider: Optional[str] = None,
        at_ms: Optional[int] = None,
    ) -> Price:
        """What a call costs; `usage` holds counts and enums under the keys of a receipt.

        `at_ms` is the time of the call in Unix milliseconds, now unless given. An unpriced call gives a `Price` without
        a cost, and the reason.
        """
        host, name = self.resolve(model, provider)
        return self._book.price({**usage, "provider": host, "model": name}, now_ms() if at_ms is None else at_ms)

    def resolve(self, model: str, provider: Optional[str] = None) -> Tuple[str, str]:
        """`(provider, model)` under which a name is priced; `("", model)` when no provider can be told."""
        key = (provider, model)
        known = self._known  # of one state of the book: what is registered meanwhile begins another
        found = known.get(key)
        if found is None:
            if len(known) > 4096:
                known.clear()
            found = known[key] = self._resolve(model, provider)
        return found

    def unpriced(self, model: str, price: Price, provider: Optional[str] = None) -> NoPricing:
        """The error for a call whose `price` has no cost."""
        text, reason = "No pricing configured for model: %s" % model, price.reason or ""
        host, name = self.resolve(model, provider)
        own = self._book.own
        listed = self._book.find(host, name) is not None or (own is not None and own.speaks_of(host, name))
        # A model that is listed but not for this: then the reason is what helps.
        return NoPricing("%s (%s)" % (text, reason) if listed else text, reason)

    def ceiling(
        self,
        model: str,
        *,
        input_tokens_max: int,
        output_tokens_max: int,
        provider: Optional[str] = None,
        at_ms: Optional[int] = None,
        **facts: Optional[str],
    ) -> Optional[int]:
        """As `PriceBook.ceiling`, for a model by name."""
        host, name = self.resolve(model, provider)
        return self._book.ceiling(
            host,
            name,
            input_tokens_max=input_tokens_max,
            output_tokens_max=output_tokens_max,
            at_ms=now_ms() if at_ms is None else at_ms,
            **facts,
        )

    def _resolve(self, model: str, provider: Optional[str]) -> Tuple[str, str]:
        book = self._book
        ways: List[Tuple[str, str]] = []
        if provider:
            ways.append((provider, model))
        else:
            front, slash, rest = model.partition("/")
            if slash:
                ways.append((_FRONTS.get(front, front), rest))
            maker = book.owner(model)
            if maker is not None:
                ways.append((maker, model))
        ways.append((provider or "", model))
        if book.own is not None:
            for way in ways:
                if book.own.speaks_of(*way):
                    return way
        for way in ways:
            if book.find(*way) is not None:
                return way
        for name in self._registered:
            if model.lower().startswith(name) and model[len(name)] in _BORDERS:
                return provider or "", name
        return ways[-1]


class PricingRegistry(ModelPricing):
    """The same under the name that `CostCalculator` takes it by."""


class CostCalculator:
    """What a request costs, in US dollars, by the prices of a registry.

    Raises ValueError `No pricing configured for model: NAME` when the registry has none.
    """

    def __init__(self, registry: Optional[ModelPricing] = None) -> None:
        if not isinstance(registry, (ModelPricing, type(None))):
            raise TypeError("registry must be a PricingRegistry(), not %s" % type(registry).__name__)
        self.registry = registry or PricingRegistry()

    def __repr__(self) -> str:
        return "CostCalculator(%r)" % self.registry

    def calculate_request_cost(
        self, model: str, input_tokens: int, output_tokens: int, *, provider: Optional[str] = None, **usage: Any
    ) -> float:
        """US dollars of one request. `cached_tokens` is the part of `input_tokens` that was read from a cache; `usage`
        holds further counts or enums under the keys of a receipt, such as `service_tier`; `at_ms` is the time of the
        call."""
        return self._priced(model, input_tokens, output_tokens, provider, usage)[0] / 1e9

    def calculate_breakdown(
        self, model: str, input_tokens: int, output_tokens: int, *, provider: Optional[str] = None, **usage: Any
    ) -> Breakdown:
        """The same cost with its terms, for the same arguments."""
        cost, price = self._priced(model, input_tokens, output_tokens, provider, usage)
        terms = tuple(Term(name, units, rate, nano / 1e9) for name, units, rate, nano in price.parts)
        return Breakdown(model, cost / 1e9, cost, price.row or "", terms)

    def _priced(
        self, model: str, input_tokens: int, output_tokens: int, provider: Optional[str], usage: Dict[str, Any]
    ) -> Tuple[int, Price]:
        given: Any = model  # what came out of somebody's JSON, perhaps all of it
        if type(given) is not str:
            named = given if given is None or isinstance(given, (int, float)) else type(given).__name__
            raise NoPricing("No pricing configured for model: %s" % named, "no-model")
        at_ms = usage.pop("at_ms", None)
        if "cached_tokens" in usage and "cache_read_input_tokens" not in usage:  # as `TokenUsage` calls them
            usage["cache_read_input_tokens"] = usage.pop("cached_tokens")
        counts = {"input_tokens": input_tokens, "output_tokens": output_tokens, **usage}
        _check(counts)
        price = self.registry.price(model, counts, provider=provider, at_ms=at_ms)
        if price.cost_nanousd is None:
            raise self.registry.unpriced(model, price, provider)
        return price.cost_nanousd, price


class NoPricing(ValueError):
    """A model without a price, or a request that its price row cannot price; `reason` says why."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


def decimal(field: str, value: Dollars) -> str:
    """A price as plain decimal text, exactly as it was written. Raises BadPrice for what is no price."""
    from decimal import Decimal, InvalidOperation

    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise BadPrice("%s: %r is not a price in US dollars" % (field, value))
    try:
        # repr of a float is the shortest text that reads back as the same: 0.1 stays "0.1"
        number = Decimal(value if isinstance(value, str) else repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise BadPrice("%s: %r is not a price in US dollars" % (field, value)) from None
    if not number.is_finite() or (number.is_signed() and number):
        raise BadPrice("%s: %r is not a price in US dollars: it must be 0 or more" % (field, value))
    text = format(abs(number), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def now_ms() -> int:
    return int(time.time() * 1000)


def _check(counts: Mapping[str, Any]) -> None:
    """Refuse counts that a receipt could not carry: a cost of less than nothing is nobody's."""
    from aicostguard.receipt import FIELDS

    for key, value in counts.items():
        field = FIELDS.get(key)
        if field is None or key in ("provider", "model"):
            raise TypeError("%r is not a count or an enum of a receipt" % key)
        if not field.fits(value):
            raise ValueError("%s must be %s, not %r" % (key, field.expects, value))


def _sum(terms: Tuple[Term, ...], starts: Tuple[str, ...]) -> float:
    return sum(term.cost_usd for term in terms if term.name.startswith(starts))
