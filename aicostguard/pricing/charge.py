"""From counts and rates to money: what one receipt costs.

Owns the split of a receipt's counts into classes that do not overlap, and the rounding. Pure arithmetic on integers
and fractions; never a float, never below zero. If this is wrong, every total is.

Rounding: the exact sum of all terms is rounded once, to the nearest nano-dollar, a tie to the even one. Once,
because rounding each term would drift with their number; to even, because ties are common (odd token counts at half a
nano-dollar) and rounding them all up would make a month's total too high. The terms shown in `parts` are
differences of the rounded running sum, so that they add up to the cost exactly.
"""

from __future__ import annotations

from typing import Any, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple, Union

from aicostguard.pricing.rates import Exact, Rate, Rates

#: keys that need more than "input at one rate, output at another"
SPECIAL: FrozenSet[str] = frozenset(
    (
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation_1h_input_tokens",
        "reasoning_output_tokens",
        "input_audio_tokens",
        "cache_read_audio_tokens",
        "output_audio_tokens",
        "input_image_tokens",
        "output_image_tokens",
        "input_video_tokens",
        "web_searches",
        "tool_calls_billed",
        "search_units",
        "characters",
        "audio_ms",
        "images",
        "video_ms",
        "requests_billed",
    )
)

#: keys that need more than that and cached input at a third rate
UNUSUAL: FrozenSet[str] = SPECIAL - {"cache_read_input_tokens"}

#: without any of these a receipt says nothing of what was used
COUNTED: FrozenSet[str] = SPECIAL | {"input_tokens", "output_tokens"}

#: (receipt key, price key, what the count means when the row has no such price):
#: "fee": it is charged on top, so the receipt cannot be priced; "measure": it is another measure of what the tokens
#: already count, so it matters only when no tokens are charged
_COUNTS: Tuple[Tuple[str, str, str], ...] = (
    ("web_searches", "web_searches", "fee"),
    ("tool_calls_billed", "tool_calls", "fee"),
    ("search_units", "search_units", "fee"),
    ("characters", "characters", "measure"),
    ("audio_ms", "audio", "measure"),
    ("images", "images", "measure"),
    ("video_ms", "video", "measure"),
)

NANO = 1_000_000  # femto-dollars

Term = Tuple[str, int, str, int]
_Charge = Tuple[str, int, Rate]


class Cannot(NamedTuple):
    """Why a receipt has no price."""

    reason: str


def nano(femto: Exact) -> int:
    """Nearest nano-dollar, ties to even."""
    if isinstance(femto, int):
        value, rest = divmod(femto, NANO)
        return value + (rest > 500_000 or (rest == 500_000 and value & 1))
    return round(femto / NANO)


def plain(rates: Rates, input_tokens: int, output_tokens: Optional[int]) -> Optional[Tuple[int, Tuple[Term, ...]]]:
    """The common case: input at one rate, output at another. None when the row cannot do it so simply."""
    into, out = rates.input, rates.output
    # A row without a price for input may charge by length: a count of no tokens says nothing there.
    if into is None or (rates.unit and "requests" in rates.unit) or rates.uncounted:
        return None
    total: Exact = 0
    parts: Tuple[Term, ...] = ()
    done = 0
    if input_tokens:
        total = input_tokens * into.femto
        done = nano(total)
        parts = (("input", input_tokens, into.text, done),)
    if output_tokens:
        if out is None:
            return None
        total += output_tokens * out.femto
        cost = nano(total)
        return cost, parts + (("output", output_tokens, out.text, cost - done),)
    return done, parts


def usual(rates: Rates, receipt: Mapping[str, Any]) -> Optional[int]:
    """Nano-dollars of a receipt without any key of `UNUSUAL`, as `full` has them; None when that has to be asked."""
    prices = rates.usual
    input_tokens = receipt.get("input_tokens")
    if prices is None or input_tokens is None:
        return None
    into, out, cached_at = prices
    total = input_tokens * into
    cached = receipt.get("cache_read_input_tokens")
    if cached:
        if cached_at is None or not 0 < cached <= input_tokens:
            return None
        total += cached * (cached_at - into)
    output_tokens = receipt.get("output_tokens")
    if output_tokens:
        total += output_tokens * out
    return nano(total)


def full(
    rates: Rates, receipt: Mapping[str, Any], least_audio_ms: int = 0
) -> Union[Cannot, Tuple[int, Tuple[Term, ...]]]:
    """Cost and terms of a receipt that names classes of tokens or units; `Cannot` when the row does not price them."""
    if COUNTED.isdisjoint(receipt):
        return Cannot("usage missing")
    if rates.uncounted:
        return Cannot("the price row charges %s, which a receipt does not count" % " and ".join(rates.uncounted))
    charges: List[_Charge] = []
    if rates.free:
        problem = _units(rates, receipt, charges, 0)
        return Cannot(problem) if problem else (0, ())
    # A row that charges by length or by character alone: tokens are another measure of the same.
    problem = (
        None if _by_measure(rates, receipt) else _input(rates, receipt, charges) or _output(rates, receipt, charges)
    )
    if problem:
        return Cannot(problem)
    problem = _units(rates, receipt, charges, least_audio_ms)
    if problem:
        return Cannot(problem)
    total: Exact = 0
    done = 0
    parts: List[Term] = []
    for name, count, rate in charges:
        total += count * rate.femto
        now = nano(total)
        parts.append((name, count, rate.text, now - done))
        done = now
    return done, tuple(parts)


def _by_measure(rates: Rates, receipt: Mapping[str, Any]) -> bool:
    measures = (key for key, price, kind in _COUNTS if kind == "measure" and price in rates.unit)
    return not rates.token and any(key in receipt for key in measures)


def _input(rates: Rates, receipt: Mapping[str, Any], charges: List[_Charge]) -> Optional[str]:
    get = receipt.get
    whole = get("input_tokens")
    cached = get("cache_read_input_tokens") or 0
    cached_audio = get("cache_read_audio_tokens") or 0
    written = get("cache_creation_input_tokens") or 0
    written_1h = get("cache_creation_1h_input_tokens") or 0
    audio = get("input_audio_tokens") or 0
    image = get("input_image_tokens") or 0
    video = get("input_video_tokens") or 0
    if whole is None and receipt.get("output_tokens") is not None and rates.input is not None:
        return "input_tokens missing"
    token = rates.token
    base = rates.input
    if token.get("cache_audio_read") is token.get("cache_read"):
        cached_text, cached_audio_apart = cached, 0
    else:
        cached_text, cached_audio_apart = cached - cached_audio, cached_audio
    for name, count in (("image", image), ("video", video)):
        if count and cached_text and token.get("input_" + name) is not base:
            return "cached %s tokens cannot be told from cached text, and their prices differ" % name
    classes = (
        ("cache_read", cached_text),
        ("cache_audio_read", cached_audio_apart),
        ("cache_write", written - written_1h),
        ("cache_write_1h", written_1h),
        ("input_audio", audio - cached_audio),
        ("input_image", image),
        ("input_video", video),
    )
    return _split("input", whole, classes, rates, charges)


def _output(rates: Rates, receipt: Mapping[str, Any], charges: List[_Charge]) -> Optional[str]:
    get = receipt.get
    classes = (
        ("output_reasoning", get("reasoning_output_tokens") or 0),
        ("output_audio", get("output_audio_tokens") or 0),
        ("output_image", get("output_image_tokens") or 0),
    )
    return _split("output", get("output_tokens"), classes, rates, charges)


def _split(
    base: str,
    whole: Optional[int],
    classes: Tuple[Tuple[str, int], ...],
    rates: Rates,
    charges: List[_Charge],
) -> Optional[str]:
    """Add one charge per class with a rate of its own and one for the rest; text when that is not possible."""
    base_rate = rates.token.get(base)
    rest = whole or 0
    apart: List[_Charge] = []
    for name, count in classes:
        if count < 0:
            return "the parts of the %s tokens exceed it" % name.replace("_", " ")
        if not count:
            continue
        rate = rates.token.get(name)
        if rate is None:
            return "no price for %s tokens" % name.replace("_", " ")
        if rate is base_rate:
            continue
        apart.append((name, count, rate))
        rest -= count
    if apart and whole is None:
        return "parts of the %s are given but not all of it" % base
    if rest < 0:
        return "the parts of the %s tokens exceed them" % base
    if rest:
        if base_rate is None:
            return "no price for %s tokens" % base
        charges.append((base, rest, base_rate))
    charges.extend(apart)
    return None


def _units(rates: Rates, receipt: Mapping[str, Any], charges: List[_Charge], least_audio_ms: int) -> Optional[str]:
    by_tokens = bool(rates.token) and ("input_tokens" in receipt or "output_tokens" in receipt)
    measured = by_tokens
    for key, price_key, kind in _COUNTS:
        count = receipt.get(key)
        if count is None:
            continue
        rate = rates.unit.get(price_key)
        if rate is not None:
            measured = True
            if count:
                charges.append((key, max(count, least_audio_ms) if key == "audio_ms" else count, rate))
        elif count and (kind == "fee" or not (by_tokens or rates.free)):
            return "no price for %s" % key
    fee = rates.unit.get("requests")
    if fee is not None:
        # A receipt is one billed response, so a row with a fee per request charges it once when nobody counted.
        charges.append(("requests_billed", receipt.get("requests_billed", 1), fee))
    if not measured and (rates.token or rates.unit.keys() - {"requests"}):
        return "the receipt does not count what the price row charges"
    return None
