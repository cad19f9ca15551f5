"""The functions of the sources for programs that do their own accounts."""

from __future__ import annotations

import asyncio
from typing import Any, List

import pytest

from aicostguard import BudgetExceeded, check_cost_alerts, enforce_budget_or_raise, log_request_cost
from aicostguard.capture.state import state
from aicostguard.guard.spending import ALERTS


@pytest.mark.ids("A28", "A09", "ACC:A10", "X2", "C10")
def test_a_request_may_reach_the_limit_and_not_pass_it():
    enforce_budget_or_raise(49.0, 50.0, 1.0)
    enforce_budget_or_raise(0.1 + 0.2, 0.3, 0.0)  # binary dust is no money
    enforce_budget_or_raise(current_spend=0.7, budget_limit=0.8, request_cost=0.1)
    with pytest.raises(BudgetExceeded) as caught:
        enforce_budget_or_raise(49.0, 50.0, 1.000000001)
    assert str(caught.value) == "Budget limit reached. Inference blocked."
    assert (caught.value.limit, caught.value.spent, caught.value.estimate) == (50 * 10**9, 49 * 10**9, 10**9 + 1)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), "much", None, True])
def test_what_is_no_amount_is_refused(amount):
    for field in ("current_spend", "budget_limit", "request_cost"):
        given = {"current_spend": 0, "budget_limit": 0, "request_cost": 0, field: amount}
        with pytest.raises(ValueError, match=f"^{field}: .* is no amount in USD"):
            enforce_budget_or_raise(**given)


@pytest.mark.ids("D05")
@pytest.mark.parametrize("inline", [False, True])
def test_a_request_is_stored_with_its_id_as_a_label(monkeypatch, inline):
    taken: List[Any] = []

    async def adeliver(receipts: Any) -> None:
        taken.extend(receipts)

    monkeypatch.setattr(state, "deliver", taken.append)
    monkeypatch.setattr(state, "adeliver", adeliver if inline else None)
    monkeypatch.setattr(state, "inline", inline)
    assert asyncio.run(log_request_cost("req-1", "gpt-4o", 1500, 500, 0.00875, "u-42", "search"))
    assert taken == [
        {
            "provider": "openai", "model": "gpt-4o", "input_tokens": 1500, "output_tokens": 500,
            "reported_cost_nanousd": 8_750_000, "request": "req-1", "user": "u-42", "feature": "search",
        }
    ]  # fmt: skip


@pytest.mark.ids("D05", "G02")
def test_without_a_destination_nothing_is_stored(monkeypatch):
    monkeypatch.setattr(state, "deliver", None)
    assert asyncio.run(log_request_cost("req-1", "gpt-4o", 1500, 500, 0.00875, "u", "f")) is False


@pytest.mark.ids("D06", "X5")
def test_the_rules_are_the_sources():
    assert ALERTS == {
        "hourly_spend": {"threshold": 100, "action": "warn"},
        "daily_spend": {"threshold": 500, "action": "alert"},
        "single_request": {"threshold": 1, "action": "flag"},
        "rate_spike": {"threshold": 2.0, "action": "investigate"},
    }


@pytest.mark.ids("D06", "D07")
def test_alerts_have_the_sources_texts():
    sent: List[str] = []

    async def get_daily_spend() -> float:
        return 612.5

    async def send_alert(text: str) -> None:
        sent.append(text)

    found = asyncio.run(check_cost_alerts(lambda: 123.456, get_daily_spend, send=send_alert))
    assert sent == ["Hourly spend $123.46 exceeds threshold", "Daily spend $612.50 exceeds threshold"]
    assert [(alert.rule, alert.action, alert.threshold) for alert in found] == [
        ("hourly_spend", "warn", 100),
        ("daily_spend", "alert", 500),
    ]
    more = asyncio.run(check_cost_alerts(50, single_request=1.5, usual_hourly=20))
    assert [(alert.rule, alert.action) for alert in more] == [
        ("single_request", "flag"),
        ("rate_spike", "investigate"),
    ]


@pytest.mark.ids("D06")
def test_what_reaches_a_threshold_exactly_is_quiet():
    assert asyncio.run(check_cost_alerts(100, 500, single_request=1, usual_hourly=50)) == []
    assert asyncio.run(check_cost_alerts()) == []
    mine = {"hourly_spend": {"threshold": 5, "action": "page"}}
    assert [alert.action for alert in asyncio.run(check_cost_alerts(6, 10**6, alerts=mine))] == ["page"]
