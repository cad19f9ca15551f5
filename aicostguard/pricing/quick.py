"""The quick way of `charge.full`: receipts with the same keys, by the same rates, are priced by the same few steps.

Owns which receipts may take it: those whose tokens and fees all have a rate. What a step finds odd (parts that exceed
their whole, a class without a rate) is the slow way's to say. If the two ever differed, a ledger and an explanation
would: `tests/pricing/test_quick.py` holds them together over every model of the book.
"""

from __future__ import annotations

from operator import itemgetter, mul
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from aicostguard.pricing.charge import COUNTED, NANO, Term, nano
from aicostguard.pricing.rates import Rate, Rates

#: (price key, receipt key, receipt key of what is in it and charged apart), in the order of `charge`
_INPUT: Tuple[Tuple[str, str, str], ...] = (
    ("cache_read", "cache_read_input_tokens", "cache_read_audio_tokens"),
    ("cache_audio_read", "cache_read_audio_tokens", ""),
    ("cache_write", "cache_creation_input_tokens", "cache_creation_1h_input_tokens"),
    ("cache_write_1h", "cache_creation_1h_input_tokens", ""),
    ("input_audio", "input_audio_tokens", "cache_read_audio_tokens"),
)
_OUTPUT: Tuple[Tuple[str, str, str], ...] = (
    ("output_reasoning", "reasoning_output_tokens", ""),
    ("output_audio", "output_audio_tokens", ""),
    ("output_image", "output_image_tokens", ""),
)
_FEES = (("web_searches", "web_searches"), ("tool_calls_billed", "tool_calls"))
#: what a receipt has to count, and what it may count besides; `requests_billed` matters where a row has a fee for it
_NEEDED = frozenset(("input_tokens", "output_tokens"))
_KNOWN = _NEEDED | {row[1] for row in (*_INPUT, *_OUTPUT)} | {key for key, _ in _FEES} | {"requests_billed"}
HALF = NANO // 2
#: kinds of receipts remembered for one row
_MOST = 512


class _Step(NamedTuple):
    """One term: the count at `first`, plus and minus others, at a rate; without a name it is only checked."""

    name: str
    femto: int
    text: str
    first: int
    minus: Tuple[int, ...]
    plus: Tuple[int, ...]


class Steps(NamedTuple):
    """How receipts of one kind are priced: the counts to take, and what is made of them.

    `weights` is what one of each count adds to the cost, all steps together; `parts` are the steps of which something
    is taken off, as `(first, minus, plus)`, and none of which may come out below zero.
    """

    take: Callable[[Mapping[str, Any]], Tuple[int, ...]]
    steps: Tuple[_Step, ...]
    weights: Tuple[int, ...]
    parts: Tuple[Tuple[int, Tuple[int, ...], Tuple[int, ...]], ...]


def steps_of(rates: Rates, receipt: Mapping[str, Any]) -> Optional[Steps]:
    """The steps for receipts with these keys, or None when they have to take the slow way."""
    kind = tuple(receipt)
    found: Any = rates.kinds.get(kind, rates)
    if found is rates:  # not seen yet
        if len(rates.kinds) >= _MOST:
            rates.kinds.clear()
        found = rates.kinds[kind] = _made(rates, receipt)
    steps: Optional[Steps] = found
    return steps


def cost(steps: Steps, receipt: Mapping[str, Any]) -> Optional[int]:
    """Nano-dollars, or None when the slow way has to say what is odd."""
    take, _, weights, parts = steps
    counts = take(receipt)
    if min(counts) < 0:
        return None
    for first, minus, plus in parts:
        count = counts[first]
        for at in minus:
            count -= counts[at]
        for at in plus:
            count += counts[at]
        if count < 0:
            return None
    return nano(sum(map(mul, counts, weights)))


def terms(steps: Steps, receipt: Mapping[str, Any]) -> Optional[Tuple[int, Tuple[Term, ...]]]:
    """Nano-dollars and the terms, or None when the slow way has to say what is odd."""
    counts = steps.take(receipt)
    total = done = 0
    parts: List[Term] = []
    for name, femto, text, first, minus, plus in steps.steps:
        count = counts[first]
        for at in minus:
            count -= counts[at]
        for at in plus:
            count += counts[at]
        if count < 0:
            return None
        if count and name:
            total += count * femto
            now, rest = divmod(total, NANO)  # as `nano` does, without a call for each term
            if rest >= HALF and (rest > HALF or now & 1):
                now += 1
            parts.append((name, count, text, now - done))
            done = now
    return done, tuple(parts)


def _made(rates: Rates, receipt: Mapping[str, Any]) -> Optional[Steps]:
    keys = COUNTED & receipt.keys()
    if not keys >= _NEEDED or not keys <= _KNOWN or rates.uncounted or "requests" in rates.unit:
        return None
    places: Dict[str, int] = {key: at for at, key in enumerate(sorted(keys))}
    made: List[_Step] = []
    for base, whole, classes in (("input", "input_tokens", _INPUT), ("output", "output_tokens", _OUTPUT)):
        found = _split(rates, base, places[whole], classes, places)
        if found is None:
            return None
        made += found
    for key, price in _FEES:
        if key in places:
            rate = rates.unit.get(price)
            if rate is None or not isinstance(rate.femto, int):
                return None
            made.append(_Step(key, rate.femto, rate.text, places[key], (), ()))
    weights = [0] * len(places)
    for step in made:
        for at, times in ((step.first, 1), *((at, -1) for at in step.minus), *((at, 1) for at in step.plus)):
            weights[at] += times * step.femto
    parts = tuple((step.first, step.minus, step.plus) for step in made if step.minus or step.plus)
    return Steps(itemgetter(*sorted(keys)), tuple(made), tuple(weights), parts)


def _split(
    rates: Rates, base: str, whole: int, classes: Tuple[Tuple[str, str, str], ...], places: Mapping[str, int]
) -> Optional[List[_Step]]:
    """The steps of a whole and of its classes that are charged apart; None when one of them has no rate."""
    base_rate = rates.token.get(base)
    if base_rate is None:
        return None
    one_cached = rates.token.get("cache_audio_read") is rates.token.get("cache_read")
    rest = {whole: 1}
    apart: List[_Step] = []
    for name, key, inner in classes:
        if key not in places or (name == "cache_audio_read" and one_cached):
            continue
        minus = (places[inner],) if inner in places and not (name == "cache_read" and one_cached) else ()
        rate: Optional[Rate] = rates.token.get(name)
        if rate is None or not isinstance(rate.femto, int):
            return None
        if rate is base_rate:
            apart.append(_Step("", 0, "", places[key], minus, ()))
            continue
        apart.append(_Step(name, rate.femto, rate.text, places[key], minus, ()))
        rest[places[key]] = rest.get(places[key], 0) - 1
        for at in minus:
            rest[at] = rest.get(at, 0) + 1
    if not isinstance(base_rate.femto, int) or any(abs(times) > 1 for times in rest.values()):
        return None
    # what is in a class and not counted itself cannot be taken off
    if any(inner in places and key not in places for _, key, inner in classes if inner):
        return None
    less = tuple(at for at, times in rest.items() if times < 0)
    more = tuple(at for at, times in rest.items() if times > 0 and at != whole)
    return [_Step(base, base_rate.femto, base_rate.text, whole, less, more), *apart]
