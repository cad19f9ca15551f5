"""A user's own terms on top of the book: names of their own, prices of their own, discounts and premiums, with dates.

Owns the values and which of them speak for a call. Pure: `pricefile` reads them from a file, `registry` takes them from
Python, `book` applies them. If a pattern here is taken wider than it was written, a model is charged at terms nobody
agreed to.

- An alias says which listed model a name stands for: an Azure deployment, a Bedrock application profile.
- A price replaces the book's row for the tier it names (the standard tier unless it says otherwise).
- A discount or a premium scales the book's row. The most exact one that holds counts, of each kind; they do not scale
  prices of one's own.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from aicostguard.pricing import names
from aicostguard.pricing.rates import Factor

#: the book that a user's own rows are said to be in
OWN = "own"


class Scope(NamedTuple):
    """Which calls a term speaks of. None: any. `model` and `region` may hold `*` for any run of characters.

    `start` (included) and `end` (not included) are Unix milliseconds; `day` is the start as it was written.
    """

    provider: Optional[str] = None
    model: str = "*"
    region: Optional[str] = None
    start: Optional[int] = None
    end: Optional[int] = None
    day: Optional[str] = None

    def active(self, at_ms: Optional[int]) -> bool:
        """Whether it holds at a moment; None is a moment before every date."""
        if at_ms is None:
            return self.start is None
        return (self.start is None or at_ms >= self.start) and (self.end is None or at_ms < self.end)

    def fits(self, provider: str, spellings: Sequence[str], region: Optional[str]) -> bool:
        return (
            self.provider in (None, provider)
            and (self.region is None or (region is not None and matches(self.region, region)))
            and self.names(spellings)
        )

    def names(self, spellings: Sequence[str]) -> bool:
        return any(matches(self.model, name) for name in spellings)

    def exactness(self) -> Tuple[int, int, int, int, int]:
        """The more exact of two that speak for a call is the greater: model, provider, region, then the later."""
        return (
            0 if "*" in self.model else 1,
            len(self.model.replace("*", "")),
            0 if self.provider is None else 1,
            0 if self.region is None else 1,
            0 if self.start is None else self.start,
        )


class OwnPrice(NamedTuple):
    """Prices agreed for a model, under the keys and in the units of the book."""

    scope: Scope
    prices: Mapping[str, Any]
    #: the service tier it is for, None: the standard one
    tier: Optional[str] = None
    batch: bool = False


class Adjustment(NamedTuple):
    """A discount (`times` below one) or a premium. `fees`: whether fees per use are scaled, too."""

    scope: Scope
    times: Factor
    text: str
    fees: bool = True

    @property
    def premium(self) -> bool:
        return self.times[0] > self.times[1]


class Alias(NamedTuple):
    """`model` at `provider` (None: anywhere) is `name`, at `host` (None: the same provider)."""

    provider: Optional[str]
    model: str
    name: str
    host: Optional[str] = None


class Own:
    """All own terms of one place. Never changed: `plus` gives another."""

    __slots__ = ("aliases", "prices", "adjustments", "base_urls", "source")

    def __init__(
        self,
        aliases: Iterable[Alias] = (),
        prices: Iterable[OwnPrice] = (),
        adjustments: Iterable[Adjustment] = (),
        base_urls: Optional[Mapping[str, str]] = None,
        source: str = "",
    ) -> None:
        self.aliases = tuple(aliases)
        self.prices = tuple(prices)
        self.adjustments = tuple(adjustments)
        #: address of a gateway → the provider under which its calls are priced
        self.base_urls: Dict[str, str] = dict(base_urls or {})
        #: where the terms come from, for people
        self.source = source

    def plus(self, price: OwnPrice) -> Own:
        """The same with one more price, which goes before an older one for the same calls."""
        kept = [
            old for old in self.prices if (old.scope, old.tier, old.batch) != (price.scope, price.tier, price.batch)
        ]
        return Own(self.aliases, [*kept, price], self.adjustments, self.base_urls, self.source)

    def alias(self, provider: str, model: str) -> Optional[Tuple[str, str]]:
        """`(provider, model)` that a name stands for, by the most exact alias."""
        found = [a for a in self.aliases if a.provider in (None, provider) and matches(a.model, model.lower())]
        if not found:
            return None
        best = max(found, key=lambda a: ("*" not in a.model, len(a.model), a.provider is not None))
        return best.host or provider, best.name

    def speaks_of(self, provider: str, model: str) -> bool:
        """Whether a price of one's own, or an alias, names a model of a provider at some time or tier."""
        texts = spellings(provider, model)
        if any(row.scope.provider in (None, provider) and row.scope.names(texts) for row in self.prices):
            return True
        return self.alias(provider, model) is not None

    def prices_for(
        self, provider: str, spellings: Sequence[str], tier: Optional[str], batch: bool, region: Optional[str]
    ) -> List[OwnPrice]:
        """Own prices that speak for a call at some time, the most exact first."""
        found = [
            row
            for row in self.prices
            if row.tier == tier and row.batch == batch and row.scope.fits(provider, spellings, region)
        ]
        return sorted(found, key=lambda row: row.scope.exactness(), reverse=True)

    def adjustments_for(self, provider: str, spellings: Sequence[str], region: Optional[str]) -> List[Adjustment]:
        """Discounts and premiums that speak for a call at some time, the most exact first."""
        found = [row for row in self.adjustments if row.scope.fits(provider, spellings, region)]
        return sorted(found, key=lambda row: row.scope.exactness(), reverse=True)

    def provider_of(self, base_url: str) -> Optional[str]:
        """The provider under which calls to a base URL are priced: the longest listed address that it begins with."""
        url = base_url.lower().rstrip("/") + "/"
        fitting = [address for address in self.base_urls if url.startswith(address.lower().rstrip("/") + "/")]
        return self.base_urls[max(fitting, key=len)] if fitting else None


def spellings(provider: str, model: str) -> List[str]:
    """A name as it is, and with its decoration taken off, most exact first."""
    found = [model.lower()]
    for place in names.places(provider, model):
        found += [name for name, _ in names.candidates(place.book, place.name)]
    return list(dict.fromkeys(found))


def matches(pattern: str, text: str) -> bool:
    """Whether a text is what a pattern says; `*` stands for any run of characters, nothing else is special."""
    if "*" not in pattern:
        return pattern == text
    return re.match(".*".join(re.escape(part) for part in pattern.split("*")) + r"\Z", text, re.DOTALL) is not None


def in_force(rows: Iterable[Any], at_ms: Optional[int]) -> Optional[Any]:
    """The first of some terms (the most exact first) that holds at a moment."""
    return next((row for row in rows if row.scope.active(at_ms)), None)


def moments(rows: Iterable[Any]) -> List[Optional[int]]:
    """None, and then every moment at which some of the terms begins or ends, rising."""
    found = {at for row in rows for at in (row.scope.start, row.scope.end) if at is not None}
    return [None, *sorted(found)]


def times(*factors: Factor) -> Factor:
    """The product, in lowest terms."""
    from math import gcd

    above = below = 1
    for up, down in factors:
        above, below = above * up, below * down
    common = gcd(above, below)
    return above // common, below // common
