"""From what a receipt says of provider, model, tier and region to the plan that prices it.

Owns which of the books, and which of a user's own terms, speak for a call. Pure; called once per distinct call, the
book keeps the answer. If it takes another model's row, money is wrong; if it takes none, the receipt is unpriced.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from aicostguard.pricing import names, own, regions
from aicostguard.pricing.plan import Choice, Plan
from aicostguard.pricing.rates import AS_LISTED, Scale

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
#: (book, part of the model's name) → least audio billed, https://console.groq.com/docs/speech-to-text
_LEAST_AUDIO_MS: Tuple[Tuple[str, str, int], ...] = (("groq", "whisper", 10_000),)

Books = Mapping[str, Any]
Resolved = Union[Plan, Choice, str]


class Ask(NamedTuple):
    """What decides the plan of a call; the keys of a receipt in this order."""

    provider: str
    model: str
    tier: Optional[str] = None
    operation: Optional[str] = None
    region: Optional[str] = None


def resolve(books: Books, terms: Optional[own.Own], ask: Ask) -> Resolved:
    """The plan for a call, or why there is none."""
    prices: List[own.OwnPrice] = []
    adjustments: List[own.Adjustment] = []
    if terms is not None:
        ask, prices, adjustments = _own_terms(books, terms, ask)
    found = find(books, ask.provider, ask.model) if ask.region else None
    regional = regions.premiums(ask.provider, found[1], ask.region) if found else []
    starts = own.moments([*prices, *adjustments, *regional])
    kinds = (
        regional,
        [row for row in adjustments if not row.premium],
        [row for row in adjustments if row.premium],
    )
    plans: List[Union[Plan, str]] = []
    for at in starts:
        price = own.in_force(prices, at)
        if price is not None:
            plans.append(_own_plan(price, ask))
            continue
        holding = (own.in_force(rows, at) for rows in kinds)
        plans.append(listed(books, ask, [row for row in holding if row is not None]))
    return plans[0] if len(plans) == 1 else Choice(starts, plans)


def look(books: Books, place: names.Place) -> Optional[str]:
    """The id of the row that a place's name leads to."""
    book = books.get(place.book)
    if book is None:
        return None
    for name, geography in names.candidates(place.book, place.name):
        found = book["names"].get(name)
        if found is not None and (geography is None or geography in book["models"][found].get("geographies", ())):
            return str(found)
    return None


def find(books: Books, provider: str, model: str) -> Optional[Tuple[str, str]]:
    """`(book, model id)` of the row that prices a model, or None."""
    for place in names.places(provider, model):
        found = look(books, place)
        if found is not None:
            return place.book, found
    return None


def listed(books: Books, ask: Ask, adjustments: Sequence[own.Adjustment] = ()) -> Union[Plan, str]:
    """The plan from the book's rows, scaled by the adjustments."""
    provider, model, tier, operation, _ = ask
    known = False
    for place in names.places(provider, model):
        known = known or place.book in books
        found = look(books, place)
        if found is None:
            continue
        data = books[place.book]["models"][found]
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
        scale = _scale(adjustments)
        least = next((ms for at, part, ms in _LEAST_AUDIO_MS if at == place.book and part in found), 0)
        return Plan(place.book, found, data, wanted, scale, least)
    if not provider:
        return "no price for model %s" % model
    if not known:
        return "no prices for provider %s" % provider
    return "no price for model %s of %s" % (model, provider)


def _scale(adjustments: Sequence[own.Adjustment]) -> Scale:
    """What some adjustments come to together."""
    if not adjustments:
        return AS_LISTED
    note = fee_note = suffix = ""
    for row in adjustments:
        note += " " + row.text
        suffix += row.text + ("@" + row.scope.day if row.scope.day else "")
        fee_note += " " + row.text if row.fees else ""
    token = own.times(*(row.times for row in adjustments))
    fee = own.times(*(row.times for row in adjustments if row.fees))
    return Scale(token, fee, note, fee_note, suffix)


def _own_terms(books: Books, terms: own.Own, ask: Ask) -> Tuple[Ask, List[own.OwnPrice], List[own.Adjustment]]:
    """The call under the name that an alias gives it, and the terms that speak for it at some time."""
    spellings = own.spellings(ask.provider, ask.model)
    prices = _own_prices(terms, ask, spellings)
    if not prices and find(books, ask.provider, ask.model) is None:
        # What the response said is not listed: a name of the user's own, perhaps. Listed names need no alias.
        meant = terms.alias(ask.provider, ask.model)
        if meant is not None:
            ask = ask._replace(provider=meant[0], model=meant[1])
            spellings = [*spellings, *own.spellings(*meant)]
            prices = _own_prices(terms, ask, spellings)
    return ask, prices, terms.adjustments_for(ask.provider, spellings, ask.region)


def _own_prices(terms: own.Own, ask: Ask, spellings: Sequence[str]) -> List[own.OwnPrice]:
    batch = ask.operation == "batch" or ask.tier == "batch"
    tier = None if ask.tier in _STANDARD or ask.tier == "batch" else ask.tier
    return terms.prices_for(ask.provider, spellings, tier, batch, ask.region)


def _own_plan(price: own.OwnPrice, ask: Ask) -> Plan:
    scope = price.scope
    model = "%s/%s" % (scope.provider, scope.model) if scope.provider else scope.model
    model += "".join("+" + part for part in (price.tier, "batch" if price.batch else None) if part)
    return Plan(own.OWN, model, {"prices": [[price.scope.day, price.prices]]}, {}, AS_LISTED)
