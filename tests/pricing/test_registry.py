"""Prices for people's own code: calculators, registered names, and names that must not be guessed."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any, Optional

import pytest

import aicostguard
from aicostguard import CostCalculator, ModelPricing, PricingRegistry
from aicostguard.pricing.registry import NoPricing

#: 22 November 2026, 12:00 UTC
NOW = 1_795_348_800_000


def row(pricing: ModelPricing, model: str, provider: Optional[str] = None) -> Optional[str]:
    return pricing.price(model, {"input_tokens": 1000, "output_tokens": 100}, provider=provider, at_ms=NOW).row


@pytest.mark.ids("A01", "A02", "A27")
def test_a_calculator_prices_a_request_in_dollars() -> None:
    calculator = CostCalculator(PricingRegistry())
    cost = calculator.calculate_request_cost(model="gpt-4", input_tokens=1500, output_tokens=500)
    assert type(cost) is float and cost == 0.075
    assert calculator.calculate_request_cost(model="gpt-4o", input_tokens=1500, output_tokens=500) == 0.00875
    assert calculator.calculate_request_cost(model="claude-3-haiku", input_tokens=1_000_000, output_tokens=0) == 0.25
    assert calculator.calculate_request_cost(model="gpt-4o", input_tokens=0, output_tokens=0) == 0.0
    assert calculator.calculate_request_cost("gpt-4o", 1500, 500) == 0.00875
    assert calculator.calculate_breakdown("gpt-4o", 1500, 500).cost_usd == 0.00875


def test_a_calculator_takes_the_words_of_a_usage() -> None:
    calculator = CostCalculator(PricingRegistry())
    assert calculator.calculate_request_cost("gpt-4o", 1500, 500, cached_tokens=1000) == 0.0075
    with pytest.raises(TypeError, match="'cached_tokens' is not a count"):  # which of the two is meant?
        calculator.calculate_request_cost("gpt-4o", 1500, 500, cached_tokens=1000, cache_read_input_tokens=900)


@pytest.mark.ids("A02")
def test_a_breakdown_names_its_terms_which_add_up() -> None:
    got = CostCalculator(PricingRegistry()).calculate_breakdown(
        model="gpt-4o", input_tokens=1500, output_tokens=500, cache_read_input_tokens=1000, at_ms=NOW
    )
    assert [(term.name, term.units, term.cost_usd) for term in got.terms] == [
        ("input", 500, 0.00125),
        ("cache_read", 1000, 0.00125),
        ("output", 500, 0.005),
    ]
    assert (got.cost_usd, got.cost_nanousd, got.row) == (0.0075, 7_500_000, "openai:gpt-4o@undated")
    assert (got.input_cost_usd, got.output_cost_usd) == (0.0025, 0.005)


@pytest.mark.ids("A03", "X1", "B32")
@pytest.mark.parametrize("model", ["gpt-99", "", "claude", "my-deployment", "openai/gpt-99", "gpt-4o-hologram"])
def test_an_unknown_model_is_a_value_error_with_the_stated_text(model: str) -> None:
    calculator = CostCalculator(PricingRegistry())
    for ask in (calculator.calculate_request_cost, calculator.calculate_breakdown):
        with pytest.raises(ValueError) as caught:
            ask(model=model, input_tokens=10, output_tokens=1)
        assert str(caught.value) == "No pricing configured for model: %s" % model


@pytest.mark.ids("A03")
@pytest.mark.parametrize(
    "model, named", [(None, "None"), (5, "5"), (["gpt-4"], "list"), ({"prompt": "hi"}, "dict"), (b"gpt-4", "bytes")]
)
def test_what_came_as_a_model_and_is_no_name_is_a_value_error_too(model: Any, named: str) -> None:
    """A gateway answers ValueError with 400 and its text: a body's `"model": null` must not be its own fault."""
    with pytest.raises(ValueError, match="^No pricing configured for model: %s$" % named):
        CostCalculator(PricingRegistry()).calculate_request_cost(model=model, input_tokens=10, output_tokens=1)


@pytest.mark.ids("X1")
def test_a_known_model_that_cannot_price_the_request_says_why() -> None:
    calculator = CostCalculator()
    with pytest.raises(NoPricing) as caught:
        calculator.calculate_request_cost(
            model="gpt-4o-audio-preview", input_tokens=10, output_tokens=1, input_audio_tokens=5
        )
    assert caught.value.reason == "no price for input audio tokens"
    assert str(caught.value).startswith("No pricing configured for model: gpt-4o-audio-preview (")


@pytest.mark.ids("C7")
@pytest.mark.parametrize("counts", [{"input_tokens": -1}, {"output_tokens": 1.5}, {"input_tokens": None}])
def test_counts_that_are_none_are_refused_and_no_cost_is_negative(counts: Any) -> None:
    with pytest.raises(ValueError):
        CostCalculator().calculate_request_cost(model="gpt-4o", **{"input_tokens": 1, "output_tokens": 1, **counts})
    with pytest.raises(TypeError):
        CostCalculator().calculate_request_cost(model="gpt-4o", input_tokens=1, output_tokens=1, cached=5)


@pytest.mark.parametrize(
    "model, wanted",
    [
        # the maker's price, where only the model is named
        ("gpt-4o", "openai:gpt-4o@undated"),
        ("claude-sonnet-4-20250514", "anthropic:claude-sonnet-4-0@undated"),
        ("gemini-2.5-pro", "google:gemini-2.5-pro@undated"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "aws:regional.anthropic.claude-3-haiku-20240307-v1:0@undated"),
        # the only host's
        ("llama-3.3-70b-versatile", "groq:llama-3.3-70b-versatile@undated"),
        # several hosts, each at a price of its own: nobody can tell
        ("meta-llama/llama-3.1-70b-instruct", None),
        # the provider in front
        ("openai/gpt-4o", "openai:gpt-4o@undated"),
        ("bedrock/amazon.nova-lite-v1:0", "aws:amazon.nova-lite-v1:0@undated"),
        ("openrouter/anthropic/claude-sonnet-4.5", "openrouter:anthropic/claude-sonnet-4.5@undated"),
        ("novita/meta-llama/llama-3.1-70b-instruct", "novita:meta-llama/llama-3.1-70b-instruct@undated"),
        # as LiteLLM calls it
        ("gemini/gemini-2.5-pro", "google:gemini-2.5-pro@undated"),
        ("vertex_ai/gemini-2.5-pro", "google:gemini-2.5-pro@undated"),
    ],
)
def test_a_name_alone_leads_to_its_makers_price_or_to_the_host_in_front(model: str, wanted: Optional[str]) -> None:
    assert row(ModelPricing(), model) == wanted


def test_the_provider_can_be_named_apart() -> None:
    assert row(ModelPricing(), "text-embedding-3-small", "azure") is None  # embeddings have no output price
    got = ModelPricing().price("text-embedding-3-small", {"input_tokens": 9}, provider="azure", at_ms=NOW)
    assert (got.row or "").startswith("azure:text-embedding-3-small@")


@pytest.mark.ids("B31")
def test_a_registered_model_has_its_price() -> None:
    pricing = ModelPricing()
    pricing.register("my-fine-tuned-model", input_per_million=5.0, output_per_million=15.0, cached_per_million=2.5)
    got = pricing.price(
        "my-fine-tuned-model", {"input_tokens": 1000, "output_tokens": 100, "cache_read_input_tokens": 400}, at_ms=NOW
    )
    assert got.cost_nanousd == 600 * 5000 + 400 * 2500 + 100 * 15_000
    assert got.row == "own:my-fine-tuned-model@undated"
    # exactly as it was written, not as a binary float has it
    pricing.register("cheap", input_per_million=0.1, output_per_million=1e-7)
    tiny = pricing.price("cheap", {"input_tokens": 10**6, "output_tokens": 10**9}, at_ms=NOW)
    assert tiny.cost_nanousd == 10**8 + 100_000
    # without a price for cached input it costs what other input costs
    assert pricing.price("cheap", {"input_tokens": 10, "cache_read_input_tokens": 10}, at_ms=NOW).cost_nanousd == 1000


@pytest.mark.ids("B30")
@pytest.mark.parametrize(
    "model, wanted",
    [
        ("my-model", "own:my-model@undated"),
        ("My-Model", "own:my-model@undated"),
        ("my-model-20261101", "own:my-model@undated"),
        ("my-model-large", "own:my-model@undated"),
        ("my-model-pro", "own:my-model-pro@undated"),  # the longest
        ("my-model-pro-2026-11-01", "own:my-model-pro@undated"),
        ("my-models", None),  # another word
        ("my", None),
        ("gpt-4o", "own:gpt-4o@undated"),
        ("openai/gpt-4o", "own:gpt-4o@undated"),
        ("gpt-4o-2024-08-06", "own:gpt-4o@undated"),
        # the book has rows of their own for these
        ("gpt-4o-mini", "openai:gpt-4o-mini@undated"),
        ("gpt-4o-audio-preview", "openai:gpt-4o-audio-preview@undated"),
        # names of the book are no prefixes
        ("claude-opus-4-9", None),
        ("o3-turbo", None),
    ],
)
def test_prefixes_are_names_that_the_user_registered_and_nothing_else(model: str, wanted: Optional[str]) -> None:
    pricing = ModelPricing()
    for name in ("my-model", "my-model-pro", "gpt-4o"):
        pricing.register(name, input_per_million=1, output_per_million=2)
    assert row(pricing, model) == wanted


@pytest.mark.ids("B31", "C7")
@pytest.mark.parametrize("value", [-1, -0.5, float("nan"), float("inf"), True, None, "free", [], "1,5"])
def test_a_price_that_is_none_is_refused(value: Any) -> None:
    pricing = ModelPricing()
    with pytest.raises(ValueError, match=r"^input_per_million: "):
        pricing.register("m", input_per_million=value, output_per_million=1)
    with pytest.raises(ValueError, match=r"^cached_per_million: "):
        pricing.register("m", input_per_million=1, output_per_million=1, cached_per_million="-1")
    with pytest.raises(ValueError):
        pricing.register("", input_per_million=1, output_per_million=1)
    assert row(pricing, "m") is None


def test_registering_again_replaces_and_one_registry_leaves_another_alone() -> None:
    first, second = ModelPricing(), ModelPricing()
    first.register("gpt-4o", input_per_million=1, output_per_million=1)
    assert row(first, "gpt-4o") == "own:gpt-4o@undated"
    first.register("gpt-4o", input_per_million=2, output_per_million=0)
    assert first.price("gpt-4o", {"input_tokens": 10, "output_tokens": 5}, at_ms=NOW).cost_nanousd == 20_000
    assert row(second, "gpt-4o") == "openai:gpt-4o@undated"
    assert row(ModelPricing(), "gpt-4o") == "openai:gpt-4o@undated"


@pytest.mark.ids("B38")
def test_threads_may_register_and_price_at_once() -> None:
    pricing = ModelPricing()
    wrong = []

    def work(number: int) -> None:
        for turn in range(20):
            name = "model-%d-%d" % (number, turn)
            pricing.register(name, input_per_million=number, output_per_million=0)
            got = pricing.price("gpt-4o-mini", {"input_tokens": 1000, "output_tokens": 0}, at_ms=NOW).cost_nanousd
            if got != 150_000:
                wrong.append(got)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns in the middle of a registration
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    for number in range(1, 9):
        for turn in range(20):
            name = "model-%d-%d" % (number, turn)
            got = pricing.price(name, {"input_tokens": 1000, "output_tokens": 0}, at_ms=NOW)
            assert got.cost_nanousd == number * 1_000_000


def test_the_names_are_public_and_come_with_their_first_use() -> None:
    assert {"CostCalculator", "ModelPricing", "PricingRegistry"} <= set(dir(aicostguard))
    code = "import aicostguard, sys; assert not [m for m in sys.modules if m.startswith('aicostguard.pricing')]"
    subprocess.run([sys.executable, "-c", code], check=True)
