"""The shipped book has a price for what people use."""

from __future__ import annotations

import time

import pytest

from aicostguard.pricing import price

#: one current or well-known model of each family
FAMILIES = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4"),
    ("openai", "gpt-5"),
    ("openai", "o3"),
    ("openai", "text-embedding-3-small"),
    ("anthropic", "claude-3-haiku-20240307"),
    ("anthropic", "claude-sonnet-4-6"),
    ("anthropic", "claude-opus-4-8"),
    ("google", "gemini-2.5-flash"),
    ("google", "gemini-2.5-pro"),
    ("mistral", "mistral-small-latest"),
    ("groq", "llama-3.3-70b-versatile"),
    ("deepseek", "deepseek-chat"),
    ("xai", "grok-4"),
    ("cohere", "command-r-plus"),
    ("perplexity", "sonar"),
    ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
)


@pytest.mark.ids("A27", "B40")
@pytest.mark.parametrize("provider, model", FAMILIES)
def test_a_family_has_a_price(provider: str, model: str) -> None:
    priced = price({"provider": provider, "model": model, "input_tokens": 1000, "output_tokens": 0}, _now())
    assert priced.cost_nanousd, priced.reason


def _now() -> int:
    return int(time.time() * 1000)


def test_there_are_enough_families() -> None:
    assert len(FAMILIES) >= 15
