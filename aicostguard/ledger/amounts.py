"""Sums as they leave the ledger: money as integers and exact decimals, and what follows from sums by division.

Owns how money is written and what an average or a share is taken of. A float never stands between two amounts of money;
what cannot be known (no call has a price, nothing to divide by) is null, never 0.
"""

from __future__ import annotations

from typing import Any, Mapping

from aicostguard.ledger.model import MEASURES, TIMED

#: name → (how many, of how many)
SHARES: Mapping[str, tuple[str, str]] = {
    "unpriced_share": ("unpriced_calls", "calls"),
    "unmeasured_share": ("usage_missing_calls", "calls"),
    "estimated_share": ("estimated_calls", "calls"),
}
#: name → (milliseconds, of how many calls)
AVERAGES: Mapping[str, tuple[str, str]] = {
    "latency_avg_ms": ("latency_ms", TIMED["latency_ms"]),
    "ttft_avg_ms": ("ttft_ms", TIMED["ttft_ms"]),
}
#: what a row says beside its sums, in order
DERIVED = ("cost_per_call_usd", "cache_savings_usd", *SHARES, *AVERAGES)
#: what a row says of the period compared with
CHANGES = ("before", "change_nanousd", "change_usd", "ratio")


def amounts(sums: Mapping[str, int]) -> dict[str, Any]:
    """`{cost_usd, every measure, every derived value}`."""
    cost = priced(sums)
    calls = sums["calls"] - sums["unpriced_calls"]
    return {
        "cost_usd": None if cost is None else usd(cost),
        **sums,
        "cost_nanousd": cost,
        "cost_per_call_usd": usd(rounded(cost, calls)) if cost is not None and calls else None,
        "cache_savings_usd": usd(sums["cache_savings_nanousd"]),
        **{name: _share(sums[part], sums[whole]) for name, (part, whole) in SHARES.items()},
        **{name: _ratio(sums[total], sums[number], 1) for name, (total, number) in AVERAGES.items()},
    }


def changed(sums: Mapping[str, int], before: Mapping[str, int]) -> dict[str, Any]:
    """How sums compare with those of a period before: `ratio` 1.5 is half as much again, null from nothing."""
    cost, was = priced(sums), priced(before)
    known = cost is not None and was is not None
    change = (cost or 0) - (was or 0)
    told = {name: before[name] for name in ("calls", "unpriced_calls", "input_tokens", "output_tokens")}
    return {
        "before": {"cost_usd": None if was is None else usd(was), "cost_nanousd": was, **told},
        "change_nanousd": change if known else None,
        "change_usd": usd(change) if known else None,
        "ratio": _share(cost or 0, was or 0) if known else None,
    }


def priced(sums: Mapping[str, int]) -> int | None:
    """The cost of sums, or None where there are calls and not one of them has a price."""
    return sums["cost_nanousd"] if sums["calls"] == 0 or sums["unpriced_calls"] < sums["calls"] else None


def less(whole: Mapping[str, int], parts: list[Mapping[str, int]]) -> dict[str, int]:
    """What is left of sums when parts are taken away."""
    return {name: whole[name] - sum(part[name] for part in parts) for name in MEASURES}


def rounded(amount: int, by: int) -> int:
    """An amount divided, to the nearest; a half goes to the even one."""
    low, rest = divmod(amount, by)
    return low + (2 * rest > by or (2 * rest == by and low % 2))


def _ratio(part: int, whole: int, digits: int) -> float | None:
    return round(part / whole, digits) if whole else None


def _share(part: int, whole: int) -> float | None:
    """To six decimals, and more where those would say none or all of what is neither."""
    shown = _ratio(part, whole, 6)
    return part / whole if (shown == 0 and part) or (shown == 1 and part != whole) else shown


def usd(nano: int) -> str:
    """Nano-dollars as an exact decimal: 1500000000 → "1.5", 0 → "0"."""
    whole, part = divmod(abs(nano), 10**9)
    text = f"{whole}.{part:09d}".rstrip("0").rstrip(".")
    return "-" + text if nano < 0 else text
