"""The most that a request within given token counts can cost: what a budget reserves before the call.

Owns the bound. Pure and quick: the dearest rates of a row are found once. If it is too low, a budget is passed; if it
is too high, calls are refused that had room. `tests/pricing/test_ceiling.py` holds it above every price of the book.
"""

from __future__ import annotations

from typing import Optional, Tuple

from aicostguard.pricing.plan import Tiers
from aicostguard.pricing.rates import Exact, Rates

#: price keys of what a prompt can consist of, and of what an answer can
_INTO = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "cache_audio_read",
    "input_image",
    "input_video",
)
_OUT = ("output", "output_reasoning", "output_audio", "output_image")
#: price keys of what an answer holds besides tokens, as much of it as nobody knows before
_MADE = frozenset(("images", "video"))

_NANO = 1_000_000  # femto-dollars

Dearest = Tuple[Exact, Exact, Exact]


def ceiling(tiers: Tiers, input_tokens: int, output_tokens: int) -> Optional[int]:
    """Nano-dollars no request within these counts costs more than; None when the row cannot price tokens."""
    # A request that stays below a threshold may cost more than one above it, so every reachable size counts.
    reachable = 1 + sum(start < input_tokens for start in tiers.starts)
    dearest = tiers.dearest
    if dearest is None:
        dearest = tiers.dearest = [_dearest(rates) for rates in tiers.rates]
    most: Optional[Exact] = None
    for index in range(reachable):
        found = dearest[index]
        if found is None:
            return None
        cost = input_tokens * found[0] + output_tokens * found[1] + found[2]
        if most is None or cost > most:
            most = cost
    assert most is not None
    return -int(-most // _NANO)


def _dearest(rates: Rates) -> Optional[Dearest]:
    """Femto-dollars of the dearest token of a prompt, of an answer, and of the request itself."""
    if rates.uncounted or not _MADE.isdisjoint(rates.unit):
        return None
    into = [rates.token[key].femto for key in _INTO if key in rates.token]
    out = [rates.token[key].femto for key in _OUT if key in rates.token]
    if not (into or out or rates.free):
        return None
    fee = rates.unit["requests"].femto if "requests" in rates.unit else 0
    return max(into, default=0), max(out, default=0), fee
