"""A region's premium is on every part of the tokens, for the models and from the day that its provider says."""

from __future__ import annotations

from typing import Any, Dict, Optional

import pytest

from aicostguard.pricing import default_book, price

#: 22 November 2026, 12:00 UTC, and 30 June 2026, 23:59:59.999 UTC
NOW, JUNE = 1_795_348_800_000, 1_782_863_999_999
USAGE = {
    "input_tokens": 10_000,
    "output_tokens": 1000,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 2000,
    "cache_creation_1h_input_tokens": 500,
    "reasoning_output_tokens": 100,
}


def cost(provider: str, model: str, region: Optional[str], at: int = NOW, **more: Any) -> int:
    ask: Dict[str, Any] = {"provider": provider, "model": model, "input_tokens": 10_000, "output_tokens": 1000, **more}
    got = price({**ask, "region": region} if region else ask, at).cost_nanousd
    assert got is not None
    return got


@pytest.mark.ids("C9")
@pytest.mark.parametrize(
    "provider, model, region, percent",
    [
        ("anthropic", "claude-opus-4-6", "us", 10),
        ("anthropic", "claude-opus-4-6", "global", 0),
        # models released on or after 5 March 2026, on the endpoint of any region
        ("openai", "gpt-5.4", "eu", 10),
        ("openai", "gpt-5.4-mini-2026-03-17", "us", 10),
        ("openai", "gpt-6.1-sol", "jp", 10),
        ("openai", "gpt-5.2", "eu", 0),
        ("openai", "gpt-4o", "eu", 0),
        ("openai", "gpt-image-2", "eu", 0),  # nobody says when it was released: left out
        # Claude Sonnet 4.5 and later, regional and multi-region
        ("vertex", "claude-sonnet-4-5@20250929", "europe-west1", 10),
        ("vertex", "claude-opus-5-5", "us", 10),
        ("vertex", "claude-fable-5-1", "eu", 10),
        ("vertex", "claude-sonnet-4-5@20250929", "global", 0),
        ("vertex", "claude-sonnet-4@20250514", "us-east5", 0),
        ("vertex", "claude-opus-4-1@20250805", "us-east5", 0),
        ("vertex", "gemini-3.5-flash", "us-central1", 10),
        ("vertex", "gemini-2.5-pro", "us-central1", 0),
        ("google", "gemini-3.5-flash", "us-central1", 0),  # the Gemini API has no regions
    ],
)
def test_a_premium_is_on_the_models_and_regions_that_its_provider_names(
    provider: str, model: str, region: str, percent: int
) -> None:
    assert cost(provider, model, region) * 100 == cost(provider, model, None) * (100 + percent)


@pytest.mark.ids("C9")
@pytest.mark.parametrize("provider, model", [("vertex", "claude-opus-5-5"), ("anthropic", "claude-opus-5-5")])
def test_a_premium_scales_cached_and_written_tokens_and_reasoning(provider: str, model: str) -> None:
    region = "us"
    assert cost(provider, model, region, **USAGE) * 100 == cost(provider, model, None, **USAGE) * 110


@pytest.mark.ids("C9", "C2")
def test_a_premium_composes_with_tier_long_context_and_fees() -> None:
    more = {"service_tier": "flex", "input_tokens": 300_000, "cache_read_input_tokens": 100_000}
    assert cost("openai", "gpt-5.4", "eu", **more) * 100 == cost("openai", "gpt-5.4", None, **more) * 110
    searched = cost("openai", "gpt-5.4", "eu", web_searches=1)
    assert searched == cost("openai", "gpt-5.4", "eu") + 10_000_000


@pytest.mark.ids("C8", "C9")
def test_a_premium_holds_from_its_day() -> None:
    before, after = (cost("vertex", "gemini-3.5-flash", "europe-west1", at) for at in (JUNE, JUNE + 1))
    assert after * 100 == before * 110
    ask = {"provider": "vertex", "model": "gemini-3.5-flash", "region": "us", "input_tokens": 1, "output_tokens": 1}
    got = price(ask, JUNE + 1)
    assert (got.row or "").endswith("*1.1@2026-07-01")


@pytest.mark.ids("C9")
def test_bedrocks_rows_hold_its_premium_already() -> None:
    sonnet = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    near = cost("bedrock", "eu." + sonnet, "eu-west-1")
    assert near * 100 == cost("bedrock", "global." + sonnet, "eu-west-1") * 110


def test_the_ceiling_knows_the_region() -> None:
    def most(region: Optional[str]) -> Optional[int]:
        return default_book().ceiling(
            "openai", "gpt-5.4", input_tokens_max=1000, output_tokens_max=10, at_ms=NOW, region=region
        )

    low, high = most(None), most("eu")
    assert low is not None and high is not None and high * 100 == low * 110
