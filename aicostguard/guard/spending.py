"""Three functions for programs that do their own accounts: a check before a request, a log of one, alerts on sums.

Owns their texts. Amounts are USD as people hold them, compared in whole nano-dollars. `log_request_cost` makes a
receipt and hands it to delivery as every metered call's is; without a destination (`AICG_URL`) it does nothing.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict, List, Mapping, NamedTuple, Optional, Union

from aicostguard import receipt
from aicostguard.capture.state import state
from aicostguard.guard import words
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.pricing.registry import ModelPricing
from aicostguard.usage import Usage

#: rule → from what on it speaks (USD; of `rate_spike` how many times the usual), and what it asks for
ALERTS: Mapping[str, Mapping[str, Any]] = {
    "hourly_spend": {"threshold": 100, "action": "warn"},
    "daily_spend": {"threshold": 500, "action": "alert"},
    "single_request": {"threshold": 1, "action": "flag"},
    "rate_spike": {"threshold": 2.0, "action": "investigate"},
}
_TEXTS = {
    "hourly_spend": "Hourly spend ${value:,.2f} exceeds threshold",
    "daily_spend": "Daily spend ${value:,.2f} exceeds threshold",
    "single_request": "Single request ${value:,.2f} exceeds threshold",
    "rate_spike": "Hourly spend is {value:,.1f} times the usual, which exceeds threshold",
}
Amount = Union[int, float, str]
Source = Union[Amount, Callable[[], Any], None]


def enforce_budget_or_raise(current_spend: Amount, budget_limit: Amount, request_cost: Amount) -> None:
    """Raise BudgetExceeded when a request would pass a limit; reaching it exactly is allowed. All in USD."""
    spent = _nano("current_spend", current_spend)
    limit = _nano("budget_limit", budget_limit)
    cost = _nano("request_cost", request_cost)
    if spent + cost > limit:
        raise BudgetExceeded(
            words.BLOCKED, budget="default", dimension="budget", limit=limit, spent=spent, estimate=cost
        )


async def log_request_cost(
    request_id: str,
    model: str,
    input_tokens: int,
    output_tokens: int,
    cost: Optional[Amount] = None,
    user_id: Optional[str] = None,
    feature: Optional[str] = None,
    *,
    provider: Optional[str] = None,
) -> bool:
    """Store a request that this program has counted itself; False without a destination.

    `request_id` becomes the label `request`. `cost` is kept as the cost that was reported, beside the price that the
    ledger gives the counts. A call that is metered already must not be logged as well.
    """
    deliver = state.deliver
    if deliver is None:
        return False
    host, name = ModelPricing().resolve(model, provider)
    reported = None if cost is None else _nano("cost", cost)
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, reported_cost_nanousd=reported)
    more = {"request": request_id, "user": user_id, "feature": feature}
    made, _ = receipt.build(host or "custom", name, usage, more, state.salt)
    if state.core:
        made = receipt.core(made)
    if state.inline and state.adeliver is not None:
        await state.adeliver([made])
    else:
        deliver(made)
    return True


class CostAlert(NamedTuple):
    """A rule that speaks: its name, what it asks for, its text, and the figures."""

    rule: str
    action: str
    text: str
    value: float
    threshold: float


async def check_cost_alerts(
    hourly: Source = None,
    daily: Source = None,
    *,
    single_request: Source = None,
    usual_hourly: Source = None,
    send: Optional[Callable[[str], Any]] = None,
    alerts: Mapping[str, Mapping[str, Any]] = ALERTS,
) -> List[CostAlert]:
    """The rules that speak for these figures: spend of the hour, of the day and of one request in USD.

    Each figure is a number, or a function or coroutine function that gives it; None leaves its rule out. `usual_hourly`
    is what `hourly` is compared with for a spike. `send` (also a coroutine function) gets each text.
    """
    figures: Dict[str, Optional[float]] = {
        "hourly_spend": await _figure(hourly),
        "daily_spend": await _figure(daily),
        "single_request": await _figure(single_request),
    }
    usual = await _figure(usual_hourly)
    spent = figures["hourly_spend"]
    figures["rate_spike"] = spent / usual if usual and spent is not None else None
    found = []
    for rule, value in figures.items():
        row = alerts.get(rule)
        if row is not None and value is not None and value > row["threshold"]:
            text = _TEXTS[rule].format(value=value)
            found.append(CostAlert(rule, row["action"], text, value, row["threshold"]))
    for alert in found:
        if send is not None:
            await _awaited(send(alert.text))
    return found


async def _figure(source: Source) -> Optional[float]:
    value = await _awaited(source()) if callable(source) else source
    return None if value is None else float(value)


async def _awaited(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value


def _nano(field: str, value: Amount) -> int:
    """Whole nano-dollars, half up, from the decimal digits of an amount."""
    from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

    try:
        if isinstance(value, bool):
            raise TypeError
        number = Decimal(repr(value) if isinstance(value, float) else value)
        if not number.is_finite() or number < 0:
            raise ValueError("%s: %r is no amount in USD: it must be 0 or more" % (field, value))
        return int(number.scaleb(9).to_integral_value(ROUND_HALF_UP))
    except (InvalidOperation, TypeError):
        raise ValueError("%s: %r is no amount in USD" % (field, value)) from None
