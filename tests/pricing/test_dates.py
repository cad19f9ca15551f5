"""The row in force at the time of the call; tiers, batch and regions; stored rows stay."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from typing import Any, Dict, Optional

import pytest

from aicostguard.pricing import PriceBook, default_book, plan, price

NOW = 1_795_348_800_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp() * 1000)


def ask(model: str, provider: str = "openai", **more: Any) -> Dict[str, Any]:
    return {"provider": provider, "model": model, "input_tokens": 1_000_000, "output_tokens": 0, **more}


@pytest.mark.ids("C8")
@pytest.mark.parametrize(
    "when, dollars, row",
    [
        ("2025-05-01", 10, "openai:o3@undated"),
        ("2025-06-09T23:59:59.999", 10, "openai:o3@undated"),
        ("2025-06-10", 2, "openai:o3@2025-06-10"),
        ("2026-11-22", 2, "openai:o3@2025-06-10"),
    ],
)
def test_the_price_of_the_day_of_the_call_counts_and_old_rows_stay(when: str, dollars: int, row: str) -> None:
    got = price(ask("o3"), at(when))
    assert (got.cost_nanousd, got.row) == (dollars * 10**9, row)


@pytest.mark.ids("C8")
def test_a_price_known_to_come_waits_for_its_day() -> None:
    assert price(ask("gemini-4-argon", "google"), at("2026-11-30T23:59:59")).cost_nanousd == 2 * 10**9
    later = price(ask("gemini-4-argon", "google"), at("2026-12-01"))
    assert (later.cost_nanousd, later.row) == (4 * 10**9, "google:gemini-4-argon@2026-12-01")


@pytest.mark.ids("C8")
def test_a_long_context_premium_that_was_dropped_still_holds_for_older_calls() -> None:
    more = {"input_tokens": 300_000}
    assert price({**ask("claude-sonnet-4-6", "anthropic"), **more}, at("2026-03-12")).cost_nanousd == 300_000 * 6000
    assert price({**ask("claude-sonnet-4-6", "anthropic"), **more}, at("2026-03-13")).cost_nanousd == 300_000 * 3000


@pytest.mark.parametrize(
    "clock, row, nano",
    [
        ("00:29:59.999", "deepseek:deepseek-chat@undated", 135_000_000),
        ("00:30", "deepseek:deepseek-chat@00:30-16:30", 270_000_000),
        ("16:29:59.999", "deepseek:deepseek-chat@00:30-16:30", 270_000_000),
        ("16:30", "deepseek:deepseek-chat@undated", 135_000_000),
    ],
)
def test_hours_of_the_day_are_utc_and_half_open(clock: str, row: str, nano: int) -> None:
    got = price(ask("deepseek-chat", "deepseek"), at("2026-11-22T" + clock))
    assert (got.cost_nanousd, got.row) == (nano, row)


@pytest.mark.ids("C2")
@pytest.mark.parametrize(
    "tier, operation, cents",
    [
        (None, None, 125),
        ("default", None, 125),
        ("flex", None, 62.5),
        ("priority", None, 250),
        (None, "batch", 62.5),
    ],
)
def test_the_served_tier_and_batch_have_their_own_prices(
    tier: Optional[str], operation: Optional[str], cents: float
) -> None:
    more = {key: value for key, value in (("service_tier", tier), ("operation", operation)) if value}
    assert price(ask("gpt-5", **more), NOW).cost_nanousd == int(cents * 10**7)


@pytest.mark.ids("C2")
def test_tier_cache_and_long_context_compose() -> None:
    got = price(
        ask("gpt-5.4", service_tier="flex", cache_read_input_tokens=100_000),
        NOW,
    )
    assert got.cost_nanousd == 900_000 * 2500 + 100_000 * 250
    assert got.row == "openai:gpt-5.4+flex@2026-10-12"


@pytest.mark.ids("C2")
def test_a_tier_without_a_price_at_that_time_is_unpriced_not_standard() -> None:
    for tier, when in (("flex", "2026-10-11"), ("scale", "2026-11-22")):
        got = price(ask("gpt-5", service_tier=tier), at(when))
        assert got.cost_nanousd is None and tier in (got.reason or "")
    assert price(ask("claude-opus-5", "anthropic", service_tier="priority"), NOW).cost_nanousd is None
    assert price(ask("llama-3.3-70b-versatile", "groq", service_tier="flex"), NOW).cost_nanousd == 590_000_000


@pytest.mark.ids("C9")
def test_a_regional_premium_scales_every_token_class_and_no_fee() -> None:
    usage = {
        "output_tokens": 1000,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 2000,
        "cache_creation_1h_input_tokens": 500,
    }
    near = price({**ask("claude-opus-5", "anthropic", region="us"), **usage}, NOW)
    anywhere = price({**ask("claude-opus-5", "anthropic", region="global"), **usage}, NOW)
    assert near.cost_nanousd is not None and anywhere.cost_nanousd is not None
    assert near.cost_nanousd * 10 == anywhere.cost_nanousd * 11
    searched = price({**ask("claude-opus-5", "anthropic", region="us"), **usage, "web_searches": 1}, NOW)
    assert searched.cost_nanousd == near.cost_nanousd + 10_000_000


@pytest.mark.ids("C8")
def test_the_row_in_force_does_not_depend_on_what_was_asked_before() -> None:
    """A plan remembers the span of its last answer: every row that changes, asked to and fro over its turns."""
    seed, book = random.Random(29), default_book()
    asked = 0
    for provider, content in book._books.items():
        for model, data in content["models"].items():
            rows = [when for when, _ in data["prices"]] + [when for _, when, _ in data.get("variants", ())]
            if not any(rows):
                continue
            tier = next((dict(context) for context, _, _ in data.get("variants", ())), {})
            turns = [plan.day_ms(when) or 0 for when in rows if when]
            times = [at + near for at in turns for near in (-1, 0, 1, 43_200_000)] * 2
            seed.shuffle(times)
            ask = {"provider": provider, "model": model, "input_tokens": 10, "output_tokens": 10, **tier}
            for at_ms in times:
                asked += 1
                fresh = PriceBook.with_own(book, None)  # the same rows, nothing remembered
                assert book.price(ask, at_ms) == fresh.price(ask, at_ms), (ask, at_ms)
    assert asked > 500
